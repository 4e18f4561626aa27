"""The flight recorder: every decision comes out again bit for bit, whatever happened in it, and a kill costs at most one."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from decimal import Decimal

import numpy as np
import pytest

import mpc
from mpc.controller import FlightRecorder, Log, Rung, SimulatedLatency, programs, records
from mpc.controller.explaining import explain
from mpc.errors import LogError
from tests import tiny
from tests.test_cli import run
from tests.test_controller import RATE, Raising, controller, damaged, drive, failing, faulty
from tests.test_export import policy_agent

pytestmark = pytest.mark.usefixtures("patient")


def recorded(folder, *arguments, files=8, size=4_000_000, **settings):
    made = controller(*arguments, **settings)
    made.recorder = FlightRecorder(folder, files=files, size=size)
    made.recorder.begin(made)
    return made


def test_what_is_encoded_comes_back():
    value = {
        "a": [1, 2.5, "x", None, True],
        "b": np.arange(6, dtype=np.int16).reshape(2, 3),
        "c": {"d": np.float32(np.nan)},
        "e": (),
    }
    again = records.decode(records.encode(value))
    assert again["a"] == value["a"] and again["e"] == []
    np.testing.assert_array_equal(again["b"], value["b"])
    assert again["b"].dtype == np.int16 and np.isnan(again["c"]["d"])


def test_every_decision_is_made_again_bit_for_bit_whatever_went_wrong(tmp_path, monkeypatch):
    made = recorded(tmp_path / "log", policy=True, rate=(RATE,), deadline=0.1, lifetime=1, safe=lambda seen: np.array([2.0]))
    random, position, velocity, decisions = np.random.default_rng(1), 1.0, 0.0, []
    for tick in range(60):
        given = tiny.observation(position, velocity), tick * 0.1
        if tick > 25 and random.random() < 0.5:
            given = faulty(random, *given)
        if 30 <= tick < 38:
            given = None, tick * 0.1
        if tick == 20:
            made.set_cost_weights(target=0.7)
        with monkeypatch.context() as patch:
            if tick in (22, 23, 24, 50):
                patch.setattr(programs, "improve", failing)
            if tick == 40:
                made.flat = damaged(made.flat)
            decisions.append(made.step(*given))
        position, velocity = tiny.step(position, velocity, float(decisions[-1].action[0]))
    made.close()
    assert {d.status.rung for d in decisions} == set(Rung)
    replays = list(Log(tmp_path / "log", made.agent).replays())
    assert [r.number for r in replays] == list(range(60))
    for replay, decision in zip(replays, decisions, strict=True):
        assert replay.identical, explain(replay)
        assert replay.action.tobytes() == decision.action.tobytes()
        assert tuple(replay.outcome.faults) == decision.status.faults and replay.outcome.rung is decision.status.rung
        if decision.plan is not None:
            assert float(replay.outcome.plan.cost) == float(decision.plan.cost)
    assert any("limits made [2] into" in explain(replay) for replay in replays)


def test_a_decision_by_a_stamp_of_any_kind_or_one_that_failed_altogether_is_made_again(tmp_path, monkeypatch):
    made = recorded(tmp_path / "log")
    for stamp in (np.float32(0.1), np.int64(1), "1.1", Decimal("1.2"), 10**5000, Raising(), None):
        made.step(tiny.observation(1.0, 0.0), stamp)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setattr(type(made.rules), "clocked", failing)
        made.step(tiny.observation(1.0, 0.0), 1.3)
    made.close()
    replays = list(Log(tmp_path / "log", made.agent).replays())
    assert [replay.identical for replay in replays] == [True] * 8
    assert replays[-1].outcome.faults == ["controller failed (Broken: gone)"]


def test_a_replay_notices_a_decision_that_does_not_follow_from_its_record(tmp_path, monkeypatch):
    made = recorded(tmp_path / "log")
    drive(made, 4)
    made.close()
    log = Log(tmp_path / "log", made.agent)
    assert log.replay(2).identical
    monkeypatch.setattr(log.searcher, "seed", np.uint32(7))
    assert not log.replay(2).identical


def test_plans_made_beside_the_loop_are_made_again_by_the_goal_they_were_asked_with(tmp_path):
    made = recorded(tmp_path / "log", 0.5, asynchronous=True, simulated=SimulatedLatency(begin=0.12, spread=0.5))
    made.warm_up(1)
    drive(made, 12)
    made.set_cost_weights(target=-0.5)
    drive(made, 12)
    made.close()
    replays = list(Log(tmp_path / "log", made.agent).replays())
    assert len(replays) == 24 and all(r.identical for r in replays)
    assert sum(r.searched is not None for r in replays) > 4
    assert "slices, sound" in explain(next(r for r in replays if r.searched is not None))


def test_the_explanation_names_terms_candidates_and_what_there_was_to_fall_back_on(tmp_path, monkeypatch):
    made = recorded(tmp_path / "log", rate=(0.01,))
    drive(made, 3)
    with monkeypatch.context() as patch:
        patch.setattr(programs, "improve", failing)
        made.step(tiny.observation(1.0, 0.0), 0.3)
    made.close()
    log = Log(tmp_path / "log", made.agent)
    plan, fallback = explain(log.replay(2)), explain(log.replay())
    for words in ("decision 2", "bit for bit", "a fresh plan", "terminal", "best cost by slice", "candidates"):
        assert words in plan
    for words in (
        "the last good plan, shifted",
        "planner failed (Broken: gone)",
        "the plan of decision 2, 1.0 model steps old",
    ):
        assert words in fallback


def test_the_log_is_bounded_and_keeps_the_latest(tmp_path):
    made = recorded(tmp_path / "log", files=3, size=8_000)
    drive(made, 60)
    made.close()
    files = sorted(path.name for path in (tmp_path / "log").glob("*.log"))
    assert len(files) == 3 and files[0] > "000000.log"
    assert sum(path.stat().st_size for path in (tmp_path / "log").glob("*.log")) <= 3 * 8_000
    log = Log(tmp_path / "log", made.agent)
    numbers = [record["number"] for record in log.records()]
    assert numbers == list(range(numbers[0], 60)) and numbers[0] > 0
    assert log.replay(numbers[0]).identical and log.replay().number == 59
    with pytest.raises(LogError, match=f"decision 0 is not in the log, which holds {numbers[0]} to 59"):
        log.replay(0)


KILLED = """
    import sys
    from mpc.controller import recorder
    from tests.test_recorder import recorded, tiny
    recorder.WAIT = 10.0  # rather than drop a record, on a machine that has other things to do
    made = recorded(sys.argv[1])
    for tick in range(10_000):
        made.step(tiny.observation(1.0, 0.0), tick * 0.1)
        print(tick, flush=True)
"""


@pytest.mark.slow
def test_a_killed_process_has_lost_at_most_its_last_record(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 25:
            break
    os.kill(process.pid, signal.SIGKILL)
    done = [25, *map(int, process.stdout.read().split())][-1]
    process.wait()
    log = Log(tmp_path / "log", controller().agent)
    numbers = [record["number"] for record in log.records()]
    assert numbers == list(range(len(numbers))) and numbers[-1] >= done - 1
    assert log.replay().identical


def test_a_log_that_was_changed_or_is_not_one_is_refused(tmp_path):
    made = recorded(tmp_path / "log")
    drive(made, 3)
    made.close()
    path = tmp_path / "log" / "000000.log"
    content = path.read_bytes()
    path.write_bytes(content[:-20])  # cut short: what is whole stays readable
    assert Log(tmp_path / "log", made.agent).replay().number == 1
    path.write_bytes(content[:600] + bytes([content[600] ^ 1]) + content[601:])
    with pytest.raises(LogError, match="does not match its checksum"):
        Log(tmp_path / "log", made.agent).replay()
    path.write_bytes(content[:6] + bytes([content[6] ^ 1]) + content[7:])
    with pytest.raises(LogError, match="the length of the record at byte 0 was changed"):
        Log(tmp_path / "log", made.agent).replay()
    path.write_bytes(b"SPL9" + content[4:])
    with pytest.raises(LogError, match="another version"):
        Log(tmp_path / "log", made.agent).replay()
    path.write_bytes(content)
    with pytest.raises(LogError, match="there is no such folder"):
        Log(tmp_path / "nowhere")
    with pytest.raises(LogError, match="not those that decided"):
        Log(tmp_path / "log", controller(policy=True).agent)
    with pytest.raises(LogError, match="Give it"):
        Log(tmp_path / "log")
    with pytest.raises(LogError, match="by a cost written as a function"):
        Log(tmp_path / "log", controller(cost=mpc.goal(tiny.observation())).agent).replay(0)
    with pytest.raises(LogError, match="never written over"):
        FlightRecorder(tmp_path / "log")
    manifest = tmp_path / "log" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(LogError, match="format 9"):
        Log(tmp_path / "log", made.agent)


def test_a_log_that_cannot_be_kept_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "agent").mkdir()
    (tmp_path / "file").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    for folder, settings, named in [
        ("agent/log", {"agent": tmp_path / "agent"}, "inside the agent's folder"),
        ("log", {"agent": tmp_path / "nowhere"}, "agent=.*no such folder"),
        ("file", {}, "it is a file"),
        ("file/log", {}, "cannot be made"),
        ("log", {"files": "8"}, "files='8'"),
        ("log", {"size": 0}, "size=0"),
    ]:
        with pytest.raises(LogError, match=named):
            FlightRecorder(tmp_path / folder, **settings).begin(controller())
    assert sorted(tmp_path.rglob("*")) == before


def test_settings_may_be_of_numpy_and_a_recorder_has_one_controller(tmp_path):
    made = recorded(tmp_path / "log", rate=np.array([RATE], np.float32), seed=np.int64(3), deadline=np.float32(0.1))
    with pytest.raises(LogError, match="has a controller already"):
        made.recorder.begin(controller())
    drive(made, 3)
    made.close()
    assert [replay.identical for replay in Log(tmp_path / "log", made.agent).replays()] == [True] * 3


class Robot:
    """Holds what cannot be copied, as a driver does."""

    def __init__(self):
        self.lock = threading.Lock()

    def brake(self, observation):
        return np.zeros(1)


def test_a_safe_action_of_a_robot_that_cannot_be_copied_is_recorded_as_a_function(tmp_path):
    made = recorded(tmp_path / "log", safe=Robot().brake)
    drive(made, 2)
    made.close()
    assert Log(tmp_path / "log", made.agent).manifest.settings["controller"]["safe"] == "function"


def test_a_full_disk_is_named_the_loop_goes_on_and_so_does_the_log_when_there_is_space_again(tmp_path, monkeypatch):
    made, write = recorded(tmp_path / "log"), os.write

    def full(file, content):
        if len(content) < 100:
            raise OSError(28, "No space left on device")
        return write(file, content[:100])

    drive(made, 2)
    made.recorder._written.wait()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        decisions = drive(made, 4)[1]
        made.recorder._written.wait()
    last = made.step(tiny.observation(1.0, 0.0), 0.4)
    failed = "flight recorder failed (OSError: [Errno 28] No space left on device): the decision before is not recorded"
    assert all(d.status.rung is Rung.PLAN for d in decisions)
    assert [failed in d.status.faults for d in (*decisions, last)] == [False, True, True, True, True]
    made.close()
    closed = made.step(tiny.observation(1.0, 0.0), 0.5)
    assert "flight recorder closed: the decision is not recorded" in closed.status.faults
    replays = list(Log(tmp_path / "log", made.agent).replays())
    assert [replay.number for replay in replays if replay.identical] == [0, 1, 6] and made.recorder.dropped == 4


class Items:
    """An observation of which nothing but its items can be had."""

    def __init__(self, **items):
        self.items_ = items

    def __getitem__(self, name):
        return self.items_[name]


def test_an_observation_of_any_kind_that_cannot_be_used_is_recorded_and_read_again(tmp_path):
    made, good = recorded(tmp_path / "log"), tiny.observation(1.0, 0.0)
    drive(made, 2)
    bad = good | {"position": np.array([np.nan])}
    kinds = [("position", "f4", 1), ("velocity", "U4", 1)]
    given = [
        Items(**bad),
        np.zeros((), kinds),
        bad | {"odd": Raising()},
        bad | {"ragged": [[1], [1, 2]]},
        good | {"position": Raising()},
        good | {"position": [object()]},
        good | {"position": np.zeros(9_000_000)},
    ]
    faults = [made.step(observation, 0.2 + 0.1 * tick).status.faults for tick, observation in enumerate(given)]
    assert made.step(good, 0.9).status.rung is Rung.PLAN
    made.close()
    assert all(each[0].startswith("observation ") for each in faults) and made.recorder.dropped == 0
    assert [replay.identical for replay in Log(tmp_path / "log", made.agent).replays()] == [True] * 10


def test_the_loop_does_not_wait_for_a_disk_that_hangs(tmp_path, monkeypatch):
    made = recorded(tmp_path / "log")
    drive(made, 2)
    monkeypatch.setattr("mpc.controller.recorder.WAIT", 0.0)
    monkeypatch.setattr(made.recorder, "_put", lambda *_: time.sleep(0.5))
    faults = [d.status.faults for d in drive(made, 3)[1]]
    assert ("flight recorder behind: a decision is not recorded",) in faults and made.recorder.dropped > 0


def test_the_command_replays_a_log_that_holds_its_agent(tmp_path, monkeypatch, capsys):
    mpc.save_policy(policy_agent(), tmp_path / "policy")
    settings = mpc.ControllerSettings(period=0.1)
    made = mpc.Controller.load(tmp_path / "policy", None, settings, record=tmp_path / "log")  # type: ignore[arg-type]
    for tick in range(5):
        made.step(tiny.observation(3.0, -1.0 + 0.01 * tick), 0.1 * tick)
    made.close()
    assert run("replay", tmp_path / "log", monkeypatch=monkeypatch) == 0
    assert "5 decisions, 5 the same bit for bit" in capsys.readouterr().out
    assert run("replay", tmp_path / "log", "--decision", "3", monkeypatch=monkeypatch) == 0
    assert "decision 3" in capsys.readouterr().out
    assert run("replay", tmp_path / "log", "--decision", "9", monkeypatch=monkeypatch) == 2
    assert "holds 0 to 4" in capsys.readouterr().out
