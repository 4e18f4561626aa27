"""Both modes in one agent: when it reacts, and when it plans."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
from mpc.mixed import DOUBT
from planners import pytree
from tests import tiny
from tests.test_agent import true_model
from tests.test_configurator import PLANNER, engine, solution, task


@pytree
class Divided:
    """A critic to whom every action costs 1, its two members so far apart."""

    apart: Any

    def __call__(self, features, action):
        return 1.0 + self.apart * jnp.array([-0.5, 0.5])


@pytest.mark.parametrize(("apart", "reacts"), [(0.0, True), (0.9, True), (1.1, False)])
def test_it_plans_where_the_critic_s_members_differ_though_nothing_better_is_found(apart, reacts):
    tolerance, (_, policy) = 0.02, solution()
    critic = Divided(jnp.asarray(apart * DOUBT * tolerance))
    planning = mpc.PlanningAgent(true_model(), mpc.effort(), PLANNER, policy=policy, critic=critic)
    agent, observation = mpc.MixedAgent(planning, tolerance), tiny.observation(0.2, 0.1)
    _, state = agent.act(agent.reset(observation), observation, key=jax.random.key(0))
    assert float(state.reacted_share) == reacts


@pytest.mark.slow
def test_the_mixed_agent_reacts_where_the_critic_finds_nothing_better_and_plans_elsewhere():
    body = engine(both=task(cost={"left": 1.0}, mode="mixed", discount=0.9))
    body.solve("both", *solution())
    content = mpc.MixedAgent(body.agent("both").planning, tolerance=1e6)  # finds nothing worth a plan
    observation = tiny.observation(0.2, 0.1)
    state = content.reset(observation)
    for step in range(3):
        decision, state = content.act(state, observation, key=jax.random.key(step))
    assert float(state.reacted_share) == 1.0
    policy = mpc.PolicyAgent(body.model, body.solutions["both"].policy)
    reaction, _ = policy.act(policy.reset(observation), observation, key=jax.random.key(0))
    np.testing.assert_allclose(decision.action, reaction.action, atol=1e-6)

    doubtful = mpc.MixedAgent(content.planning, tolerance=0.0)
    state = doubtful.reset(observation)
    decision, state = doubtful.act(state, observation, key=jax.random.key(0))
    assert float(state.reacted_share) == 0.0
    planned = doubtful.planning.act(doubtful.planning.reset(observation), observation, key=jax.random.key(0))[0]
    assert decision.action.shape == planned.action.shape
    assert abs(float(decision.action[0]) - float(reaction.action[0])) > 0.1
