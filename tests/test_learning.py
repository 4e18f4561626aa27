"""The agent that learns: its losses by hand, its critic by a solved process."""

from dataclasses import replace

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mpc
import planners
import worldmodels
from mpc.critic import BINS, Critic, expected, two_hot
from mpc.learning import LearnerSettings, RunSettings, improve, learn, new_learner
from mpc.learning.learner import surprise
from mpc.learning.losses import imagined_loss, paid_until_the_end
from mpc.learning.run import discount_of
from mpc.learning.storage import load_learned, planning_agent, save_learned
from tests.test_learning_runs import RUN
from worldmodels import TrainingSettings
from worldmodels.checkpoint import CheckpointError
from worldmodels.data.episode import Episode, Episodes
from worldmodels.data.windows import Buffer, Window
from worldmodels.spec import ContinuousAction, Spec

TINY = RUN.learner


def spec_of(size: int) -> Spec:
    return Spec(
        environment="test/line",
        observation=(("x", (size,)),),
        action=ContinuousAction(low=(-1.0,), high=(1.0,)),
        action_repeat=1,
        seconds_per_step=0.1,
        units=(("x", ""),),
    )


def test_a_planner_that_cannot_be_is_refused_before_anything_is_acted(tmp_path):
    made = mpc.make("Pendulum-v1", action_repeat=4)
    with pytest.raises(planners.SettingError, match="spread"):
        learn(made, tmp_path / "run", frames=100, settings=replace(RUN, spread=-1.0))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("cost", [-300.0, -1.0, -1e-3, 0.0, 0.37, 12.5, 20_000.0])
def test_two_hot_stands_for_the_number_it_was_made_of(cost):
    weights = two_hot(jnp.asarray(cost))
    assert weights.shape == (BINS,)
    assert np.count_nonzero(np.asarray(weights)) <= 2
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-4)
    np.testing.assert_allclose(expected(jnp.log(weights + 1e-30)), cost, rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize(("explore", "expected_cost"), [(False, 3.0), (True, 2.0)])
def test_a_plan_is_judged_by_its_worst_critic_and_by_their_mean_while_exploring(explore, expected_cost):
    learner = new_learner(spec_of(1), TINY)
    agent = replace(planning_agent(learner, RUN.planner(spec_of(1)), 0.99, ends=False), critic=lambda *_: jnp.array([1.0, 3.0]))
    latent = learner.model.start({"x": jnp.zeros(1)})
    assert agent.problem(explore=explore).terminal_cost(latent) == expected_cost


def test_targets_are_discounted_sums_that_stop_where_the_episode_ended():
    window = Window(
        observations=jnp.zeros((2, 4, 1)),
        actions=jnp.zeros((2, 3, 1)),
        costs=jnp.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]),
        continues=jnp.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]),
    )
    paid = paid_until_the_end(window, jnp.array([10.0, 10.0]), jnp.float32(0.5))
    np.testing.assert_allclose(paid, [[1 + 1 + 0.75 + 1.25, 2 + 1.5 + 2.5, 3 + 5], [1 + 1 + 0.75, 2 + 1.5, 3.0]])


def test_discount_follows_the_length_of_an_episode():
    assert discount_of(500) == pytest.approx(0.99)
    assert discount_of(25) == 0.95
    assert discount_of(10_000) == 0.995
    assert discount_of(None) == 0.99


@pytest.mark.slow
def test_the_critic_finds_the_cost_to_go_of_a_known_process():
    """x halves at every step whatever is done, and costs x: from x on, Σ γ^t x / 2^t = x / (1 − γ / 2)."""
    spec, discount, rng = spec_of(1), 0.9, np.random.default_rng(0)
    episodes = []
    for _ in range(60):
        states = rng.uniform(1, 4) * 0.5 ** np.arange(9, dtype=np.float32)
        actions = rng.uniform(-1, 1, (8, 1)).astype(np.float32)
        episodes.append(Episode({"x": states[:, None].astype(np.float32)}, actions, states[:8], False, True, 0))
    settings = LearnerSettings(latent=8, hidden=32, critic_hidden=64, policy_hidden=16, batch=128, learning_rate=1e-3)
    learner = new_learner(spec, settings)
    buffer = Buffer.from_episodes(Episodes(spec, tuple(episodes)), settings.length)
    for key in jax.random.split(jax.random.key(0), 8):
        learner, _ = improve(learner, buffer, jnp.float32(discount), key, settings=settings, count=200)
    states = np.array([0.5, 1.0, 2.0, 3.0], np.float32)
    latents = learner.model.encode(states[:, None])
    said = learner.critic(latents, jnp.zeros((4, 1))).mean(0)
    np.testing.assert_allclose(said, states / (1 - discount / 2), rtol=0.15, atol=0.15)


def test_an_imagined_future_costs_what_its_steps_and_the_critic_say_and_its_gradient_agrees_with_finite_differences():
    learner, settings = new_learner(spec_of(1), TINY, seed=4), replace(TINY, imagined=2, entropy=0.0)
    modules, latents = (learner.model, learner.critic, learner.continuation), jax.random.normal(jax.random.key(0), (5, 8))
    graph, params, rest = nnx.split(learner.policy, nnx.Param, ...)
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    @jax.jit
    def loss(flat):
        policy = nnx.merge(graph, unravel(flat), rest)
        return imagined_loss(policy, modules, latents, jnp.float32(2.0), jnp.float32(0.9), settings, jax.random.key(1))

    last_key, key = jax.random.split(jax.random.key(1))
    latent, weight, expected_cost = latents, 1.0, 0.0
    for step_key in jax.random.split(key, 2):
        action = learner.policy(latent).sample(key=step_key)
        expected_cost += weight * learner.model.cost(latent, action)
        weight *= 0.9 * learner.continuation(latent, action)
        latent = learner.model.predict(latent, action, jnp.zeros(0))
    expected_cost += weight * learner.critic(latent, learner.policy(latent).sample(key=last_key)).mean(0)
    value, to_go = loss(flat)
    np.testing.assert_allclose(to_go, expected_cost, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value, to_go.mean() / 2, rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda flat: loss(flat)[0]))(flat)
    along, h = gradient / jnp.linalg.norm(gradient), 1e-2
    slope = (loss(flat + h * along)[0] - loss(flat - h * along)[0]) / (2 * h)
    np.testing.assert_allclose(slope, jnp.linalg.norm(gradient), rtol=2e-2)


@pytest.mark.slow
def test_losses_send_no_gradient_into_the_target_or_the_policy():
    learner = new_learner(spec_of(2), TINY)
    moved, _ = improve(learner, buffer_of(2), jnp.float32(0.9), jax.random.key(0), settings=TINY, count=2)
    before, after = jax.tree.leaves(learner.target), jax.tree.leaves(moved.target)
    most = max(float(jnp.abs(a - b).max()) for a, b in zip(before, after, strict=True))
    least = max(float(jnp.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (learner.critic, moved.critic)), strict=True))
    assert most < 0.2 * least  # the slow copy follows by τ = 2 % an update


@pytest.mark.slow
def test_a_learned_agent_comes_back_bit_for_bit_and_a_changed_one_is_refused(tmp_path):
    learner, _ = improve(
        new_learner(spec_of(2), TINY), buffer_of(2), jnp.float32(0.9), jax.random.key(0), settings=TINY, count=2
    )
    save_learned(learner, TINY, tmp_path / "agent", episodes=3)
    loaded, settings = load_learned(tmp_path / "agent")
    assert settings == TINY
    for a, b in zip(jax.tree.leaves(learner), jax.tree.leaves(loaded), strict=True):
        np.testing.assert_array_equal(a, b)
    weights = next(path for path in (tmp_path / "agent" / "weights").rglob("*") if path.is_file())
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match="changed or only half copied"):
        load_learned(tmp_path / "agent")


def buffer_of(size: int) -> Buffer:
    rng = np.random.default_rng(0)
    episode = Episode(
        {"x": rng.normal(size=(41, size)).astype(np.float32)},
        rng.uniform(-1, 1, (40, 1)).astype(np.float32),
        rng.uniform(0, 1, 40).astype(np.float32),
        False,
        True,
        0,
    )
    return Buffer.from_episodes(Episodes(spec_of(size), (episode,)), TINY.length)


def test_a_critic_needs_a_policy():
    with pytest.raises(mpc.MPCError, match="policy"):
        mpc.PlanningAgent(None, None, planners.CEM(horizon=2), critic=Critic(2, spec_of(2)))


@pytest.mark.slow
def test_what_no_model_has_met_surprises_and_what_it_has_does_not():
    rng = np.random.default_rng(0)

    def walk(push):
        x, states, actions = np.zeros(2), [], rng.uniform(-1, 1, (200, 1)).astype(np.float32)
        for action in [*actions, np.zeros(1)]:
            states.append(x)
            x = 0.9 * x + push * action
        return Episode({"x": np.stack(states).astype(np.float32)}, actions, np.zeros(200, np.float32), False, True, 0)

    same, heavier = [walk(1.0) for _ in range(9)], walk(-0.3)
    settings = TrainingSettings(batch=64, length=TINY.length)
    model = worldmodels.JEPA(spec_of(2), latent=TINY.latent, hidden=16, head=16, expander=16)
    model = worldmodels.train(model, Episodes(spec_of(2), tuple(same)), settings, updates=400)
    for last, low, high in ((walk(1.0), 0.5, 1.5), (heavier, 2.0, 10.0)):
        buffer = Buffer.from_episodes(Episodes(spec_of(2), (*same, last)), TINY.length)
        found = float(surprise(model, buffer, jnp.float32(0.1), jax.random.key(0), length=TINY.length))
        assert low < found < high


@pytest.mark.slow
def test_what_goes_as_predicted_is_learned_from_less(tmp_path):
    made = mpc.make("Pendulum-v1")
    updates = {}
    for share in (1.0, 0.0):
        run = learn(made, tmp_path / f"{share}", frames=1200, settings=replace(RUN, unsurprised=share))
        updates[share] = int(run.learner.updates)
    assert 400 <= updates[0.0] < updates[1.0]
    with pytest.raises(mpc.MPCError, match="unsurprised"):
        RunSettings(unsurprised=1.5)
