"""Cells that train a model and plan on it: what a view shows, what is left out, and one cell as a whole."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import mpc
import planners
import worldmodels
from benchmarks import action_free, distractors, model_cells, objectives, partial, pixels, results
from benchmarks.model_cells import Budget, Cell
from benchmarks.planner_cells import ACTION_REPEAT, TASKS
from benchmarks.table_text import latest
from benchmarks.views import DISTRACTORS, View, replayed
from mpc.acting import play
from mpc.ranking import rank_plans
from tests import tiny
from tests.test_agent import DoubleIntegrator
from worldmodels import TrainingSettings
from worldmodels.diagnostics import trials_for
from worldmodels.objectives import PRESETS

TASK = TASKS["cartpole-swingup"]


@pytest.fixture(scope="module")
def recorded():
    environment = mpc.make(TASK.environment, action_repeat=ACTION_REPEAT)
    return mpc.collect(environment, frames=32, seed=5, agent=mpc.RandomAgent(environment.spec))


def test_hidden_quantities_are_not_shown(recorded):
    view = View(observe=("position",))
    seen = view.episodes(TASK, recorded)
    assert seen.spec.names == ("position",) and seen.spec == view.environment(TASK).spec
    assert set(seen[0].observations) == {"position"}
    np.testing.assert_array_equal(seen[0].observations["position"], recorded[0].observations["position"])


def test_distractors_are_noise_beside_the_state_and_the_same_live_and_recorded(recorded):
    view = View(distractors=5)
    seen, environment = view.episodes(TASK, recorded), view.environment(TASK)
    assert seen.spec == environment.spec and seen.spec.size == recorded.spec.size + 5
    for copy in (environment, environment.copy()):
        live = [copy.reset(recorded[0].seed), *(copy.step(action).observation for action in recorded[0].actions)]
        for name, values in seen[0].observations.items():
            np.testing.assert_allclose(values, [moment[name] for moment in live], rtol=1e-5, atol=1e-6)
    noise = seen[0].observations[DISTRACTORS]
    assert noise.shape == (9, 5) and len(np.unique(noise)) == 45
    assert abs(noise.mean()) < 0.5 and 0.7 < noise.std() < 1.3


@pytest.mark.skipif(mpc.rendering_backend() is None, reason="no rendering backend")
@pytest.mark.parametrize("view", [View(("pixels",)), View(("pixels",), wind=True), View(("pixels",), 2, wind=True)])
def test_pictures_of_what_was_recorded_are_those_that_are_seen_live(recorded, view):
    seen, environment = view.episodes(TASK, recorded), view.environment(TASK)
    np.testing.assert_array_equal(seen[0].actions, recorded[0].actions)
    np.testing.assert_allclose(seen[0].costs, recorded[0].costs, atol=1e-6)
    live = [environment.reset(recorded[0].seed), *(environment.step(action).observation for action in recorded[0].actions)]
    environment.close()
    assert set(seen[0].observations) == {"pixels"} | ({DISTRACTORS} if view.distractors else set())
    for name, values in seen[0].observations.items():
        np.testing.assert_array_equal(values, [moment[name] for moment in live])
    again = View().episodes(TASK, seen)
    np.testing.assert_array_equal(again[0].observations["velocity"], recorded[0].observations["velocity"])


def test_of_each_episode_a_stretch_is_kept_at_another_time_in_each():
    episodes = tiny.episodes(count=7, length=20)
    kept = action_free.stretches(episodes, 5)
    assert kept.spec == episodes.spec and [len(episode) for episode in kept] == [4] * 7
    for index, (part, whole) in enumerate(zip(kept, episodes, strict=True)):
        first = 4 * (index % 5)
        np.testing.assert_array_equal(part.actions, whole.actions[first : first + 4])
        np.testing.assert_array_equal(part.costs, whole.costs[first : first + 4])
        for name, values in part.observations.items():
            np.testing.assert_array_equal(values, whole.observations[name][first : first + 5])


def test_what_was_rehearsed_is_learned_from_and_not_measured_on(monkeypatch, tmp_path, recorded):
    monkeypatch.setattr(model_cells, "rehearsal", lambda task, environment: recorded)
    monkeypatch.setattr(mpc, "collect", lambda environment, **settings: recorded)
    count = len(recorded)
    for rehearsed, first, kinds in ((False, 0, 2), (True, 0, 3), (True, model_cells.HELD_OUT, 2)):
        task = replace(TASK, rehearsed=rehearsed)
        monkeypatch.setattr(model_cells, "DATA", tmp_path / f"{rehearsed}-{first}")
        assert len(model_cells.data_of(task, first=first)) == kinds * count


def test_tables_show_what_was_measured_last_of_each_condition_and_width():
    line = {"task": "t", "method": "m", "seed": 0, "frames": 1, "condition": "clean"}
    old, new = ({**line, "settings": {"updates": updates}} for updates in (2, 5))
    wide, noisy = {**line, "settings": {"hidden": 256}}, {**old, "condition": "noisy"}
    assert latest([old, wide, noisy, new]) == [new, wide, noisy]


class Sinking(DoubleIntegrator):
    """Right about positions, one metre a second wrong about velocities."""

    def readout(self, latent):
        return {"position": latent[:1], "velocity": latent[1:] + 1.0}


def test_open_loop_error_counts_what_is_compared(monkeypatch):
    monkeypatch.setattr(model_cells, "WINDOWS", 8)
    episodes = tiny.episodes(count=2, length=30)
    sizes = {"latent": 2, "hidden": 4, "head": 4, "expander": 4}
    sinking = Sinking(tiny.SPEC, **sizes)
    assert model_cells.open_loop_error(sinking, episodes, ("position",)) < 1e-4
    spread = np.concatenate([episode.observations["velocity"] for episode in episodes]).std()
    assert model_cells.open_loop_error(sinking, episodes, ("velocity",)) == pytest.approx(1 / spread, rel=0.5)
    both, one = (model_cells.open_loop_error(sinking, episodes, names) for names in ((), ("velocity",)))
    assert both == pytest.approx(one / np.sqrt(2))


def test_probed_error_is_of_what_features_know_whatever_the_readout_says(monkeypatch):
    monkeypatch.setattr(model_cells, "WINDOWS", 8)
    episodes = tiny.episodes(count=2, length=30)
    sinking = Sinking(tiny.SPEC, latent=2, hidden=4, head=4, expander=4)
    assert model_cells.probed_error(sinking, episodes, episodes) < 1e-2
    others = tuple(replace(episode, observations=_reversed(episode)) for episode in episodes)
    assert model_cells.probed_error(sinking, episodes, worldmodels.Episodes(tiny.SPEC, others)) > 0.3


def _reversed(episode):
    return {name: values[::-1] for name, values in episode.observations.items()}


@pytest.fixture
def measured(monkeypatch, tmp_path, recorded):
    """The cells that were measured, without the work."""
    seen = []

    def measure(cell, seed, budget):
        seen.append((cell.method, cell.condition, seed))
        return dict.fromkeys(model_cells.SHOWN, 1.0)

    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(model_cells, "measure", measure)
    monkeypatch.setattr(model_cells, "data_of", lambda task, count=0: recorded)
    return seen


def test_cells_are_measured_once_and_none_begins_too_late(measured):
    methods = ["full-state", "memoryless", "stack", "recurrent"]
    assert partial.bench_partial((), Budget(minutes=-1)) == []
    assert len(partial.bench_partial(methods[:2], Budget())) == 2
    assert [line["method"] for line in partial.bench_partial((), Budget())] == methods[2:]
    assert len(partial.bench_partial((), Budget(seeds=(0, 1)))) == 4
    assert measured[:2] == [("full-state", "full state", 0), ("memoryless", "no velocities", 0)]
    written = results.read_lines(results.RESULTS / "partial.jsonl")
    assert [(line["settings"].get("memory"), line["seed"]) for line in written[2:4]] == [("stack", 0), ("recurrent", 0)]


def test_distractors_and_objectives_have_their_cells_in_files_of_their_own(measured):
    lines = distractors.bench_distractors(["cartpole-swingup"], ["vicreg", "reconstruction"], (0, 4), (128,), Budget())
    assert {(line["method"], line["condition"]) for line in lines} == {
        (method, condition) for method in ("vicreg", "reconstruction") for condition in ("clean", "4 × as many")
    }
    assert [line["method"] for line in objectives.bench_objectives(["reacher-easy"], ["none"], Budget())] == ["none"]
    assert sorted(path.stem for path in results.RESULTS.iterdir()) == ["distractors", "objectives"]
    with pytest.raises(results.ResultError, match=r"vicrge is not known\. Expected some of vicreg"):
        distractors.bench_distractors(["cartpole-swingup"], ["vicrge"], (0,), (128,), Budget())
    with pytest.raises(results.ResultError, match="task hopper is not known"):
        objectives.bench_objectives(["hopper"], [], Budget())


def test_pixels_are_cells_beside_the_state(measured):
    lines = pixels.bench_pixels(["cartpole-swingup"], (), Budget(batch=24))
    assert [(line["method"], line["settings"].get("memory")) for line in lines] == [
        ("state", None),
        ("pixels", "stack"),
        ("wind", "stack"),
        ("reconstruction", "stack"),
        ("reconstruction-wind", "stack"),
    ]
    assert pixels.bench_pixels(["cartpole-swingup"], (), Budget(batch=24)) == []


def test_every_way_of_learning_from_few_actions_is_a_cell(measured, monkeypatch):
    monkeypatch.setattr(action_free, "data_of", model_cells.data_of)
    monkeypatch.setattr(action_free, "measure", lambda *_: {"return_mean": 1.0})
    lines = action_free.bench_action_free(["cartpole-swingup"], (), Budget(seeds=(0, 1)))
    assert [(line["method"], line["seed"]) for line in lines[2:4]] == [("watched", 0), ("labelled", 1)]
    with pytest.raises(results.ResultError, match="method seen is not known"):
        action_free.bench_action_free(["cartpole-swingup"], ["seen"], Budget())


def error_ahead(model, episodes):
    """Of the positions that a model with a memory of two moments says three steps ahead, over how they are spread."""
    given, said = trials_for(model, episodes, 3, 16), []
    for window in range(16):
        moments = [{name: values[window, moment] for name, values in given.observations.items()} for moment in (0, 1)]
        latent = model.observe(model.start(moments[0]), given.actions[window, 0], moments[1])
        for action in given.actions[window, 1:]:
            latent = model.predict(latent, action, jnp.zeros(0))
        said.append(model.readout(latent)["position"])
    seen = given.observations["position"]
    errors = np.sqrt(((np.stack(said) - seen[:, -1]) ** 2).mean(0)) / (seen[:, 1:].reshape(-1, seen.shape[-1]).std(0) + 1e-3)
    return np.sqrt((errors**2).mean())


@pytest.mark.slow
def test_a_model_with_a_memory_beside_noise_is_trained_and_judged_by_what_it_never_saw(monkeypatch):
    parts = {"latent": 4, "hidden": 8, "head": 8, "expander": 8, "memory": "stack", "history": 2}
    view, vicreg = View(("position",), 2), PRESETS["vicreg"]
    plain = mpc.make(TASK.environment, action_repeat=ACTION_REPEAT)
    seen, unseen = (mpc.collect(plain, frames=400, seed=seed, agent=mpc.RandomAgent(plain.spec)) for seed in (5, 6))
    monkeypatch.setitem(TASKS, TASK.name, replace(TASK, horizon=2))
    monkeypatch.setattr(model_cells, "data_of", lambda task, count=0, first=0: unseen if first else seen)
    monkeypatch.setattr(model_cells, "AHEAD", 3)
    monkeypatch.setattr(model_cells, "WINDOWS", 16)
    cell = Cell(TASK.name, "stack", "tiny", vicreg, view, ("position",), parts)
    figures = model_cells.measure(cell, 3, Budget(updates=300, batch=16, episodes=2))

    untrained = worldmodels.JEPA(view.environment(TASK).spec, seed=3, **parts)
    settings = TrainingSettings(batch=16, objective=vicreg.objective)
    model = worldmodels.train(untrained, view.episodes(TASK, seen), settings, updates=300, seed=3)
    shown = view.episodes(TASK, unseen)
    assert figures["open_loop_error"] == pytest.approx(error_ahead(model, shown), rel=1e-3)
    assert figures["open_loop_error"] < 0.5 * error_ahead(untrained, shown)
    ranking = rank_plans(model, shown, horizon=2, moments=model_cells.MOMENTS, predicted=mpc.LearnedCost())
    each = [stats.spearmanr(*costs).statistic for costs in zip(ranking.predicted, ranking.true, strict=True)]
    assert figures["plan_rank_correlation"] == pytest.approx(np.mean(each), abs=1e-3)

    agent = mpc.PlanningAgent(model, mpc.LearnedCost(), planners.ICEM(2, samples=128))
    played = play(view.environment(TASK), agent, range(model_cells.HELD_OUT, model_cells.HELD_OUT + 2), copies=2)
    returns = [-replayed(plain, episode).costs.sum() for episode in played]  # without the noise
    plain.close()
    np.testing.assert_allclose(figures["returns"], returns, atol=0.1)
    assert figures["return_mean"] == pytest.approx(np.mean(returns), abs=0.1)
