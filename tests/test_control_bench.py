"""`sailplan bench control`: which evaluations are made, and when one that was cut off is made up for."""

from types import SimpleNamespace

import pytest

from benchmarks import control, results


@pytest.fixture
def at(tmp_path, monkeypatch):
    """Go on with a run to some frames, as if learned; the methods and frames of its lines."""
    row = {"return_mean": 1.0, "return_ci95": 0.0}
    for name, value in {"RESULTS": tmp_path / "control.jsonl", "RUNS": tmp_path, "EPISODES": 2}.items():
        monkeypatch.setattr(control, name, value)
    monkeypatch.setattr(control, "evaluations", lambda *_: {"planner": row, "policy": row})

    def go_on(frames, wanted):
        def learn(environment, folder, *, milestone, **_):
            folder.mkdir(exist_ok=True)
            return SimpleNamespace(frames_learned=frames)

        monkeypatch.setattr(control, "learn_in", learn)
        control.run_task("Pendulum-v1", 0, wanted)
        return [(line["method"], line["frames"]) for line in results.read_lines(control.RESULTS)]

    return go_on


def test_the_last_evaluation_is_made_up_for_once(at, monkeypatch):
    assert at(1_000, 1_000) == [
        ("random", 0),
        ("policy", 1_000),
        ("planner", 1_000),
    ]  # after learning, which called no milestone
    monkeypatch.setattr(control, "evaluations", lambda *_: 1 / 0)
    assert len(at(1_000, 1_000)) == 3


def test_an_evaluation_that_lacks_its_last_line_is_made_again(at):
    at(1_000, 1_000)
    lines = control.RESULTS.read_text().splitlines(keepends=True)
    control.RESULTS.write_text("".join(lines[:-1]))
    assert sorted(at(1_000, 1_000)) == [("planner", 1_000), ("policy", 1_000), ("random", 0)]


def test_what_was_passed_long_ago_is_not_said_of_a_later_agent(at):
    assert at(60_000, 100_000) == [("random", 0)]
    assert ("planner", 25_000) in at(25_400, 100_000)


def test_other_settings_are_another_cell(at, monkeypatch):
    at(1_000, 1_000)
    assert control.missing("Pendulum-v1", 0, 1_000) == []
    monkeypatch.setattr(control, "RunSettings", lambda: "others")
    assert control.missing("Pendulum-v1", 0, 1_000) == [1_000]
