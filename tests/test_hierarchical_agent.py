"""The agent on several levels: one level is the planning agent itself, two go where the upper one wants, bad ones are refused."""

import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
import planners
import worldmodels
from mpc import costs
from planners import pytree
from tests import tiny
from worldmodels import DiscreteAction

PLANNER = planners.ICEM(horizon=8, samples=32, iterations=3, elites=6, keep=2)


@pytree
class Physics:
    """The double integrator: its latent is position and velocity."""

    @property
    def spec(self):
        return tiny.SPEC

    def start(self, observation):
        return jnp.concatenate([jnp.asarray(observation["position"]), jnp.asarray(observation["velocity"])])

    def observe(self, latent, previous_action, observation):
        return self.start(observation)

    def predict(self, latent, action, noise):
        return jnp.stack(tiny.step(latent[0], latent[1], 2.0 * action[0]))

    def draw_noise(self, futures, horizon, *, key):
        return jnp.zeros((1, horizon, 0))

    def features(self, latent):
        return latent

    def readout(self, latent):
        return {"position": latent[:1], "velocity": latent[1:]}


@pytree
class Stays:
    """Above it, four steps at a time: the position alone, which goes 0.2 down, stays, or goes up."""

    stride = 4
    lower = Physics()

    @property
    def spec(self):
        return replace(tiny.SPEC, action=DiscreteAction(3))

    def lift(self, latent):
        return latent[:1]

    def start(self, observation):
        return jnp.asarray(observation["position"])

    def predict(self, latent, action, noise):
        return latent + 0.2 * (action - 1)

    def draw_noise(self, futures, horizon, *, key):
        return jnp.zeros((1, horizon, 0))

    def features(self, latent):
        return latent

    def readout(self, latent):
        return {"position": latent}


def away(readout, action, step, target):
    return jnp.abs(readout["position"][0] - target)


def agent(*above, cost, planner=None):
    upper = planners.CategoricalCEM(6, samples=64, iterations=3, elites=8)
    planner = mpc.HierarchicalPlanner((PLANNER, *[upper] * len(above))) if planner is None else planner
    return mpc.HierarchicalAgent(Physics(), cost, planner, upper=above)


@pytest.mark.slow
def test_one_level_decides_as_the_planning_agent_does():
    cost, key = mpc.goal(tiny.observation(0.0, 0.0)), jax.random.key(3)
    decisions = []
    for each in (agent(cost=cost), mpc.PlanningAgent(Physics(), cost, PLANNER)):
        state = each.reset(tiny.observation())
        for _ in range(2):
            decision, state = each.act(state, tiny.observation(), key=key)
        decisions.append(decision)
    np.testing.assert_array_equal(*(decision.plan.actions for decision in decisions))
    assert float(decisions[0].cost) == float(decisions[1].cost)


@pytest.mark.slow
def test_the_lower_level_goes_where_the_upper_one_is_told_to():
    """The lowest level knows of no goal."""
    for target in (1.0, -0.6):
        acting = agent(Stays(), cost=mpc.cost(away, target=target))
        seen = tiny.observation(0.0, 0.0)
        state = acting.reset(seen)
        for step in range(40):
            decision, state = acting.act(state, seen, key=jax.random.key(step))
            position, velocity = tiny.step(seen["position"][0], seen["velocity"][0], float(decision.action[0]))
            seen = tiny.observation(float(position), float(velocity))
        assert abs(float(seen["position"][0]) - target) < 0.2


def test_planners_that_do_not_fit_the_levels_are_refused():
    cost = mpc.cost(away, target=1.0)
    with pytest.raises(mpc.HierarchyError, match="1 planners for 2 models"):
        agent(Stays(), cost=cost, planner=mpc.HierarchicalPlanner((PLANNER,)))
    with pytest.raises(mpc.HierarchyError, match="HierarchicalPlanner"):
        agent(cost=cost, planner=PLANNER)
    upper = planners.CategoricalCEM(6)
    uneven = mpc.HierarchicalPlanner((planners.ICEM(horizon=10), upper))
    with pytest.raises(mpc.HierarchyError, match="multiple of the"):
        agent(Stays(), cost=cost, planner=uneven)
    with pytest.raises(mpc.HierarchyError, match="2 distances for 1 models"):
        replace(agent(Stays(), cost=cost), distances=(mpc.squared_distance,) * 2)
    with pytest.raises(mpc.HierarchyError, match="2 reach for 1 models"):
        replace(agent(Stays(), cost=cost), reach=(1.0, 1.0))


def test_subgoals_are_missed_by_the_distance_that_is_given():
    acting = replace(
        agent(Stays(), cost=mpc.cost(away, target=1.0)), distances=(lambda reached, aimed: 7.0 * jnp.abs(reached - aimed)[0],)
    )
    level = acting.problem().levels[1]
    assert float(level.distance(jnp.array([0.5]), jnp.array([0.0]))) == 3.5
    assert (level.reach, replace(acting, reach=(2.0,)).problem().levels[1].reach) == (np.inf, 2.0)


@pytree
class Jumps(Stays):
    """It believes in steps of three metres."""

    def predict(self, latent, action, noise):
        return latent + 3.0 * (action - 1)


@pytest.mark.slow
@pytest.mark.usefixtures("patient")
def test_the_controller_says_that_a_subgoal_was_out_of_reach_and_its_record_is_replayed(tmp_path):
    acting = replace(agent(Jumps(), cost=mpc.cost(away, target=3.0)), reach=(0.5,))
    settings, words = mpc.ControllerSettings(period=tiny.SPEC.seconds_per_step), "a subgoal was out of reach and is replaced"
    batch = mpc.BatchController(acting, settings, robots=1)
    batch.warm_up(1)
    (decision,) = batch.step([tiny.observation(0.0, 0.0)], 0.0)
    assert decision.status == mpc.ControlStatus(mpc.Rung.PLAN, (words,))
    recorder = mpc.FlightRecorder(tmp_path / "log")
    with mpc.Controller(acting, settings, recorder=recorder) as driven:
        driven.warm_up(1)
        said = [driven.step(tiny.observation(0.1 * number, 0.0), 0.1 * number).status for number in range(3)]
    assert said[0] == mpc.ControlStatus(mpc.Rung.PLAN, (words,))
    again = list(mpc.Log(tmp_path / "log", agent=acting).replays())
    assert [each.identical for each in again] == [True] * 3


def test_a_task_is_checked_on_the_level_that_pays_it():
    """The time to a goal is learned on latents of the level above, of another size than those of the lowest."""
    critic = mpc.TemporalDistance(1, hidden=8)
    acting = agent(Stays(), cost=mpc.TimeToGoal(critic, {"position": jnp.zeros(1), "velocity": jnp.zeros(1)}))
    state = acting.reset(tiny.observation())
    assert state.search.courses[0].states.shape == (1, 7, 1)
    with pytest.raises(mpc.CostError, match="same shape"):
        costs.check(acting.model, acting.cost, tiny.observation())
    with mpc.Controller(acting, mpc.ControllerSettings(period=tiny.SPEC.seconds_per_step)) as made:
        made.warm_up(repeats=1)
        assert made.step(tiny.observation(), 0.0).status.rung is mpc.Rung.PLAN


def test_a_goal_far_from_the_data_is_announced_and_one_within_is_not():
    model = worldmodels.JEPA(tiny.SPEC, latent=4, hidden=8)
    model.normaliser.fit(np.array([[-1.0, -1.0], [1.0, 1.0]], np.float32))
    critic = mpc.TemporalDistance(4, hidden=8)

    def seek(position):
        shown = {"position": jnp.full(1, position), "velocity": jnp.zeros(1)}
        cost = mpc.combine(task=(1.0, mpc.TimeToGoal(critic, shown)), effort=(0.1, mpc.effort()))
        return mpc.HierarchicalAgent(model, cost, mpc.HierarchicalPlanner((PLANNER,)))

    with pytest.warns(mpc.GoalWarning, match=r"by 8\.0 standard deviations \(position\[0\]=9, where the data show -1 to 1\)"):
        sought = seek(9.0)
    assert sought.cost.parts["task"].goal["position"] == 1.0  # the nearest
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seek(1.2)


def test_only_what_a_prediction_covers_beyond_its_steps_is_a_leap():
    leaps = mpc.Leaps(lambda here, there: 10 * jnp.abs(here - there)[0], 1)  # type: ignore[arg-type]
    covered = [float(leaps.running(Stays(), jnp.zeros(1), action, 0)["leap"]) for action in (0, 1, 2)]
    np.testing.assert_allclose(covered, [1.0, 0.0, 1.0], atol=1e-6)  # 0.2 away is two steps
