"""Distillation recovers what planning does, on a world whose best answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
import planners
from mpc import distillation
from mpc.policy import Categorical, Policy, SquashedGaussian
from tests import tiny
from tests.test_agent import reach, true_model

PLANNER = planners.Gradient(horizon=10, starts=2, iterations=15)
SETTINGS = distillation.DistillationSettings(updates=400, batch=64, hidden=32)


def expert():
    return mpc.PlanningAgent(true_model(), mpc.cost(reach, target=0.0), PLANNER)


def test_labels_are_what_the_planner_would_have_done_along_the_episode():
    episodes = tiny.episodes(count=2, length=6)
    labels = distillation.label(expert(), episodes, key=jax.random.key(0))
    assert labels.features.shape == (12, 2)
    assert labels.actions.shape == (12, 1)
    agent, episode = expert(), episodes[0]
    state = agent.reset({name: value[0] for name, value in episode.observations.items()})
    first, _ = agent.act(state, {name: value[0] for name, value in episode.observations.items()}, key=jax.random.key(1))
    np.testing.assert_allclose(labels.actions[0], tiny.SPEC.action.normalise(first.action), atol=0.05)


def test_episodes_of_many_lengths_are_labelled_to_their_ends_and_no_further():
    episodes = [tiny.episodes(count=1, length=length, seed=length)[0] for length in (7, 4, 6, 2)]
    labels = distillation.label(expert(), episodes, key=jax.random.key(0))
    assert labels.actions.shape == (19, 1)
    ordered = [episodes[index] for index in (3, 0, 1, 2)]  # those of 2 and 3 decisions, then those of 4 to 7
    seen = np.concatenate(
        [np.concatenate([e.observations[name][:-1].reshape(len(e), -1) for name in tiny.SPEC.names], -1) for e in ordered]
    )
    np.testing.assert_allclose(labels.features, seen, atol=1e-6)
    assert np.abs(labels.actions).max() <= 1


@pytest.mark.slow
def test_a_policy_fitted_to_labels_imitates_them_on_unseen_states():
    labels = distillation.label(expert(), tiny.episodes(count=16, length=40), key=jax.random.key(0))
    unseen = distillation.label(expert(), tiny.episodes(count=4, length=40, seed=9), key=jax.random.key(0))
    policy = Policy(2, tiny.SPEC, hidden=32)
    before = float(distillation.imitation_loss(policy, unseen))
    policy, _ = distillation.fit(policy, labels, SETTINGS, key=jax.random.key(0))
    error = np.mean((np.asarray(jax.vmap(policy)(unseen.features).mean) - np.asarray(unseen.actions)) ** 2)
    assert error < 0.1 * np.var(np.asarray(unseen.actions))
    assert float(distillation.imitation_loss(policy, unseen)) < before


def test_the_policy_drives_the_world_as_its_planner_does():
    policy = distillation.compiled(expert(), tiny.episodes(count=17, length=40), SETTINGS, states=16 * 40)
    agent = mpc.PolicyAgent(true_model(), policy)
    position, velocity = 1.0, 0.0
    state = agent.reset(tiny.observation(position, velocity))
    for step in range(80):
        decision, state = agent.act(state, tiny.observation(position, velocity), key=jax.random.key(step))
        assert -2 <= float(decision.action[0]) <= 2
        position, velocity = tiny.step(position, velocity, float(decision.action[0]))
    assert abs(position) < 0.15


def test_policy_heads():
    spoken = Policy(4, tiny.SPEC)(jnp.ones(4))
    assert isinstance(spoken, SquashedGaussian)
    draws = jax.vmap(lambda key: spoken.sample(key=key))(jax.random.split(jax.random.key(0), 100))
    assert float(jnp.abs(draws).max()) <= 1
    chosen = Policy(4, tiny.DISCRETE)(jnp.ones(4))
    assert isinstance(chosen, Categorical)
    np.testing.assert_allclose(sum(jnp.exp(chosen.log_prob(a)) for a in range(3)), 1.0, rtol=1e-5)


def test_a_saved_policy_acts_the_same_from_its_folder_alone(tmp_path):
    model = true_model()
    from worldmodels import JEPA

    model = JEPA(tiny.SPEC, latent=8, hidden=16, head=16, expander=16)
    agent = mpc.PolicyAgent(model, Policy(8, tiny.SPEC, seed=3, hidden=16))
    mpc.save_policy(agent, tmp_path / "policy")
    loaded = mpc.load_agent(tmp_path / "policy", PLANNER)
    assert isinstance(loaded, mpc.PolicyAgent)
    act = lambda who: who.act(who.reset(tiny.observation()), tiny.observation(), key=jax.random.key(0))[0].action  # noqa: E731
    assert np.array_equal(act(agent), act(loaded))
