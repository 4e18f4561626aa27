"""The fault campaign of `sailplan bench runtime`, short, on the tiny world; and that it would notice a fault nobody names."""

import numpy as np
import pytest

from benchmarks.faults import LOOP, Faults
from benchmarks.runtime import CELLS, SETTINGS, bench_runtime
from benchmarks.runtime_cells import _outside
from mpc.controller import Rung, SimulatedLatency
from tests import tiny
from tests.test_controller import RATE, controller


def campaign(made, share, decisions, kinds=LOOP):
    faults, position, velocity, last = Faults(made, share, 0, kinds), 1.0, 0.0, made.memory.last
    rungs = []
    for tick in range(decisions):
        decision = faults.step(faults.draw(), tiny.observation(position, velocity), tick * 0.1)
        assert not _outside(made, decision.action, last)
        last = decision.action
        rungs.append(decision.status.rung)
        position, velocity = tiny.step(position, velocity, float(last[0]))
        if abs(position) > 4:  # so that a frozen sensor is one that would have moved
            position, velocity = 1.0, 0.0
    return faults, rungs


@pytest.mark.parametrize(
    "settings", [{}, {"asynchronous": True, "simulated": SimulatedLatency()}], ids=["in-the-loop", "beside"]
)
def test_no_fault_leaves_the_limits_or_goes_unnamed(settings, monkeypatch):
    made = controller(0.5, policy=True, rate=(RATE,), **settings)
    made.warm_up(1)
    # The agent of the tiny world has no learned cost to go back to: a change of goal goes to another one and stays there.
    kinds = tuple(kind for kind in LOOP if kind not in ("goal", "missed", "frozen"))
    faults, rungs = campaign(made, 0.3, 500, kinds)
    assert all(faults.drawn.values()) and not any(faults.unnamed.values()), faults.unnamed
    assert rungs.count(Rung.PLAN) > 250


def test_a_fault_that_no_status_names_is_counted(monkeypatch):
    made = controller(rate=(RATE,))
    step = made.step

    def silent(*given):
        decision = step(*given)
        return decision._replace(status=decision.status._replace(faults=()))

    monkeypatch.setattr(made, "step", silent)
    faults, _ = campaign(made, 0.5, 30, ("nan", "late"))
    assert faults.unnamed == faults.drawn and sum(faults.drawn.values()) > 5


def test_an_action_outside_a_limit_is_counted():
    made = controller(rate=(RATE,))
    last = np.zeros(1, np.float32)
    outside = [np.array([0.51]), np.array([np.nan]), np.array([0.1, 0.1]), np.array([-0.51])]
    assert [_outside(made, np.asarray(action, np.float32), last) for action in outside] == [True] * 4
    assert not _outside(made, np.array([0.5], np.float32), last)
    assert _outside(made, np.array([2.1], np.float32), np.array([2.0], np.float32))


def test_every_condition_says_what_it_is_measured_with_and_an_unknown_one_is_refused():
    described = [SETTINGS[name].describe() for name in SETTINGS]
    assert all({"planner", "rate"} <= set(each) for each in described)
    assert len({str(each) for each in described}) == len(described) and set(SETTINGS) < set(CELLS)
    with pytest.raises(ValueError, match="no method"):
        bench_runtime(methods=["cleen"])
