"""The command line: the whole job at a tiny size, and errors a person can act on."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

import planners
import worldmodels
from benchmarks import cli
from benchmarks.agents import load_acting
from mpc.learning import LearnerSettings, RunSettings, new_learner
from mpc.learning.storage import save_learned
from planners import PlannerError, SettingError
from planners.names import planner_classes, planner_named
from tests import foreign, tiny


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
        (("train", "nowhere", "--out", "x", "--updates", "-5"), "updates=-5: expected at least 1"),
        (("train", "nowhere", "--out", "x", "--choose-by", "plans"), "--validate"),
        (("train", "nowhere", "--out", "afile/x"), "is a file"),
        (("collect", "Pendulum-v1", "--frames", "10", "--out", "afile/x"), "is a file"),
        (("collect", "Pendulum-v1", "--frames", "10", "--out", "x", "--seed", "-1"), "seed=-1: expected at least 0"),
        (("solve", "nowhere", "--cost", "walker.run", "--out", "x"), "nowhere: there is no such folder"),
        (("solve", "nowhere", "nodata", "--cost", "walker.run", "--out", "x"), "nowhere: there is no such folder"),
        (("diagnose", "nowhere", "nowhere", "--out", "afile"), "is a file"),
        (("diagnose", "nowhere", "nowhere", "--out", "x", "--moments", "0"), "moments=0: expected at least 1"),
        (("diagnose", "nowhere", "nowhere", "--out", "x", "--plans", "-1"), "plans=-1: expected at least 1"),
    ],
)
def test_errors_are_one_line_and_exit_2(arguments, words, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("")
    assert run(*arguments, monkeypatch=monkeypatch) == 2
    assert words in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "x").exists()


def test_a_full_disk_is_one_line_too(monkeypatch, tmp_path, capsys):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run("collect", "Pendulum-v1", "--frames", "10", "--out", tmp_path / "x", monkeypatch=monkeypatch) == 2
    assert "No space left on device" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--action-free", "data", "--then", "short"), "has 3 decisions, a window needs 5"),
        (("--action-free", "data", "--then", "position"), "the model watched"),
        (("--action-free", "data", "--then", "data", "--memory", "stack"), "memory='stack'"),
        (("data", "--validate", "data", "--choose-by", "plans"), "no cost named"),
        (("data", "--validate", "position"), "the model of"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_training(arguments, words, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for name, episodes in (
        ("data", tiny.episodes(count=4, length=20)),
        ("short", tiny.episodes(count=1, length=3)),
        ("position", tiny.episodes(tiny.POSITION, count=1, length=20)),
    ):
        foreign.own(tmp_path / name, episodes)
    monkeypatch.setattr(worldmodels, "train", None)
    small = ("--latent", "8", "--hidden", "16")
    assert run("train", *arguments, "--out", "x", *small, monkeypatch=monkeypatch) == 2
    assert words in " ".join(capsys.readouterr().out.split())


def test_help_names_every_command():
    shown = subprocess.run(
        [sys.executable, "-m", "benchmarks.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for command in ("collect", "train", "evaluate", "distil", "demo", "data", "readme", "doctor"):
        assert command in shown


@pytest.mark.parametrize(("spec", "usual"), [(tiny.SPEC, planners.ICEM), (tiny.DISCRETE, planners.CategoricalCEM)])
def test_what_is_not_said_of_the_planner_is_the_models_own(spec, usual, tmp_path):
    worldmodels.save(worldmodels.JEPA(spec, latent=8, hidden=4, head=4, expander=4), tmp_path / "model")
    assert load_acting(tmp_path / "model").planner == usual(horizon=20)
    assert load_acting(tmp_path / "model", samples=64, horizon=None).planner == usual(horizon=20, samples=64)
    assert load_acting(tmp_path / "model", "mppi", horizon=5).planner == planners.MPPI(horizon=5)
    settings = LearnerSettings(latent=8, hidden=16)
    run = {"seed": 0, "horizon": 4, "samples": 32, "iterations": 2, "proposals": 4, "spread": 0.3}
    save_learned(new_learner(spec, settings), settings, tmp_path / "agent", discount=0.99, ends=False, run=run)
    acting = RunSettings(horizon=4, samples=32, iterations=2, proposals=4, spread=0.3).planner(spec)
    assert load_acting(tmp_path / "agent").planner == acting
    assert load_acting(tmp_path / "agent", horizon=6).planner == replace(acting, horizon=6)


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
