"""`sailplan train` to its end: first by watching, from a stream, the best along the way, and where the representation collapses."""

import re
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import worldmodels
from benchmarks import cli
from benchmarks.train import AHEAD, WINDOWS
from mpc.ranking import rank_plans
from tests import foreign, tiny
from tests.test_cli import run
from worldmodels import ContinuousAction, Dataset, Episodes
from worldmodels.diagnostics import look, open_loop_score, trials_for

SMALL = ("--latent", "8", "--hidden", "16")
pytestmark = pytest.mark.slow


def error_on(model, episodes):
    return open_loop_score(look(model, trials_for(model, episodes, AHEAD, WINDOWS)))


def scores_said(capsys):
    """After how many updates the model was that was kept, and what each that was looked at scored."""
    words = " ".join(capsys.readouterr().out.split())
    updates, listed = words.partition("kept the model of update ")[2].split(": ", 1)
    return int(updates), {int(at): float(score) for score, at in re.findall(r"(\S+) at (\d+)", listed)}


def hastened(model, velocity):
    """What five pushes to the right, rather than to the left, make of a velocity of metres a second, as the model says."""

    def pushed(action):
        latent = model.start(tiny.observation(0.0, velocity))
        for _ in range(5):
            latent = model.predict(latent, jnp.full(1, action), jnp.zeros(0))
        return model.readout(latent)["velocity"][0]

    return float(pushed(1.0) - pushed(-1.0))


def test_what_actions_do_is_learned_from_a_few_after_watching_many_without(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    watched = [replace(one, actions=np.zeros((len(one), 0), np.float32)) for one in tiny.episodes(count=32)]
    foreign.own(tmp_path / "watched", Episodes(replace(tiny.SPEC, action=ContinuousAction((), ())), tuple(watched)))
    foreign.own(tmp_path / "labelled", tiny.episodes(count=2, seed=5))
    learn = ("--action-free", "watched", "--then", "labelled", "--out", "model", "--updates", "600", *SMALL)
    assert run("train", *learn, monkeypatch=monkeypatch) == 0
    model = worldmodels.load(tmp_path / "model")
    assert model.spec == tiny.SPEC and model.settings.actions == "translated"
    effects = [hastened(model, velocity) for velocity in (-1.0, 0.0, 0.5)]
    assert min(effects) > 0 and np.mean(effects) > 0.3 * 0.4 * sum(0.95**step for step in range(5))
    unseen = tiny.episodes(count=4, seed=9)
    mistaken = Episodes(unseen.spec, tuple(replace(one, actions=-one.actions) for one in unseen))
    assert error_on(model, unseen) < 0.9 * error_on(model, mistaken)


def test_the_best_model_from_a_stream_is_kept(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    unseen = tiny.episodes(count=4, seed=9)
    foreign.own(tmp_path / "data", tiny.episodes(count=32))
    foreign.own(tmp_path / "unseen", unseen)
    chosen = ("data", "--stream", "--validate", "unseen", "--out", "model", "--updates", "500", *SMALL)
    assert run("train", *chosen, monkeypatch=monkeypatch) == 0
    assert (tmp_path / "data/.unpacked/contents.json").is_file()
    kept, scores = scores_said(capsys)
    assert list(scores) == [100, 200, 300, 400, 500]
    assert scores[kept] == min(scores.values())
    model = worldmodels.load(tmp_path / "model")
    assert error_on(model, unseen) == pytest.approx(scores[kept], abs=1e-3)
    assert error_on(model, unseen) < 0.8 * error_on(worldmodels.JEPA(tiny.SPEC, latent=8, hidden=16), unseen)


def test_the_model_that_ranks_plans_best_is_kept(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    task = ("dm_control/cartpole-balance-v0", "--action-repeat", "8")
    for folder, frames, seed in (("data", "1000", "0"), ("unseen", "400", "50")):
        assert run("collect", *task, "--frames", frames, "--seed", seed, "--out", folder, monkeypatch=monkeypatch) == 0
    chosen = ("data", "--validate", "unseen", "--choose-by", "plans", "--out", "model", "--updates", "300", *SMALL)
    assert run("train", *chosen, monkeypatch=monkeypatch) == 0
    kept, scores = scores_said(capsys)
    assert list(scores) == [100, 200, 300]
    assert scores[kept] == min(scores.values())
    found = rank_plans(worldmodels.load(tmp_path / "model"), Dataset.open(tmp_path / "unseen"))
    assert -found.mean == pytest.approx(scores[kept], abs=1e-3)


def test_a_collapse_stops_training_and_leaves_the_older_model(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    older = worldmodels.JEPA(tiny.SPEC, latent=8, hidden=16, seed=3)
    worldmodels.save(older, tmp_path / "model")
    foreign.own(tmp_path / "data", tiny.episodes(count=32))
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    collapsing = ("--weights", "variance", "0", "covariance", "0", "--on-collapse", "stop", *SMALL)
    assert run("train", "data", "--out", "model", "--updates", "2000", *collapsing, monkeypatch=monkeypatch) == 2
    said = " ".join(capsys.readouterr().out.split())
    stopped = re.search(r"sailplan: the representation collapsed by update (\d+).*Raise the weight 'variance' \(now 0\)", said)
    assert stopped and int(stopped.group(1)) < 2000
    assert issubclass(worldmodels.CollapseError, cli.EXPECTED)
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before
    chex.assert_trees_all_equal(worldmodels.load(tmp_path / "model"), older)

    best = ("--validate", "data", "--updates", "2000")
    assert run("train", "data", "--out", "model", *best, *collapsing, monkeypatch=monkeypatch) == 2
    kept = re.search(r"The best before it, of update (\d+), is in model", " ".join(capsys.readouterr().out.split()))
    assert kept and 0 < int(kept.group(1)) <= int(stopped.group(1))
    assert worldmodels.load(tmp_path / "model").settings == worldmodels.JEPA(tiny.SPEC, latent=8, hidden=16).settings
    assert not np.array_equal(*(jax.tree.leaves(each)[0] for each in (worldmodels.load(tmp_path / "model"), older)))
