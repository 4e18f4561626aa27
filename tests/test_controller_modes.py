"""Planning in a thread of its own, on a simulated clock, and for many robots at once."""

import ctypes
import sys
import time
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import mpc
from mpc.controller import Rung, SimulatedLatency, programs
from mpc.controller.controller import Controller
from mpc.controller.deciding import Arrival
from mpc.controller.searching import Request, Searched
from mpc.controller.thinking import PlanningThread
from mpc.errors import ControllerError
from mpc.policy import SquashedGaussian
from planners import pytree
from tests import tiny
from tests.test_agent import reach, true_model
from tests.test_controller import PLANNER, RATE, Raising, controller, drive, failing

SLOW = SimulatedLatency(seed=3, begin=0.01, improve=0.02, finish=0.01, spread=0.5)


def test_on_a_simulated_clock_the_same_calls_give_the_same_decisions_and_other_latencies_others():
    def run(latency):
        made = controller(0.3, rate=(RATE,), deadline=0.1, simulated=latency)
        made.warm_up(1)
        return drive(made, 15)[1]

    first, second, other = run(SLOW), run(SLOW), run(replace(SLOW, seed=4))
    assert [x.action.tobytes() for x in first] == [x.action.tobytes() for x in second]
    assert [x.timing for x in first] == [x.timing for x in second]
    assert len({x.timing.slices for x in first}) > 1  # the deadline cut some searches, and not others
    assert [x.timing.slices for x in first] != [x.timing.slices for x in other]


def test_planning_beside_the_loop_drives_the_world_to_the_target_and_is_the_same_bit_for_bit_on_a_simulated_clock():
    def run():
        made = controller(0.5, rate=(RATE,), asynchronous=True, simulated=SLOW)
        made.warm_up(1)
        return made, *drive(made, 80)

    made, position, decisions = run()
    assert abs(position - 0.5) < 0.1
    assert decisions[0].status == (Rung.SAFE, ("no plan yet",))
    assert made.counts["PLAN"] > 60
    assert max(decision.timing.planning for decision in decisions) == 0.0
    assert [x.action.tobytes() for x in decisions] == [x.action.tobytes() for x in run()[2]]


def test_a_plan_is_made_by_one_goal_whatever_is_set_meanwhile():
    """The weights of a request are those of the moment it was made, also where the goal changes while it is worked on."""
    made = controller(0.5, asynchronous=True, simulated=SimulatedLatency(begin=0.25))
    made.warm_up(1)
    for tick in range(4):
        made.step(tiny.observation(1.0, 0.0), 0.1 * tick)
    asked = made.flat
    busy = made._thinker._busy
    made.set_cost_weights(target=-1.5)
    assert busy is made._thinker._busy and made.flat is not asked
    assert abs(drive(made, 80, 0.5)[0] + 1.5) < 0.2


def live(**settings):
    made = controller(0.5, asynchronous=True, **settings)
    made.warm_up(1)
    return made


def paced(made, steps, position=1.0, after=None):
    velocity, decisions = 0.0, []
    for tick in range(steps):
        decisions.append(made.step(tiny.observation(position, velocity), tick * 0.1))
        position, velocity = tiny.step(position, velocity, float(decisions[-1].action[0]))
        time.sleep(0.01)
        if after is not None:
            after(tick)
    return position, decisions


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_killed_planning_thread_is_noticed_named_and_started_again():
    with live() as made:
        paced(made, 20)
        victim = made._thinker.thread
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(victim.ident), ctypes.py_object(SystemExit))
        _, decisions = paced(made, 40)
        assert any("planning thread died: a new one is started" in d.status.faults for d in decisions)
        assert made._thinker.thread is not victim and not victim.is_alive()
        assert decisions[-1].status.rung in (Rung.PLAN, Rung.SHIFTED)
    assert not made._thinker.thread.is_alive()


def test_a_planner_that_fails_in_its_thread_is_named_and_the_loop_goes_on(monkeypatch):
    with live(lifetime=1) as made:
        paced(made, 15)
        with monkeypatch.context() as patch:
            patch.setattr(programs, "improve", failing)
            _, decisions = paced(made, 25)
        assert any("planner failed (Broken: gone)" in d.status.faults for d in decisions)
        assert decisions[-1].status.rung is Rung.SAFE and "plan expired" in decisions[-1].status.faults
        _, decisions = paced(made, 25)
        assert decisions[-1].status.rung is Rung.PLAN


class Counting:
    """In the place of a searcher: plans whose every number says which request they answer."""

    def __init__(self):
        self.clock, self.made = self, 0

    def now(self):
        return 0.0

    def run(self, flat, request, *, until):
        self.made += 1
        value = float(request.number)
        return Searched(value, np.full((64, 8), value), value, True, flat, value)


def test_the_loop_never_reads_a_torn_plan_nor_one_twice():
    searcher, seen, number = Counting(), [], 0
    thread = PlanningThread(searcher, None)  # type: ignore[arg-type]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # the interpreter changes threads between almost any two instructions
    try:
        while len(seen) < 2000 and number < 400_000:
            number += 1
            for arrival in thread.exchange((Request(None, np.zeros((1, 1)), None, 0.0, float(number), number), number)):
                assert isinstance(arrival, Arrival) and arrival.request is not None and arrival.searched is not None
                made = arrival.searched
                assert arrival.request.start == arrival.request.number == made.plan == made.warm == made.slices
                assert (made.actions == made.plan).all()
                seen.append(arrival.request.number)
    finally:
        sys.setswitchinterval(usual)
        thread.close()
    assert len(seen) == 2000 and seen == sorted(set(seen)) and searcher.made >= len(seen)


def test_a_horizon_that_ends_before_the_next_plan_is_refused():
    with pytest.raises(ControllerError, match="horizon of more than"):
        controller(asynchronous=True, simulated=SimulatedLatency(begin=0.4)).warm_up(1)


def batch(robots, **settings):
    agent = mpc.PlanningAgent(true_model(), mpc.cost(reach, target=0.5), PLANNER)
    return mpc.BatchController(agent, mpc.ControllerSettings(period=0.1, rate=(RATE,), **settings), robots=robots)


def drive_all(made, positions, steps=60, spoil=None):
    velocities, actions, decided = [0.0] * len(positions), [], []
    for tick in range(steps):
        observations = [tiny.observation(p, v) for p, v in zip(positions, velocities, strict=True)]
        if spoil is not None:
            observations = spoil(tick, observations)
        decisions = made.step(observations, tick * 0.1)
        decided.append(decisions)
        actions.append([float(d.action[0]) for d in decisions])
        moved = [tiny.step(p, v, a) for p, v, a in zip(positions, velocities, actions[-1], strict=True)]
        positions, velocities = (list(x) for x in zip(*moved, strict=True))
    return positions, np.array(actions), decided


def test_a_batch_of_one_decides_as_a_controller():
    made = controller(0.5, rate=(RATE,))
    _, alone, _ = drive_all(batch(1), [1.0], 12)
    np.testing.assert_allclose(alone[:, 0], [d.action[0] for d in drive(made, 12)[1]], atol=1e-5)


def test_robots_of_a_batch_reach_their_targets_and_one_robot_s_faults_are_its_own():
    def spoil(tick, observations):
        if 10 <= tick < 30:
            observations[1] = None if tick % 2 else {"position": np.array([np.nan]), "velocity": np.array([0.0])}
        return observations

    made = batch(3)
    made.warm_up(1)
    compiled = programs.begin_all._cache_size(), programs.improve_all._cache_size(), programs.finish_all._cache_size()
    positions, clean, _ = drive_all(made, [1.0, -1.0, 0.0])
    assert np.abs(np.array(positions) - 0.5).max() < 0.1
    made.reset()
    made.decisions = 0
    _, spoilt, decided = drive_all(made, [1.0, -1.0, 0.0], spoil=spoil)
    np.testing.assert_array_equal(clean[:, [0, 2]], spoilt[:, [0, 2]])
    assert np.abs(np.diff(spoilt, axis=0)).max() <= RATE + 1e-6
    assert all(decisions[1].status.faults and not decisions[0].status.faults for decisions in decided[10:30])
    assert decided[29][1].status.rung is Rung.SAFE and decided[-1][1].status == (Rung.PLAN, ())
    assert decided[0][2].plan.actions.shape == (8, 1)
    assert compiled == (programs.begin_all._cache_size(), programs.improve_all._cache_size(), programs.finish_all._cache_size())


def test_a_batch_falls_down_the_ladder_together_where_planning_fails(monkeypatch):
    made = batch(2)
    drive_all(made, [1.0, -1.0], 5)
    with monkeypatch.context() as patch:
        patch.setattr(programs, "improve_all", failing)
        decisions = made.step([tiny.observation(1.0), tiny.observation(-1.0)], 0.5)
    assert all(d.status.rung is Rung.SHIFTED and "planner failed (Broken: gone)" in d.status.faults for d in decisions)
    assert all(d.status.rung is Rung.PLAN for d in made.step([tiny.observation(1.0), tiny.observation(-1.0)], 0.6))


def test_a_batch_takes_stamps_as_an_array_and_names_those_and_the_observations_it_cannot_read():
    made, seen = batch(2), [tiny.observation(1.0), tiny.observation(-1.0)]
    for stamps in (np.array([0.0, 5.0]), np.array([0.1, 5.1]), 5.2):
        assert {d.status.rung for d in made.step(seen, stamps)} == {Rung.PLAN}  # type: ignore[arg-type]
    first, second = made.step(seen, [5.3, 10**400])
    assert (first.status, second.status) == ((Rung.PLAN, ()), (Rung.PLAN, ("time not finite",)))
    for given in (Raising(), None):
        assert all("observation unreadable" in d.status.faults for d in made.step(given, given))  # type: ignore[arg-type]
    for robots in ([99], [-1], 1):
        with pytest.raises(ControllerError, match="robots="):
            made.reset(robots)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"robots": 0}, "robots"),
        ({"robots": 1.5}, "robots=1.5"),
        ({"robots": 2, "asynchronous": True}, "asynchronous"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(settings, named):
    with pytest.raises(ControllerError, match=named):
        batch(**settings)


def test_a_policy_alone_acts_in_its_own_mode():
    made = controller(policy=True)
    reactive = Controller(mpc.PolicyAgent(made.agent.model, made.agent.policy), made.settings)
    made.plans = False
    for tick in range(3):
        observation = tiny.observation(1.0, 0.1 * tick)
        decisions = [each.step(observation, 0.1 * tick) for each in (made, reactive)]
        wanted = programs.react(*reactive.flat, made.agent.model.start(observation), np.zeros((0, 1), np.float32))
        for decision in decisions:
            assert decision.status == (Rung.POLICY, ()) and decision.timing.slices == 0
            np.testing.assert_allclose(decision.action, wanted, rtol=1e-6)
    made.plans = True
    assert made.step(observation, 0.3).status.rung is Rung.PLAN


@pytree
class Rightwards:
    """A policy that always pushes to the right."""

    push: Any

    def __call__(self, features):
        return SquashedGaussian(self.push, jnp.full(1, 0.1))


@pytree
class Homing:
    """A critic of two members of one mind: pushes to the right are best left of the middle, and to the left right of it."""

    push: Any

    def __call__(self, features, action):
        return jnp.full(2, 1 + ((action - jnp.where(features[0] < 0, self.push, -self.push)) ** 2).sum())


def doubtful(tolerance=0.1, **settings):
    push = jnp.full(1, 0.5)
    planning = mpc.PlanningAgent(
        true_model(), mpc.cost(reach, target=0.0), PLANNER, policy=Rightwards(push), critic=Homing(push)
    )
    recorder = settings.pop("recorder", None)
    agent = mpc.MixedAgent(planning, tolerance)
    return agent, mpc.Controller(agent, mpc.ControllerSettings(period=0.1, **settings), recorder=recorder)


@pytest.mark.usefixtures("patient")
def test_a_mixed_agent_reacts_where_policy_and_critic_agree_and_plans_elsewhere_and_can_be_replayed(tmp_path):
    agent, made = doubtful(rate=(4.0,), recorder=mpc.FlightRecorder(tmp_path / "log"))
    made.warm_up(1)
    functions = [programs.judge, programs.begin, programs.improve, programs.finish, programs.perceive, programs.fresh]
    compiled = [function._cache_size() for function in functions]
    positions = [-1.0, -1.0, 1.0, 1.0, -1.0, 1.0]
    decisions = [made.step(tiny.observation(position, 0.0), 0.1 * tick) for tick, position in enumerate(positions)]
    assert [function._cache_size() for function in functions] == compiled
    wanted = [Rung.POLICY if position < 0 else Rung.PLAN for position in positions]
    assert [decision.status.rung for decision in decisions] == wanted
    for decision in decisions:
        assert decision.action[0] == 1.0 if decision.status.rung is Rung.POLICY else decision.action[0] < 0
    assert made.reacted == 3 and made.reacted_share == 0.5
    made.plans = False  # Mode-1 alone
    assert made.step(tiny.observation(1.0, 0.0), 0.6).status.rung is Rung.POLICY
    made.close()
    replays = list(mpc.Log(tmp_path / "log", agent=agent).replays())
    assert [replay.identical for replay in replays] == [True] * 7
    assert [replay.outcome.rung for replay in replays] == [*wanted, Rung.POLICY]


def test_a_mixed_agent_plans_where_its_critic_fails_or_is_left_out(monkeypatch):
    _, made = doubtful()
    with monkeypatch.context() as patch:
        patch.setattr(programs, "judge", failing)
        decision = made.step(tiny.observation(-1.0, 0.0), 0.0)
    assert decision.status == (Rung.PLAN, ("critic failed (Broken: gone)",))
    made.configure(mpc.cost(reach, target=1.0))  # the critic knows nothing of this cost
    assert made.step(tiny.observation(-1.0, 0.0), 0.1).status.rung is Rung.PLAN
    assert made.reacted == 0


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"asynchronous": True}, "asynchronous=True"), ({"fallbacks": (Rung.SHIFTED,)}, "Rung.POLICY there")],
)
def test_settings_under_which_a_mixed_agent_cannot_react_are_refused(settings, named):
    with pytest.raises(ControllerError, match=named):
        doubtful(**settings)
