"""The command line: the whole job at a tiny size, and errors a person can act on."""

import json
import subprocess
import sys

import pytest

from benchmarks import cli
from planners import PlannerError, SettingError
from planners.names import planner_classes, planner_named


def run(*arguments: str, monkeypatch) -> int:
    monkeypatch.setattr(sys, "argv", ["sailplan", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_planners_are_known_by_their_names():
    assert {"cem", "icem", "gradient"} <= set(planner_classes())
    assert planner_named("CEM", horizon=3).horizon == 3
    with pytest.raises(PlannerError, match="Did you mean cem"):
        planner_named("cme", horizon=3)
    with pytest.raises(SettingError, match=r"no setting \['sample'\]"):
        planner_named("cem", horizon=3, sample=5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("collect", "dm_control/cartpole-swngup-v0", "--frames", "10", "--out", "x"), "cartpole-swingup"),
        (("train", "nowhere", "--out", "x"), "nowhere"),
        (("train", "--out", "x", "--action-free", "nowhere"), "--then"),
        (("train", "--out", "x", "--action-free", "nowhere", "--then", "nowhere"), "nowhere"),
        (("evaluate", "nowhere"), "nowhere"),
        (("data", "info", "nowhere"), "nowhere"),
        (("train", "no[/x]where", "--out", "x"), "no[/x]where"),
        (("data", "info", "no[state]where"), "no[state]where"),
    ],
)
def test_errors_are_one_line_and_exit_2(arguments, words, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments, monkeypatch=monkeypatch) == 2
    assert words in capsys.readouterr().out
    assert not (tmp_path / "x").exists()


def test_help_names_every_command():
    shown = subprocess.run(
        [sys.executable, "-m", "benchmarks.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for command in ("collect", "train", "evaluate", "distil", "demo", "data", "readme", "doctor"):
        assert command in shown


@pytest.mark.slow
def test_the_whole_job_at_a_tiny_size(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    task = ("dm_control/cartpole-swingup-v0", "--action-repeat", "8")
    assert run("collect", *task, "--frames", "1200", "--out", "data", monkeypatch=monkeypatch) == 0
    assert run("data", "verify", "data", monkeypatch=monkeypatch) == 0
    assert (
        run("train", "data", "--out", "model", "--updates", "100", "--latent", "8", "--hidden", "16", monkeypatch=monkeypatch)
        == 0
    )
    small = ("--horizon", "4", "--episodes", "1")
    assert run("evaluate", "model", *small, "--json", "figures.json", monkeypatch=monkeypatch) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert 0 <= figures["return_mean"] <= 1000
    assert figures["decision_ms_p50"] > 0
    assert run("distil", "model", "--out", "policy", "--rounds", "1", *small, monkeypatch=monkeypatch) == 0
    assert run("evaluate", "policy", "--episodes", "1", monkeypatch=monkeypatch) == 0
    assert run("collect", *task, "--frames", "1000", "--policy", "policy", "--out", "more", monkeypatch=monkeypatch) == 0
    assert run("train", "data", "--out", "data", monkeypatch=monkeypatch) == 2
    assert "dataset" in capsys.readouterr().out
