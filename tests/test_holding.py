"""Actions that are held on to now and then."""

import jax
import jax.numpy as jnp
import numpy as np

from mpc.holding import Holding
from tests import tiny
from tests.test_agent import agent


def test_a_third_of_the_time_the_last_action_is_held_and_believed():
    holding = Holding(agent(0.3))
    state, position, velocity, actions, held = holding.reset(tiny.observation()), 0.0, 0.0, [jnp.zeros(1)], []
    for step in range(600):
        decision, state = holding.act(state, tiny.observation(position, velocity), explore=True, key=jax.random.key(step))
        held.append(bool(state.held))
        if held[-1]:
            np.testing.assert_array_equal(decision.action, actions[-1])
        np.testing.assert_allclose(state.agent.previous_action, decision.action / 2.0, atol=1e-6)
        actions.append(decision.action)
        position, velocity = tiny.step(position, velocity, float(decision.action[0]))
    assert 0.2 < np.mean(held) < 0.47
    changes = np.flatnonzero(np.diff(np.array(held, int)))
    assert 8 < np.diff(changes).mean() < 60  # runs, not single decisions


def test_without_a_beginning_nothing_is_held():
    plain, holding = agent(0.3), Holding(agent(0.3), begins=0.0)
    _, key = jax.random.split(jax.random.key(0))
    observation = tiny.observation(0.2, 0.1)
    alone, _ = plain.act(plain.reset(observation), observation, key=key)
    wrapped, _ = holding.act(holding.reset(observation), observation, key=jax.random.key(0))
    np.testing.assert_array_equal(alone.action, wrapped.action)
