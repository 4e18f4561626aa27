"""What every world model promises."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import worldmodels
from tests import tiny
from tests.model_list import MODELS


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def model(request):
    return request.param()


def an_action(model, value=0.3):
    return jnp.asarray(1, jnp.int32) if model.spec.action.shape == () else jnp.full(model.spec.action.shape, value)


def test_it_follows_the_protocol(model):
    assert isinstance(model, worldmodels.WorldModel)


def test_latents_keep_their_shapes_and_readouts_have_the_observations(model):
    latent = model.start(tiny.observation())
    following = model.predict(latent, an_action(model), jnp.zeros((0,)))
    chex.assert_trees_all_equal_shapes_and_dtypes(latent, following)
    seen = model.observe(latent, an_action(model), tiny.observation(1.0))
    chex.assert_trees_all_equal_shapes_and_dtypes(latent, seen)
    assert model.features(latent).ndim == 1
    readout = model.readout(latent)
    assert {name: value.shape for name, value in readout.items()} == dict(model.spec.observation)
    noise = model.infer_noise(latent, an_action(model), tiny.observation(1.0))
    assert np.isfinite(noise).all()


def test_vmap_equals_a_loop(model):
    positions = [-1.0, 0.0, 2.0]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *(tiny.observation(p) for p in positions))
    together = jax.vmap(lambda o: model.predict(model.start(o), an_action(model), jnp.zeros((0,))))(batch)
    alone = [model.predict(model.start(tiny.observation(p)), an_action(model), jnp.zeros((0,))) for p in positions]
    chex.assert_trees_all_close(together, jax.tree.map(lambda *x: jnp.stack(x), *alone), atol=1e-5)


def test_new_weights_do_not_compile_again(model):
    traces = []

    @jax.jit
    def predict(model, observation):
        traces.append(1)
        return model.predict(model.start(observation), an_action(model), jnp.zeros((0,)))

    first = predict(model, tiny.observation())
    second = predict(jax.tree.map(lambda x: x * 1.5, model), tiny.observation(0.1))
    assert len(traces) == 1
    assert not np.allclose(first, second)


def test_a_saved_model_loads_bit_for_bit_from_its_folder_alone(model, tmp_path):
    trained = jax.tree.map(lambda x: x + 0.125, model)
    worldmodels.save(trained, tmp_path / "model")
    loaded = worldmodels.load(tmp_path / "model")
    chex.assert_trees_all_equal(loaded, trained)
    assert loaded.spec == trained.spec
    assert loaded.settings == trained.settings
    assert jax.tree.structure(loaded) == jax.tree.structure(trained)


def test_the_action_matters_to_the_prediction(model):
    latent = model.start(tiny.observation())
    other = jnp.asarray(2, jnp.int32) if model.spec.action.shape == () else -an_action(model)
    no_noise = jnp.zeros((0,))
    assert not np.allclose(model.predict(latent, an_action(model), no_noise), model.predict(latent, other, no_noise), atol=1e-6)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_prediction_lowers_for_accelerators(model, platform):
    exported = jax.export.export(jax.jit(lambda o, a: model.predict(model.start(o), a, jnp.zeros((0,)))), platforms=[platform])
    assert exported(tiny.observation(), an_action(model)).platforms == (platform,)
