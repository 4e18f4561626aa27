"""What every world model promises."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import worldmodels
from tests import tiny
from tests.model_list import MODELS
from worldmodels import Buffer, TrainingSettings, Window, training
from worldmodels.losses import losses

READERS = {"readout": "readout_head", "cost": "cost_head", "prior": "prior"}  # what learns from a loss that shapes nothing else


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys(), scope="module")
def model(request):
    return request.param()


def an_action(model, value=0.3):
    return jnp.asarray(1, jnp.int32) if model.spec.action.shape == () else jnp.full(model.spec.action.shape, value)


def seen(model, position=0.5):
    return tiny.observation(position, spec=model.spec)


def noise_of(model):
    return model.draw_noise(1, 1, key=jax.random.key(0))[0, 0]


def test_it_follows_the_protocol(model):
    assert isinstance(model, worldmodels.WorldModel)


def test_latents_keep_their_shapes_and_readouts_have_the_observations(model):
    @jax.jit
    def met(model, first, action, second, noise):
        latent = model.start(first)
        moved = model.predict(latent, action, noise), model.observe(latent, action, second)
        return latent, moved, model.features(latent), model.readout(latent), model.infer_noise(latent, action, second)

    latent, moved, features, readout, noise = met(model, seen(model), an_action(model), seen(model, 1.0), noise_of(model))
    for following in moved:
        chex.assert_trees_all_equal_shapes_and_dtypes(latent, following)
    assert features.ndim == 1
    assert {name: value.shape for name, value in readout.items()} == dict(model.spec.vectors)
    assert noise.shape == noise_of(model).shape
    assert np.isfinite(noise).all()


def test_vmap_equals_a_loop(model):
    positions = [-1.0, 0.0, 2.0]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *(seen(model, p) for p in positions))
    following = jax.jit(lambda model, o, a, z: model.predict(model.start(o), a, z))
    given = an_action(model), noise_of(model)
    together = jax.vmap(following, in_axes=(None, 0, None, None))(model, batch, *given)
    alone = [following(model, seen(model, p), *given) for p in positions]
    chex.assert_trees_all_close(together, jax.tree.map(lambda *x: jnp.stack(x), *alone), atol=1e-5)


def test_windows_are_perceived_as_episodes_are(model):
    episode = tiny.episodes(model.spec, count=1, length=5)[0]
    actions = jnp.asarray(model.spec.action.normalise(episode.actions))
    frames = {name: episode.observations[name][None] for name in model.spec.images}
    nothing = jnp.zeros((1, 5))
    together = model.perceive(Window(model.spec.flatten(episode.observations)[None], actions[None], nothing, nothing, frames))
    moments = [{name: value[t] for name, value in episode.observations.items()} for t in range(6)]
    latent = model.start(moments[0])
    for t in range(5):
        np.testing.assert_allclose(model.features(latent), together[0, t], atol=1e-5)
        latent = model.observe(latent, actions[t], moments[t + 1])
    assert model.context < 9


def test_the_update_lowers_for_accelerators(model):
    settings = TrainingSettings(batch=8, length=2)
    buffer = Buffer.from_episodes(tiny.episodes(model.spec, count=4, length=6), settings.length + model.context)
    update = jax.jit(lambda state, key: training._advance(state, buffer, (1.0, 1.0), key, settings=settings, count=2))
    exported = jax.export.export(update, platforms=["cuda", "tpu"])(training.start(model, settings), jax.random.key(0))
    assert exported.platforms == ("cuda", "tpu")


@pytest.mark.slow
def test_every_weight_learns_and_what_only_reads_latents_does_not_shape_them(model):
    settings = TrainingSettings(batch=8, length=2)
    length = settings.length + model.context
    window = Buffer.from_episodes(tiny.episodes(model.spec, count=4, length=6), length).sample(8, length, key=jax.random.key(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    @jax.jacrev
    def gradients(params):
        made, key = nnx.merge(graph, params, rest), jax.random.key(1)
        terms = losses(made, settings, window, key=key)
        shaping = losses(made, replace(settings, cost_gradient=1.0), window, key=key)["cost"]
        return terms, shaping, sum(settings.objective.weights.get(name, 1.0) * value for name, value in terms.items())

    terms, shaping, total = gradients(params)
    shapers = {name for name in params if jax.tree.leaves(params[name])} - {"expander", *READERS.values()}
    seeing = {name for name, there in (("eyes", model.eyes), ("translator", model.translator is not None)) if there}
    seeing |= {"memory"} if model.settings.memory == "recurrent" else set()
    assert shapers == {"encoder", "predictor", *seeing}
    reads = model.spec.size and not model.settings.direct  # of images alone nothing, and what is seen as it is, as it is
    assert reached(terms["prediction"]) == shapers
    assert reached(shaping) == {*shapers, "cost_head"}
    of_readout = shapers if model.settings.direct else {"readout_head"} if reads else set()
    for name in READERS.keys() & terms.keys():
        assert reached(terms[name]) == (of_readout if name == "readout" else {READERS[name]})
    assert ("prior" in terms) == (model.settings.noise == "quantised")

    learning = {name for name in total if name != "readout_head" or reads}
    assert all(np.any(leaf) for name in learning for leaf in jax.tree.leaves(total[name]))
    if model.settings.members > 1:
        assert all(np.any(member) for leaf in jax.tree.leaves(total["predictor"]) for member in leaf)


def reached(gradient):
    """Parts of the model that a gradient does not leave as they are."""
    return {name for name in gradient if any(np.any(leaf) for leaf in jax.tree.leaves(gradient[name]))}


def test_new_weights_do_not_compile_again(model):
    traces = []

    @jax.jit
    def predict(model, observation):
        traces.append(1)
        return model.predict(model.start(observation), an_action(model), noise_of(model))

    first = predict(model, seen(model))
    second = predict(jax.tree.map(lambda x: x * 1.5, model), seen(model, 0.1))
    assert len(traces) == 1
    assert not np.allclose(model.features(first), model.features(second))


def test_a_saved_model_loads_bit_for_bit_from_its_folder_alone(model, tmp_path):
    trained = jax.tree.map(lambda x: x + 0.125, model)
    worldmodels.save(trained, tmp_path / "model")
    loaded = worldmodels.load(tmp_path / "model")
    chex.assert_trees_all_equal(loaded, trained)
    assert loaded.spec == trained.spec
    assert loaded.settings == trained.settings
    assert jax.tree.structure(loaded) == jax.tree.structure(trained)


def test_the_action_matters_to_the_prediction(model):
    latent = model.start(seen(model))
    other = jnp.asarray(2, jnp.int32) if model.spec.action.shape == () else -an_action(model)
    no_noise = noise_of(model)
    one, another = (model.features(model.predict(latent, action, no_noise)) for action in (an_action(model), other))
    assert not np.allclose(one, another, atol=1e-6)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_prediction_lowers_for_accelerators(model, platform):
    exported = jax.export.export(jax.jit(lambda o, a: model.predict(model.start(o), a, noise_of(model))), platforms=[platform])
    assert exported(seen(model), an_action(model)).platforms == (platform,)
