"""The controller: what it promises under every fault we can think of, and that it controls."""

import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
import planners
import worldmodels
from mpc.controller import ControllerSettings, Patience, Rung, programs
from mpc.controller.controller import count
from mpc.errors import ControllerError
from mpc.policy import Policy
from tests import tiny
from tests.test_agent import reach, true_model
from worldmodels import SpecError

PLANNER = planners.CEM(horizon=8, samples=32, iterations=3, elites=6)
RATE = 0.5


def controller(target=0.0, *, policy=False, cost=None, model=None, **settings):
    agent = mpc.PlanningAgent(
        model or true_model(),
        cost or mpc.cost(reach, target=target),
        PLANNER,
        policy=Policy(2, tiny.SPEC, hidden=4) if policy else None,
    )
    patience = {name: settings.pop(name) for name in list(settings) if name in Patience.__dataclass_fields__}
    return mpc.Controller(agent, ControllerSettings(**{"period": 0.1, "patience": Patience(**patience)} | settings))


def drive(made, steps=60, position=1.0, delayed=0):
    """Return where the tiny world ends, and every decision; actions take effect `delayed` steps late."""
    velocity, decisions, waiting = 0.0, [], [np.zeros(1, np.float32)] * delayed
    for tick in range(steps):
        decisions.append(made.step(tiny.observation(position, velocity), tick * 0.1))
        waiting.append(decisions[-1].action)
        position, velocity = tiny.step(position, velocity, float(waiting.pop(0)[0]))
    return position, decisions


def test_it_drives_the_world_to_the_target_by_fresh_plans_within_the_rate():
    position, decisions = drive(controller(0.5, rate=(RATE,)))
    assert abs(position - 0.5) < 0.1
    assert {decision.status.rung for decision in decisions} == {Rung.PLAN}
    actions = np.stack([decision.action for decision in decisions])
    assert np.abs(np.diff(actions, axis=0)).max() <= RATE + 1e-6
    assert np.abs(actions[0]).max() <= RATE + 1e-6


def faulty(random, observation, time):
    """One of the faults, and what it does to the observation and the stamp."""
    choice = random.integers(12)
    if choice == 0:
        return {**observation, "position": np.array([np.nan], np.float32)}, time
    if choice == 1:
        return {**observation, "velocity": np.array([np.inf])}, time
    if choice == 2:
        return {**observation, "velocity": np.array(["fast"])}, time
    if choice == 3:
        return {"position": observation["position"]}, time
    if choice == 4:
        return None, time
    if choice == 5:
        return {**observation, "position": np.zeros(7, np.float32)}, time
    if choice == 6:
        return {**observation, "position": np.array([1e30])}, time
    if choice == 7:
        return observation, time - 5.0
    if choice == 8:
        return observation, float("nan")
    if choice == 9:
        return observation, "noon"
    if choice == 10:
        return observation, time + 3.0
    return {**observation, "position": 1e4 + observation["position"]}, time


@pytest.mark.parametrize("safe", ["zero", "hold", lambda observation: np.array([np.nan])])
def test_no_fault_raises_or_leaves_the_limits_and_every_one_is_named(safe):
    made, random = controller(policy=True, rate=(RATE,), safe=safe, bridge=2, lifetime=1), np.random.default_rng(0)
    last, position, velocity = np.zeros(1, np.float32), 1.0, 0.0
    for tick in range(150):
        observation, time = tiny.observation(position, velocity), tick * 0.1
        fault = tick > 30 and random.random() < 0.5
        decision = made.step(*(faulty(random, observation, time) if fault else (observation, time)))
        assert decision.action.shape == (1,) and np.isfinite(decision.action).all()
        assert (np.abs(decision.action) <= 2.0).all() and (np.abs(decision.action - last) <= RATE + 1e-6).all()
        if fault:
            assert decision.status.faults and decision.status.faults[0] in decision.status.sentence
        last = decision.action
        position, velocity = tiny.step(position, velocity, float(last[0]))
    assert made.counts["PLAN"] > 30
    position, _ = drive(made, 60, position)
    assert abs(position) < 0.2  # and it has recovered


class Broken(Exception):
    pass


def unsound(*arguments):
    return programs.Found(*jax.jit(programs._finish, static_argnums=1)(*arguments)[:3], np.asarray(False))


def damaged(packed):
    return [jnp.full_like(x, jnp.nan) if jnp.issubdtype(x.dtype, jnp.floating) else x for x in packed[0]], packed[1]


def failing(*_):
    raise Broken("gone")


def test_the_ladder_is_plan_then_shifted_plan_then_policy_then_safe_action(monkeypatch):
    made = controller(policy=True, lifetime=2, safe=lambda observation: np.array([0.25]))
    made.step(tiny.observation(1.0, 0.0), 0.0)
    planned = made.memory.course.actions.copy()
    monkeypatch.setattr(programs, "begin", failing)
    rungs, actions = [], []
    for tick in range(1, 5):
        decision = made.step(tiny.observation(1.0, 0.0), tick * 0.1)
        rungs.append(decision.status.rung)
        actions.append(decision.action[0])
        assert "planner failed (Broken: gone)" in decision.status.faults
    assert rungs == [Rung.SHIFTED, Rung.SHIFTED, Rung.POLICY, Rung.POLICY]
    np.testing.assert_allclose(actions[:2], planned[1:3, 0], rtol=1e-6)
    assert "plan expired" in decision.status.faults
    monkeypatch.setattr(programs, "perceive", failing)
    decision = made.step(tiny.observation(1.0, 0.0), 0.5)
    assert decision.status.rung == Rung.SAFE and decision.action[0] == 0.25
    assert made.counts["perception failed (Broken"] == 1


def test_the_rungs_are_as_they_were_chosen(monkeypatch):
    monkeypatch.setattr(programs, "improve", failing)
    for fallbacks, expected in (((Rung.POLICY, Rung.SHIFTED), Rung.POLICY), ((), Rung.SAFE)):
        made = controller(policy=True, fallbacks=fallbacks)
        assert made.step(tiny.observation(1.0, 0.0), 0.0).status.rung == expected


def test_an_unsound_plan_is_neither_followed_nor_remembered(monkeypatch):
    made = controller(policy=True)
    with monkeypatch.context() as patch:
        patch.setattr(programs, "finish", unsound)
        decision = made.step(tiny.observation(1.0, 0.0), 0.0)
    assert decision.status == (Rung.SAFE, ("no sound plan",))
    assert made.memory.warm is None and made.memory.course is None
    assert made.step(tiny.observation(1.0, 0.0), 0.1).status == (Rung.PLAN, ())


def test_parameters_that_turned_nan_are_named_and_mended():
    made = controller(rate=(RATE,))
    made.step(tiny.observation(1.0, 0.0), 0.0)
    made.flat = damaged(made.flat)
    decision = made.step(tiny.observation(1.0, 0.0), 0.1)
    assert any("parameters not finite" in fault for fault in decision.status.faults)
    assert np.isfinite(decision.action).all()
    assert made.step(tiny.observation(1.0, 0.0), 0.2).status == (Rung.PLAN, ())
    assert abs(drive(made)[0]) < 0.1


def test_after_warm_up_nothing_compiles_and_new_goals_and_weights_count_at_once():
    made = controller(0.0, rate=(1.0,))
    made.warm_up()
    functions = (programs.fresh, programs.perceive, programs.begin, programs.improve, programs.finish, programs.cold)
    before = [function._cache_size() for function in functions]
    drive(made, 5)
    made.set_cost_weights(target=1.5)
    position, _ = drive(made, 80, 1.0)
    assert abs(position - 1.5) < 0.15
    assert [function._cache_size() for function in functions] == before
    assert made.searcher.improve > 0


def test_the_same_calls_give_the_same_decisions():
    a, b = (drive(controller(0.3, rate=(RATE,)), 12)[1] for _ in range(2))
    np.testing.assert_array_equal([x.action for x in a], [x.action for x in b])


def eager(readout, action, step):
    return (readout["position"][0] + 0.5 * readout["velocity"][0]) ** 2


def test_prediction_through_what_was_sent_makes_up_for_delay():
    """Mean squared distance from the target over the second half, with 0.3 s between action and effect."""

    def wobble(made):
        velocity, position, waiting, seen = 0.0, 1.0, [np.zeros(1, np.float32)] * 3, []
        for tick in range(80):
            waiting.append(made.step(tiny.observation(position, velocity), tick * 0.1).action)
            position, velocity = tiny.step(position, velocity, 2 * float(waiting.pop(0)[0]))
            seen.append(position)
        return np.mean(np.square(seen[40:]))

    made = [controller(delay=delay, cost=mpc.cost(eager)) for delay in (0.3, 0.0)]
    assert wobble(made[0]) < 0.5 * wobble(made[1])


def test_a_frozen_sensor_is_noticed_while_the_world_moves():
    made = controller(frozen_after=4)
    drive(made, 25, position=2.0)
    faults = [made.step(tiny.observation(3.0, 2.0), 2.5 + tick * 0.1).status.faults for tick in range(12)]
    assert any("observation frozen" in fault for fault in faults)


def test_what_no_sensor_can_read_is_not_believed():
    made = controller()
    made.step(tiny.observation(1.0, 0.0), 0.0)
    for tick, elapsed in enumerate((0.1, 3.0)):  # after a gap too, of which the prediction has nothing to say
        decision = made.step(tiny.observation(1e6, 0.0), tick * 0.1 + elapsed)
        assert "observation out of distribution" in decision.status.faults


def test_goals_can_be_observations():
    made = controller(cost=mpc.goal(tiny.observation(0.0, 0.0)))
    made.set_goal(tiny.observation(1.0, 0.0))
    position, _ = drive(made, 80, 0.0)
    assert abs(position - 1.0) < 0.2


def test_a_plan_may_be_cut_after_any_slice():
    """A deadline that has passed when planning begins still leaves one slice."""
    made = controller(deadline=0.05)
    made.searcher.improve, made.searcher.finish = 10.0, 10.0
    decision = made.step(tiny.observation(1.0, 0.0), 0.0)
    assert decision.timing.slices == 1 and decision.status.rung == Rung.PLAN
    assert jnp.isfinite(decision.plan.cost)
    assert jax.tree.leaves(decision.plan.actions)[0].shape == (8, 1)


def test_limits_hold_exactly_however_small_the_rate_is_beside_the_action():
    rules, random = controller(rate=(3e-7,)).rules, np.random.default_rng(0)
    memory = rules.begin(np.array([1.9]))
    for _ in range(300):
        action = rules.limited(memory, random.choice([np.nan, np.inf, -np.inf, 5.0, -5.0, 1.9], 1))
        assert abs(np.float64(action[0]) - np.float64(memory.last[0])) <= 3e-7 and abs(action[0]) <= 2.0
        memory = rules.send(memory, action)


def test_after_a_reset_the_rate_holds_from_what_the_robot_has_now():
    made = controller(2.0, rate=(RATE,))
    made.reset(sent=np.array([-2.0]))
    assert made.step(tiny.observation(0.0, 0.0), 0.0).action[0] <= -2.0 + RATE
    with pytest.raises(SpecError):
        made.reset(sent=np.array([9.0]))


def test_another_task_counts_from_the_next_decision_on_and_a_goal_that_cannot_be_is_refused(monkeypatch):
    made = controller(0.0)
    made.warm_up(1)
    drive(made, 3)
    made.configure(mpc.goal(tiny.observation(1.0, 0.0)))
    before = made.flat
    large = tiny.observation() | {"position": np.array([1e300])}  # not finite as float32
    for goal in (
        tiny.observation(np.nan, 0.0),
        large,
        {"position": np.zeros(3), "velocity": np.zeros(1)},
        {"position": np.zeros(1)},
    ):
        with pytest.raises(SpecError):
            made.configure(mpc.goal(goal))
        with pytest.raises(SpecError):
            made.set_goal(goal)
    with pytest.raises(mpc.CostError):
        made.configure(mpc.goal(tiny.observation(), action_weight=np.nan))
    with pytest.raises(mpc.CostError):
        made.configure("run")  # type: ignore[arg-type]
    with pytest.raises(mpc.CostError, match="Broken: gone"):
        made.configure(mpc.cost(failing))
    with pytest.raises(ControllerError, match="expected numbers"):
        made.set_cost_weights(action_weight="much")
    assert made.flat is before
    assert abs(drive(made, 80, 0.0)[0] - 1.0) < 0.2
    monkeypatch.setattr(made, "_rehearse", failing)
    made.configure(mpc.goal(tiny.observation(-1.0, 0.0)))  # the same kind of cost: nothing compiles


def test_a_missed_tick_a_late_one_and_stamps_that_stand_or_go_back_are_named():
    made = controller()
    named = [made.step(tiny.observation(1.0 + 0.01 * i), t).status.faults for i, t in enumerate((0.0, 0.1, 0.4, 0.4, 0.2))]
    assert named == [(), (), ("ticks missed",), ("time repeated",), ("time went backwards",)]


class Raising:
    """Whatever is asked of it fails."""

    def __float__(self):
        raise RuntimeError("no")

    __array__ = __repr__ = __getitem__ = __len__ = __float__


@pytest.mark.parametrize("stamps", [(1.79e308, -1.79e308), (0.0, 1.7e18), (0.0, 10**400, Raising())])
def test_a_garbage_stamp_is_forgotten_and_plans_still_expire_after_it(stamps, monkeypatch):
    made = controller(lifetime=2)
    for stamp in stamps:
        made.step(tiny.observation(1.0, 0.0), stamp)
    drive(made, 3)
    assert made.step(tiny.observation(1.0, 0.0), 0.3).status.rung is Rung.PLAN
    assert not any("failed" in name for name in made.counts)
    monkeypatch.setattr(programs, "begin", failing)
    rungs = [made.step(tiny.observation(1.0, 0.0), 0.1 * tick).status.rung for tick in range(4, 8)]
    assert rungs == [Rung.SHIFTED] * 2 + [Rung.SAFE] * 2


def test_two_threads_that_step_at_once_keep_the_rate():
    made = controller(2.0, rate=(RATE,), safe=lambda observation: np.array([random.choice([-2.0, 2.0])]))
    random, sent = np.random.default_rng(0), []
    send = made.rules.send
    made.rules.send = lambda memory, action: sent.append(float(action[0])) or send(memory, action)

    def loop():
        for _ in range(200):
            made.step(None, 0.0)

    threads = [threading.Thread(target=loop) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(sent) == 400 and np.abs(np.diff([0.0, *sent])).max() <= RATE + 1e-6


def test_counts_are_bounded_whatever_messages_errors_carry(monkeypatch):
    made = controller()
    for index in range(1200):
        count(made.counts, Rung.SAFE, [f"fault {index}"])
    assert len(made.counts) <= 1001 and made.counts["other faults"] > 100


@pytest.mark.parametrize(
    "parts", [{"members": 2}, {"noise": "quantised", "noise_size": 3}, {"noise": "gaussian", "members": 2}]
)
def test_a_model_that_knows_several_futures_is_driven_too(parts):
    model = worldmodels.JEPA(tiny.SPEC, latent=4, hidden=8, head=4, expander=4, **parts)
    made = controller(policy=False, model=model, delay=0.1, surprise=np.inf)
    made.warm_up(1)
    _, decisions = drive(made, 3)
    assert [decision.status.rung for decision in decisions] == [Rung.PLAN] * 3


def test_a_stamp_that_is_no_number_counts_one_step_and_the_next_does_not_count_it_again():
    made = controller()
    for stamp in (0.0, float("nan"), 0.2):
        decision = made.step(tiny.observation(1.0, 0.0), stamp)
    assert decision.status.faults == () and made.memory.now == pytest.approx(2.0)


def test_another_cost_is_compiled_aside_while_the_loop_goes_on(monkeypatch):
    made = controller()
    made.warm_up(1)
    drive(made, 2)
    before, seen = made.agent, []
    rehearse = mpc.Controller._rehearse

    def watched(aside, repeats):
        seen.append((made.agent is before, made.step(tiny.observation(1.0, 0.0), 0.2).status.rung))
        return rehearse(aside, repeats)

    monkeypatch.setattr(mpc.Controller, "_rehearse", watched)
    made.configure(mpc.goal(tiny.observation(-1.0, 0.0)))
    assert seen == [(True, Rung.PLAN)] and made.agent is not before


def test_bounds_that_float32_does_not_hold_are_rounded_inwards():
    spec = dataclasses.replace(tiny.SPEC, action=worldmodels.ContinuousAction((-2.7,), (0.1,)))
    made = controller(10.0, model=true_model(spec))
    for target in (10.0, -10.0):
        made.set_cost_weights(target=target)
        action = float(made.step(tiny.observation(0.0, 0.0), target).action[0])
        assert -2.7 <= action <= 0.1
    low, high = spec.action.within
    assert float(low[0]) >= -2.7 and float(high[0]) <= 0.1
