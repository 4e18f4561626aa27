"""What the agent learns where the answer is known: a linear-quadratic regulator's gain, and the values of a small exact MDP."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_are

import mpc
import planners
from mpc.distillation import DistillationSettings, fit, label
from mpc.learning import LearnerSettings, improve, new_learner
from mpc.policy import Policy
from tests import tiny
from tests.test_agent import true_model
from worldmodels.data.episode import Episode, Episodes
from worldmodels.data.windows import Buffer
from worldmodels.spec import DiscreteAction, Spec

pytestmark = pytest.mark.slow

STATES, DISCOUNT = 5, 0.8


def test_distilling_a_planner_recovers_the_gain_of_the_linear_quadratic_regulator():
    """Riccati's u = −K s on the tiny world, cost position² + 0.1 velocity² + 0.5 force², from planner-labelled states."""
    a, b = np.array([[1.0, 0.095], [0.0, 0.95]]), np.array([[0.01], [0.1]])
    r = np.array([[0.5]])
    p = solve_discrete_are(a, b, np.diag([1.0, 0.1]), r)
    gain = np.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)[0]

    cost = mpc.combine(
        position=(2.0, mpc.reach("position", 0.0)), velocity=(0.2, mpc.reach("velocity", 0.0)), force=(1.0, mpc.effort())
    )
    agent = mpc.PlanningAgent(true_model(), cost, planners.ILQR(horizon=60, iterations=3))
    rng = np.random.default_rng(0)
    calm = []
    for number in range(40):
        observations = {name: rng.uniform(-0.6, 0.6, (11, 1)).astype(np.float32) for name in tiny.SPEC.names}
        calm.append(Episode(observations, np.zeros((10, 1), np.float32), None, False, True, number))
    labels = label(agent, calm, key=jax.random.key(0))
    policy = Policy(2, tiny.SPEC, hidden=32)
    policy, _ = fit(policy, labels, DistillationSettings(updates=3000, hidden=32), key=jax.random.key(1))
    states = jnp.asarray(rng.uniform(-0.5, 0.5, (200, 2)), jnp.float32)
    forces = 2.0 * np.asarray(jax.vmap(lambda s: policy(s).mean[0])(states))
    found, *_ = np.linalg.lstsq(np.asarray(states), forces, rcond=None)
    np.testing.assert_allclose(found, -gain, atol=0.03 * np.abs(gain).max())


def test_critic_and_policy_solve_a_small_mdp_exactly_enough():
    """A ring of five states, action 1 goes on, 0 stays; a step costs the state's number. Compared with value iteration."""
    spec = Spec("tiny/ring", (("state", (STATES,)),), DiscreteAction(2), 1, 0.1)
    costs = np.array([2.0, 1.0, 3.0, 0.5, 4.0])
    following = np.array([[s, (s + 1) % STATES] for s in range(STATES)])
    values = np.zeros((STATES, 2))
    for _ in range(200):
        values = costs[:, None] + DISCOUNT * values.min(1)[following]

    rng, episodes = np.random.default_rng(0), []
    for number in range(30):
        actions = rng.integers(0, 2, 40).astype(np.int32)
        states = [rng.integers(STATES)]
        for action in actions:
            states.append(following[states[-1], action])
        seen = np.eye(STATES, dtype=np.float32)[states]
        episodes.append(Episode({"state": seen}, actions, costs[states[:-1]].astype(np.float32), False, True, number))
    settings = LearnerSettings(
        latent=8, hidden=32, critic_hidden=64, policy_hidden=32, batch=128, length=1, learning_rate=1e-3, imitation=0.0
    )
    learner = new_learner(spec, settings)
    learner.model.normaliser.scale[...] = jnp.full(STATES, 0.4)
    buffer = Buffer.from_episodes(Episodes(spec, tuple(episodes)), settings.length)
    for key in jax.random.split(jax.random.key(0), 10):
        learner, _ = improve(learner, buffer, jnp.float32(DISCOUNT), key, settings=settings, count=200)
    latents = learner.model.encode(jnp.eye(STATES))
    for action in range(2):
        said = learner.critic(latents, jnp.full(STATES, action)).mean(0)
        np.testing.assert_allclose(said, values[:, action], rtol=0.1)
    clear = np.abs(values[:, 0] - values[:, 1]) > 0.2
    chosen = np.asarray(jax.vmap(lambda s: learner.policy(s).mean)(latents))
    np.testing.assert_array_equal(chosen[clear], values.argmin(1)[clear])
