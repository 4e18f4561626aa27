"""Goals that the data never came near: told once, and the nearest sought, whoever is given them."""

import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
import planners
from mpc.errors import CostError, GoalWarning
from tests import tiny
from tests.test_agent import true_model

PLANNER = planners.CEM(horizon=4, samples=16, iterations=1, elites=4)
FAR, NEAR, SEEN = tiny.observation(9.0, 0.5), tiny.observation(1.0, 0.5), tiny.observation(0.0, 0.0)
TOLD = r"by 8\.0 standard deviations \(position\[0\]=9, where the data show -1 to 1\): the nearest within is sought"


def model():
    """One whose data show both components between -1 and 1."""
    made = true_model()
    made.normaliser.low[...], made.normaliser.high[...] = -jnp.ones(2), jnp.ones(2)
    return made


def sought(cost):
    """The goal in a cost, as it would be given."""
    goal = getattr(cost, "parts", {"home": cost})["home"].goal
    return {name: np.asarray(value) for name, value in goal.items()}


def told(record):
    return [str(each.message) for each in record if issubclass(each.category, GoalWarning)]


@pytest.mark.parametrize("made", [mpc.goal(FAR), mpc.combine(home=(1.0, mpc.goal(FAR)), effort=(0.1, mpc.effort()))])
def test_an_agent_seeks_the_nearest_goal_within_the_data_and_says_so_once(made):
    with pytest.warns(GoalWarning, match=TOLD) as record:
        agent = mpc.PlanningAgent(model(), made, PLANNER)
        state = agent.reset(SEEN)
        agent.act(state, SEEN, key=jax.random.key(0))
        replace(agent, discount=0.9).reset(SEEN)
    assert len(told(record)) == 1
    assert sought(agent.cost) == sought(mpc.goal(NEAR))
    assert float(agent.problem().terminal_cost(jnp.array([1.0, 0.5]))) == 0.0


def test_goals_within_the_data_and_costs_without_goals_stay_what_they_are():
    costs = [mpc.goal(tiny.observation(1.2, 0.0)), mpc.combine(home=(1.0, mpc.goal(NEAR))), mpc.reach("position", 9.0)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", GoalWarning)
        for cost in costs:
            assert mpc.PlanningAgent(model(), cost, PLANNER).cost is cost
        far = mpc.goal(FAR)  # to a model that learned of no range
        assert mpc.PlanningAgent(true_model(), far, PLANNER).cost is far


def test_a_configurator_brings_the_goals_of_its_own_costs_near_and_says_so_once():
    home = mpc.Task({"home": 1.0}, planner=PLANNER)
    with pytest.warns(GoalWarning, match="cost 'home': its goal is out of the data's reach " + TOLD) as record:
        body = mpc.Configurator(model(), costs={"home": mpc.goal(FAR)}, home=home, still=replace(home, cost={"effort": 1.0}))
        body.agent("home").reset(SEEN)
    assert len(told(record)) == 1
    assert sought(body.cost("home")) == sought(mpc.goal(NEAR))


def test_a_controller_brings_a_new_goal_near():
    controller = mpc.Controller(mpc.PlanningAgent(model(), mpc.goal(NEAR), PLANNER), mpc.ControllerSettings(period=0.1))
    for give in (controller.set_goal, lambda goal: controller.configure(mpc.goal(goal))):
        controller.set_goal(SEEN)
        with pytest.warns(GoalWarning, match=TOLD):
            give(FAR)
        assert sought(controller.agent.cost) == sought(mpc.goal(NEAR))


def test_imagination_is_told_of_a_goal_too():
    cost = mpc.combine(home=(1.0, mpc.goal(FAR)), unknown=(1.0, mpc.reach("speed", 0.0)))
    with pytest.warns(GoalWarning, match=TOLD), pytest.raises(CostError, match="reads 'speed'"):
        mpc.imagine(model(), cost, tiny.episodes(count=1))


@pytest.mark.parametrize(
    "goal", [{"position": [1.0]}, {"position": [1.0, 2.0], "velocity": [0.0]}, {"position": [np.nan], "velocity": [0.0]}]
)
def test_a_goal_that_does_not_suit_the_model_is_refused(goal):
    with pytest.raises(CostError, match="the goal does not suit the model: observation"):
        mpc.PlanningAgent(model(), mpc.combine(home=(1.0, mpc.goal(goal))), PLANNER)


def test_under_jit_a_goal_is_taken_as_it_is():
    made = model()
    kept = jax.jit(lambda goal: mpc.PlanningAgent(made, mpc.goal(goal), PLANNER).cost.goal)(FAR)
    np.testing.assert_array_equal(kept["position"], FAR["position"])
