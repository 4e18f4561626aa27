"""What models see and remember: pictures, both kinds at once, and what one observation does not show."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mpc
import worldmodels
from tests import tiny
from worldmodels import Buffer, DataError, Episodes, SpecError, TrainingSettings, training
from worldmodels.encoders.convolution import patches
from worldmodels.encoders.memory import Recurrent, Stack
from worldmodels.losses import rollout

SMALL = {"latent": 8, "hidden": 32, "head": 32, "expander": 32}


def test_frames_stay_bytes_and_windows_are_cut_from_them():
    data = tiny.episodes(tiny.BOTH, count=3, length=12)
    buffer = Buffer.from_episodes(data, 4)
    assert buffer.frames["camera"].dtype == np.uint8
    window = buffer.sample(8, 4, key=jax.random.key(0))
    assert window.observations.shape == (8, 5, 1)
    assert window.frames["camera"].dtype == np.uint8
    velocities = np.concatenate([e.observations["velocity"] for e in data])[:, 0]
    pictures = np.concatenate([e.observations["camera"] for e in data])
    for velocity, picture in zip(window.observations[:, 2, 0], window.frames["camera"][:, 2], strict=True):
        np.testing.assert_array_equal(picture, pictures[int(abs(velocities - float(velocity)).argmin())])
    later = window.after(2)
    np.testing.assert_array_equal(later.frames["camera"], window.frames["camera"][:, 2:])
    assert later.actions.shape == (8, 2, 1)


def test_black_frames_and_floats_in_their_place_are_refused():
    data = tiny.episodes(tiny.PICTURES, count=2, length=12)
    data[1].observations["camera"][7] = 0
    with pytest.raises(DataError, match=r"episode 1.*camera.*frame 7.*one colour"):
        Buffer.from_episodes(data, 4)
    data = tiny.episodes(tiny.PICTURES, count=1, length=12)
    data[0].observations["camera"] = data[0].observations["camera"] / np.float32(255)
    with pytest.raises(DataError, match=r"episode 0.*camera.*float32, expected frames of uint8"):
        Buffer.from_episodes(data, 4)


def test_imagination_leaves_the_memory_as_it_is():
    model = worldmodels.JEPA(tiny.SPEC, memory="stack", **SMALL)
    latent = model.start(tiny.observation())
    following = model.predict(latent, jnp.ones(1), jnp.zeros(0))
    assert not np.allclose(following.state, latent.state)
    for before, after in zip(latent.memory, following.memory, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("kind", [Stack, Recurrent])
def test_a_memory_is_of_the_last_moments_however_long_the_episode(kind):
    history, random = 3, np.random.default_rng(0)
    memory = kind(2, 1, 5, history, rngs=nnx.Rngs(0))
    memory.pace[...] = jnp.array([0.5, 2.0])
    lately = random.normal(size=(history, 3)).astype(np.float32)

    def read_after(count):
        state = memory.begin(jnp.ones(2))
        for moment in [*random.normal(size=(count, 3)).astype(np.float32), *lately]:
            state = memory.update(state, moment[:1], moment[1:])
        return memory.read(state)

    first, *others = (read_after(count) for count in (2, 5, 11))
    for read in others:
        np.testing.assert_array_equal(read, first)
    changes = np.diff(lately[:, 1:], axis=0) / np.array([0.5, 2.0])
    if kind is Stack:
        np.testing.assert_allclose(first, np.concatenate([lately[-1, 1:], changes.ravel(), lately[1:, 0]]), rtol=1e-6)
    else:
        carried = jnp.zeros(5)
        for seen, change, action in zip(lately[:, 1:], [np.zeros(2), *changes], [np.zeros(1), *lately[1:, :1]], strict=True):
            carried, _ = memory.cell(carried, jnp.concatenate([seen, change, action]))
        np.testing.assert_allclose(first, np.concatenate([lately[-1, 1:], carried]), rtol=1e-5)


def test_training_tells_a_memory_how_much_things_usually_change():
    data = tiny.episodes(tiny.POSITION, count=8)
    model = worldmodels.JEPA(tiny.POSITION, memory="stack", **SMALL)
    trained = worldmodels.train(model, data, TrainingSettings(batch=8), updates=1)
    usual = np.concatenate([np.diff(episode.observations["position"][:, 0]) for episode in data]).std()
    spread = np.concatenate([episode.observations["position"][:, 0] for episode in data]).std()
    assert float(trained.memory.pace[...][0]) == pytest.approx(usual / spread, rel=0.15)
    assert float(model.memory.pace[...][0]) == 1.0


@pytest.mark.slow
def test_the_mean_picture_is_found_out_once_before_anything_is_learned():
    data, later = tiny.episodes(tiny.PICTURES, count=8), tiny.episodes(tiny.PICTURES, count=2, seed=5)
    model, settings = worldmodels.JEPA(tiny.PICTURES, memory="stack", **SMALL), TrainingSettings(batch=8, length=2)
    state = training.start(model, settings)
    once = training.advance(state, data, settings, updates=1, key=jax.random.key(0), chunk=1)
    eye = once.model.eyes["camera"]
    pictures = np.concatenate([episode.observations["camera"] for episode in data]) / 255
    np.testing.assert_allclose(eye.mean[...], pictures.mean(0), atol=0.05)
    np.testing.assert_allclose(eye.scale[...], np.sqrt(pictures.var(0).mean()), rtol=0.1)
    np.testing.assert_array_equal(model.eyes["camera"].mean[...], 0.5)
    twice = training.advance(once, later, settings, updates=1, key=jax.random.key(1), chunk=1)
    np.testing.assert_array_equal(twice.model.eyes["camera"].mean[...], eye.mean[...])
    np.testing.assert_array_equal(twice.model.memory.pace[...], once.model.memory.pace[...])


@pytest.mark.slow
@pytest.mark.parametrize("held", [("eyes", "memory", "encoder"), ("eyes",), ("memory",)])
def test_what_is_frozen_stays_bit_for_bit_and_the_rest_learns(held):
    learning = ("predictor", "expander", "readout_head", "cost_head")
    model = worldmodels.JEPA(tiny.BOTH, memory="recurrent", history=2, **SMALL)
    settings = TrainingSettings(batch=8, length=2, warmup=1, frozen=held)
    state, data = training.start(model, settings), tiny.episodes(tiny.BOTH, count=2, length=12)
    after = training.advance(state, data, settings, updates=2, key=jax.random.key(0), chunk=2).model
    for name in (*held, "normaliser"):
        chex.assert_trees_all_equal(getattr(after, name), getattr(model, name))
    for name in learning:
        pairs = zip(*(jax.tree.leaves(getattr(each, name)) for each in (model, after)), strict=True)
        assert not any(np.array_equal(before, now) for before, now in pairs)


def test_what_does_not_exist_is_named():
    with pytest.raises(SpecError, match=r"memory='elephant'.*stack"):
        worldmodels.JEPA(tiny.SPEC, memory="elephant")
    with pytest.raises(SpecError, match=r"predictor='oracle'.*gated"):
        worldmodels.JEPA(tiny.SPEC, predictor="oracle")
    with pytest.raises(SpecError, match=r"latent=10.*multiple of 8"):
        worldmodels.JEPA(tiny.SPEC, predictor="transformer", latent=10)
    for shape, hint in (((8, 8, 3), "$"), ((3, 64, 64), " Its channels seem to come first: .*moveaxis")):
        message = rf"observation\['eye'\] has shape {re.escape(str(shape))}: expected \(height, width, channels\), .* 16 × 16 pixels\."
        with pytest.raises(SpecError, match=message + hint):
            worldmodels.JEPA(worldmodels.Spec("t", (("eye", shape),), tiny.SPEC.action))
    with pytest.raises(SpecError, match="camera"):
        worldmodels.JEPA(tiny.BOTH, **SMALL).encode(jnp.zeros(1))


def position_error(spec, *, updates, **settings):
    """Mean error of the position predicted five steps ahead, in metres."""
    model = worldmodels.JEPA(spec, **SMALL, **settings)
    model = worldmodels.train(model, tiny.episodes(spec, count=32), TrainingSettings(batch=64), updates=updates)
    held_out = tiny.episodes(spec, count=20, length=5 + model.context, seed=7)
    window = Buffer.from_episodes(held_out, 5 + model.context).sample(20, 5 + model.context, key=jax.random.key(0))
    context = model.context
    latents = model.perceive(window)[:, context:]
    predicted, _ = rollout(model, latents[:, 0], window.after(context).actions, latents[:, 1:], key=jax.random.key(0))
    predicted = predicted[:, -1]
    return float(abs(model.readout(predicted)["position"][:, 0] - window.observations[:, -1, 0]).mean())


@pytest.mark.slow
def test_a_recurrent_memory_finds_the_velocity_that_is_not_observed():
    memoryless = position_error(tiny.POSITION, updates=2000)
    assert position_error(tiny.POSITION, updates=2000, memory="recurrent", history=4) < 0.7 * memoryless


@pytest.mark.parametrize("shape", [(64, 64), (24, 20), (17, 33), (16, 16)])
@pytest.mark.parametrize(("side", "stride"), [(4, 4), (3, 2)])
def test_patches_are_what_a_convolution_sees(shape, side, stride):
    image, kernel = (jax.random.normal(jax.random.key(0), size) for size in ((2, *shape, 3), (side, side, 3, 5)))
    wanted = jax.lax.conv_general_dilated(image, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(patches(image, side, stride) @ kernel.reshape(-1, 5), wanted, atol=1e-4)


@pytest.mark.slow
def test_the_cost_of_a_position_is_learned_from_pictures():
    data = tiny.episodes(tiny.PICTURES, count=16, length=20)
    model = worldmodels.train(worldmodels.JEPA(tiny.PICTURES, **SMALL), data, TrainingSettings(batch=32, length=2), updates=300)
    said = [float(model.cost(model.start(tiny.observation(p, 0, tiny.PICTURES)), jnp.zeros(1))) for p in (0.0, 0.6, 1.2)]
    assert said[0] < said[1] < said[2]


def test_an_environment_shows_what_is_asked_for_and_takes_blocks_of_actions():
    whole = mpc.make("Pendulum-v1", action_repeat=2)
    blocks = mpc.make("Pendulum-v1", action_repeat=2, block=3)
    assert blocks.spec.action.shape == (3,)
    assert blocks.spec.action_repeat == 6
    assert blocks.decisions_per_episode == 34
    np.testing.assert_allclose(blocks.spec.seconds_per_step, 3 * whole.spec.seconds_per_step)
    first, second = whole.reset(3), blocks.reset(3)
    np.testing.assert_array_equal(first["observation"], second["observation"])
    steps = [whole.step(np.array([force], np.float32)) for force in (-1.0, 0.5, 2.0)]
    together = blocks.step(np.array([-1.0, 0.5, 2.0], np.float32))
    np.testing.assert_array_equal(together.observation["observation"], steps[-1].observation["observation"])
    np.testing.assert_allclose(together.cost, sum(step.cost for step in steps), rtol=1e-6)
    assert mpc.make_for(blocks.spec).spec == blocks.spec == worldmodels.Spec.from_json(blocks.spec.to_json())
    with pytest.raises(mpc.UnsupportedEnvironmentError, match=r"smell.*observation, pixels"):
        mpc.make("Pendulum-v1", observe=("smell",))
    with pytest.raises(mpc.UnsupportedEnvironmentError, match="block"):
        mpc.make("CartPole-v1", block=2)


@pytest.mark.skipif(mpc.rendering_backend() is None, reason="no rendering backend")
def test_pixels_are_observed_beside_positions_or_alone():
    environment = mpc.make("dm_control/cartpole-swingup-v0", action_repeat=4, observe=("position", "pixels"))
    assert dict(environment.spec.observation) == {"position": (3,), "pixels": (64, 64, 3)}
    one = environment.reset(0)
    moved = [environment.step(np.ones(1, np.float32)) for _ in range(5)][-1]
    assert one["pixels"].dtype == np.uint8
    assert (one["pixels"] != moved.observation["pixels"]).any()
    assert mpc.make_for(environment.spec).spec == environment.spec
    data = mpc.collect(environment, frames=48)
    assert isinstance(data, Episodes)
    model = worldmodels.JEPA(environment.spec, latent=8, hidden=16, head=8, expander=8)
    assert model.start(one).shape == (8,)
    environment.close()
