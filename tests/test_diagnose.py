"""`sailplan diagnose` writes JSON and a page that says how to read it."""

import json

import numpy as np
import pytest
from scipy import stats

import mpc
import worldmodels
from benchmarks.diagnose import MOST_POINTS, ranked
from benchmarks.diagnosis_page import diagnosis_page
from tests import foreign, tiny
from tests.test_cli import run
from worldmodels.data import Dataset

TASK = "dm_control/cartpole-balance-v0"

FIGURES = {
    "environment": "tiny/<world>",
    "model": "m",
    "data": "d",
    "seed": 0,
    "windows": 8,
    "episodes": 2,
    "held_out": "episodes",
    "horizon": 3,
    "seconds_per_step": 0.1,
    "open_loop_score": 0.25,
    "representation": {"effective_rank": 3.2, "size": 4, "deviations": [1, 1, 0.5, 0], "correlation": 0.1, "covariance": 0.1},
    "readout": {"speed": {"linear": 0.9876, "readout": None}},
    "open_loop": {
        "names": ["speed"],
        "features": {name: [0.1, 0.2, 9e9] for name in ("model", "copy", "linear")},
        **{name: {"speed": [0.1, 0.2, 0.3]} for name in ("model", "copy", "linear")},
    },
    "actions": {"components": [0.5], "shuffled": [2.0, 3.0, 4.0]},
    "calibration": {
        "futures": 16,
        "coverage": {"0.5": [0.5] * 3, "0.8": [0.8] * 3, "0.9": [0.9] * 3},
        "spread_over_error": [1.0, 0.9, 0.8],
        "ranks": [0.1] * 10,
    },
    "plans": {
        "spearman": 0.87,
        "each": [0.9, 0.84],
        "best_rank": 0.1,
        "candidates": 4,
        "horizon": 3,
        "places": [[0, 0], [1, 1]],
    },
}


def test_the_page_shows_every_figure_and_says_what_is_missing():
    page = diagnosis_page(FIGURES)
    for words in ("0.87", "beaten by 10 %", "tiny/&lt;world&gt;", "Coverage.", "0.9876", "constant", "3.2 of 4 directions"):
        assert words in page
    assert "overlap" not in page
    assert "windows that overlap" in diagnosis_page(FIGURES | {"held_out": "windows"})
    bare = {**FIGURES, "calibration": None, "readout": {}, "plans": {"missing": "No simulator."}}
    bare["open_loop"] = {"names": [], "features": FIGURES["open_loop"]["features"]}
    page = diagnosis_page(bare)
    for words in ("No simulator.", "one future only", "Nothing but images", "observes images alone"):
        assert words in page


def test_the_command_writes_both(tmp_path, monkeypatch, capsys):
    with Dataset.create(tmp_path / "unseen", tiny.SPEC) as dataset:
        for episode in tiny.episodes(count=4, length=20):
            dataset.append(episode)
    worldmodels.save(worldmodels.JEPA(tiny.SPEC, latent=8, hidden=16, head=16, expander=16), tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    small = ("--horizon", "5", "--windows", "8")
    assert run("diagnose", "model", "unseen", "--out", "out", *small, monkeypatch=monkeypatch) == 0
    figures = json.loads((tmp_path / "out/diagnostics.json").read_text())
    assert figures["open_loop_score"] > 0
    assert "no cost named 'tiny/double-integrator'" in figures["plans"]["missing"]
    assert "Plans were not ranked" in (tmp_path / "out/diagnostics.html").read_text()
    assert "effective rank" in capsys.readouterr().out
    assert run("diagnose", "model", "nowhere", "--out", "other", monkeypatch=monkeypatch) == 2
    assert not (tmp_path / "other").exists()


def test_the_simulator_ranks_plans_as_itself():
    hidden = mpc.make(TASK, action_repeat=4, privileged=True)
    seen = mpc.collect(hidden, frames=96, seed=3)
    plans = ranked(mpc.simulator(hidden), seen, MOST_POINTS, 2, 4, 0)
    assert plans["spearman"] == pytest.approx(1) and plans["best_rank"] == 0 and plans["candidates"] == MOST_POINTS
    predicted, true = np.array(plans["places"]).T  # of the first moment alone: so many are kept
    assert predicted.shape == (MOST_POINTS,) and predicted.min() == 0 and predicted.max() == 1
    np.testing.assert_allclose(predicted, true, atol=0.01)
    assert ranked(mpc.simulator(hidden), seen, 0, 2, 4, 0).keys() == {"missing"}
    hidden.close()


def test_the_command_ranks_plans_where_the_task_has_a_simulator(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    episodes = mpc.collect(mpc.make(TASK, action_repeat=4), frames=96, seed=3)
    foreign.own(tmp_path / "unseen", episodes)
    worldmodels.save(worldmodels.JEPA(episodes.spec, latent=8, hidden=16, head=16, expander=16), tmp_path / "model")
    small = ("--horizon", "3", "--windows", "4", "--plans", "8", "--moments", "3", "--plan-horizon", "4")
    assert run("diagnose", "model", "unseen", "--out", "out", *small, monkeypatch=monkeypatch) == 0
    plans = json.loads((tmp_path / "out/diagnostics.json").read_text())["plans"]
    predicted, true = np.moveaxis(np.reshape(plans["places"], (3, 8, 2)), -1, 0)
    each = [stats.spearmanr(*moment).statistic for moment in zip(predicted, true, strict=True)]
    np.testing.assert_allclose(plans["each"], each, atol=1e-6)
    assert plans["spearman"] == pytest.approx(np.mean(each)) and abs(plans["spearman"]) < 1
    liked = np.take_along_axis(true, predicted.argmin(1)[:, None], 1)
    assert plans["best_rank"] == pytest.approx((true < liked).mean())
    said = f"{plans['spearman']:.2f}"
    assert f"rank correlation of plans with the true simulator {said}" in " ".join(capsys.readouterr().out.split())
    assert said.replace("-", "") in (tmp_path / "out/diagnostics.html").read_text()


def test_numbers_that_are_not_finite_are_null():
    from benchmarks.json_file import finite

    given = {"score": float("inf"), "rows": [1.0, float("nan")], "at": (2, None)}
    assert json.loads(json.dumps(finite(given), allow_nan=False)) == {"score": None, "rows": [1.0, None], "at": [2, None]}
