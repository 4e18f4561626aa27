"""The maze benchmark: maps with known ways, errors ahead of known models, cells that resume, a hierarchy in one folder."""

from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageSequence

import mpc
import planners
import worldmodels
from benchmarks import doors, maze_learning, maze_map, maze_tables, mazes, results
from benchmarks.horizons import errors_ahead
from benchmarks.maze_learning import MazeLearning
from benchmarks.maze_map import GRID, Maze, Way, cells, distances_to, look_up
from benchmarks.maze_plot import Course, film_courses, plot_courses
from benchmarks.maze_results_plot import plot_goals, plot_horizons
from planners import pytree
from tests import tiny

U = Maze(
    np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], bool), np.array([2.5, 2.5])
)


def test_the_way_round_a_wall_is_as_long_as_it_is():
    goal = np.array([-1.0, 1.0])  # upper left
    to_go = jnp.asarray(distances_to(U, goal))
    for position, straight in (([0.0, 1.0], 1.0), ([1.0, 1.0], 2.0)):
        assert abs(float(look_up(to_go, jnp.asarray(U.centre), jnp.array(position))) - straight) < 2 / GRID
    # Below the wall, half a metre away as the crow flies over it: along the wall, round its end, and back.
    behind = float(look_up(to_go, jnp.asarray(U.centre), jnp.array([-1.0, -1.0])))
    assert 3.6 < behind < 5.2
    assert float(look_up(to_go, jnp.asarray(U.centre), jnp.asarray(goal))) < 2 / GRID
    assert {tuple(cell) for cell in cells(U)} == {(-1, 1), (0, 1), (1, 1), (1, 0), (-1, -1), (0, -1), (1, -1)}


def test_a_film_shows_every_moment_of_the_longest_way(tmp_path):
    way = Way(0, np.array([-1.0, 1.0]), np.array([1.0, 1.0]))
    long, short = (
        Course(way, np.linspace(way.start, way.goal, moments), [np.stack([way.start, way.goal])] * (moments - 1), True)
        for moments in (5, 3)
    )
    path = film_courses([("long", U, long), ("short", U, short)], tmp_path / "film.gif", seconds_per_decision=0.04)
    with Image.open(path) as film:
        assert getattr(film, "n_frames", 1) == 5
        shown = [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(film)]
    half = shown[0].shape[1] // 2
    moved = [
        [bool(np.abs(after - before)[:, side].max() > 60) for side in (slice(half), slice(half, None))]
        for before, after in pairwise(shown)
    ]
    assert moved == [[True, True], [True, True], [True, False], [True, False]]
    assert plot_courses([("long", U, long)], tmp_path / "still.svg").read_text().startswith("<?xml")


def hierarchy() -> tuple[mpc.Hierarchy, worldmodels.Episodes]:
    episodes = tiny.episodes(count=4, seed=0)
    settings = worldmodels.TrainingSettings(batch=8, length=2)
    model = worldmodels.train(worldmodels.JEPA(episodes.spec, latent=8, hidden=16), episodes, settings, updates=2)
    above = worldmodels.abstract(model, episodes, 2, settings, codes=4, latent=4, hidden=16, updates=2)
    distances = tuple(mpc.TemporalDistance(size, hidden=16, seed=size) for size in (8, 4))
    return mpc.Hierarchy(model, (above,), distances), episodes


@pytest.mark.slow
def test_levels_that_were_not_made_on_each_other_are_not_saved_and_damage_is_found(tmp_path):
    saved, episodes = hierarchy()
    (above,) = saved.upper
    other = worldmodels.JEPA(episodes.spec, latent=8, hidden=16, seed=9)
    for wrong, words in (
        (saved._replace(model=other), "another model"),
        (saved._replace(model=other, upper=(replace(above, lower=other),)), "the one that it was trained on"),
        (saved._replace(upper=(replace(above, stride=3),)), "at the stride"),
        (saved._replace(distances=saved.distances[::-1]), r"\[4, 8\] features"),
    ):
        with pytest.raises(mpc.HierarchyError, match=words):
            mpc.save_hierarchy(wrong, tmp_path / "levels")
    assert not (tmp_path / "levels").exists()
    planner = mpc.HierarchicalPlanner((planners.RandomShooting(6, samples=8), planners.CategoricalCEM(2, samples=8, elites=2)))
    cost = mpc.cost(lambda readout, action, step: readout["position"][0])
    with pytest.raises(mpc.HierarchyError, match="at the stride"):
        mpc.HierarchicalAgent(saved.model, cost, planner, upper=(replace(above, stride=3),))
    mpc.HierarchicalAgent(saved.model, cost, planner, upper=(above,))
    mpc.save_hierarchy(saved, tmp_path / "levels")
    loaded = mpc.load_agent(tmp_path / "levels", planner, cost=cost)
    assert isinstance(loaded, mpc.HierarchicalAgent) and (len(loaded.upper), len(loaded.distances)) == (1, 1)
    with pytest.raises(mpc.HierarchyError, match="HierarchicalPlanner"):
        mpc.load_agent(tmp_path / "levels", planners.CEM(4))
    with pytest.raises(mpc.CostError, match="the model observes"):
        mpc.learn_distance(saved.model, tiny.episodes(tiny.POSITION))


@pytest.mark.slow
def test_a_hierarchy_comes_back_from_its_folder_as_it_went(tmp_path):
    saved, episodes = hierarchy()
    mpc.save_hierarchy(saved, tmp_path / "levels")
    loaded = mpc.load_hierarchy(tmp_path / "levels")
    seen = {name: value[0] for name, value in episodes[0].observations.items()}
    for before, after in ((saved.model, loaded.model), (saved.upper[0], loaded.upper[0])):
        np.testing.assert_array_equal(before.start(seen), after.start(seen))
    here, there = jnp.arange(4.0), jnp.ones(4)
    np.testing.assert_array_equal(saved.distances[1](here, there), loaded.distances[1](here, there))
    assert loaded.upper[0].stride == 2
    with pytest.raises(worldmodels.CheckpointError, match="expected a model"):
        worldmodels.load(tmp_path / "levels")


POINT = worldmodels.Spec("tiny/point", (("observation", (4,)),), worldmodels.ContinuousAction((-2.0, -2.0), (2.0, 2.0)), 1, 0.1)


@pytree
class Point:
    """A point that goes where it is pushed: its latent is what is observed."""

    @property
    def spec(self):
        return POINT

    def start(self, observation):
        return observation["observation"]

    def predict(self, latent, action, noise):
        return jnp.concatenate([latent[:2] + 0.1 * POINT.action.denormalise(action), latent[2:]])

    def readout(self, latent):
        return {"observation": latent}


@pytree
class Stays(Point):
    """Above it, five steps at a time: nothing ever moves."""

    stride = 5

    @property
    def spec(self):
        return replace(POINT, seconds_per_step=0.5)

    def infer_action(self, latent, following):
        return jnp.zeros((), jnp.int32)

    def predict(self, latent, action, noise):
        return latent


@pytree
class Codes(Stays):
    """Above it: a code says which way a step of five goes, and only it; steps taken from elsewhere are told as if from here."""

    def infer_action(self, latent, following):
        return (following[0] > latent[0]).astype(jnp.int32)

    def predict(self, latent, action, noise):
        return latent.at[0].add(jnp.where(action == 1, 1.0, -1.0))


def test_codes_tell_what_happened_and_steered_ones_lead_back_to_it():
    track = np.interp(
        np.arange(16), [0, 5, 10, 15], [0.0, 0.4, 0.8, 1.2]
    )  # three small steps forward, each told as one of a metre
    seen = np.zeros((16, 4), np.float32)
    seen[:, 0] = track
    piece = worldmodels.Episode({"observation": seen}, np.zeros((15, 2), np.float32), None, False, True, 0)
    errors = errors_ahead(mpc.Hierarchy(Point(), (Codes(),)), worldmodels.Episodes(POINT, (piece,)), 1.5)  # type: ignore[arg-type]
    assert list(errors["level_2"].values()) == pytest.approx([0.0, 0.6, 1.2, 1.8], abs=1e-5)  # +, +, +: three metres
    assert list(errors["level_2_steered"].values()) == pytest.approx([0.0, 0.6, 0.8, 0.2], abs=1e-5)  # +, then - from 1, then +


def test_errors_ahead_are_those_of_the_level_that_predicts():
    random, pieces = np.random.default_rng(0), []
    for _ in range(2):
        actions = random.uniform(-2, 2, (20, 2)).astype(np.float32)
        seen = np.zeros((21, 4), np.float32)
        seen[1:, :2] = 0.1 * np.cumsum(actions, 0)
        pieces.append(worldmodels.Episode({"observation": seen}, actions, None, False, True, 0))
    levels = mpc.Hierarchy(Point(), (Stays(),))  # type: ignore[arg-type]
    errors = errors_ahead(levels, worldmodels.Episodes(POINT, tuple(pieces)), 1.0)
    assert list(errors["level_1"]) == [0.0, 0.5, 1.0]
    assert max(errors["level_1"].values()) < 1e-4  # it knows
    assert errors["level_2"] == errors["still"]
    moved = [
        np.linalg.norm(p.observations["observation"][i + 10, :2] - p.observations["observation"][i, :2])
        for p in pieces
        for i in (0, 10)
    ]
    assert errors["still"][1.0] == pytest.approx(np.mean(moved), rel=1e-5)


def test_measured_cells_are_left_out_and_the_simulator_is_measured_once(monkeypatch, tmp_path):
    monkeypatch.setattr(mazes, "RESULTS", tmp_path / "mazes.jsonl")
    monkeypatch.setattr(mazes, "list_ways", lambda task, episodes: [])

    def cell(key, ways, learning, planning):
        return results.write_line(mazes.RESULTS, {**key, "success_rate": 0.5, "minutes": 0.0})

    monkeypatch.setattr(mazes, "cell", cell)
    measure = partial(mazes.bench_mazes, ["here"], ["two_level", "simulator"], (1, 2), 4)
    assert [(line["method"], line["seed"]) for line in measure(resume=False)] == [
        ("two_level", 1),
        ("simulator", 0),
        ("two_level", 2),
    ]
    assert measure(resume=True) == []
    other = measure(resume=True, learning=MazeLearning(codes=4))  # other settings, other cells; the simulator learns nothing
    assert [(line["method"], line["seed"]) for line in other] == [("two_level", 1), ("two_level", 2)]
    assert "| here | two_level | 10 × 128 × 3, 8 × 128 × 4 | 0.50 ± 0.00 |" in maze_tables.mazes(
        results.read_lines(mazes.RESULTS)[:3]
    )


@pytest.mark.slow
def test_every_method_plays_a_maze_it_learned(monkeypatch, tmp_path):
    pytest.importorskip("gymnasium_robotics")
    monkeypatch.setattr(mazes, "RESULTS", tmp_path / "mazes.jsonl")
    monkeypatch.setattr(maze_learning, "RUNS", tmp_path)
    learning = MazeLearning(
        frames=4_000, updates=4, batch=8, latent=8, hidden=16, codes=4, upper_latent=4, upper_updates=4, distance_updates=4
    )
    planning = mazes.MazePlanning(samples=16, iterations=1, upper_samples=24, upper_iterations=1)
    lines = mazes.bench_mazes(["PointMaze_UMaze-v3"], [], [1], 1, resume=False, learning=learning, planning=planning)
    assert [line["method"] for line in lines] == list(mazes.METHODS)
    assert lines[-1]["success_rate"] == 1.0  # the simulator is told the way
    assert len(list(tmp_path.glob("PointMaze_UMaze-v3-1-*/hierarchy/manifest.json"))) == 1  # learned once for all


def test_a_method_that_is_not_there_is_refused_rather_than_taken_for_another():
    with pytest.raises(results.ResultError, match="method two_levels is not known"):
        mazes.bench_mazes([], ["two_levels"], [1], 1, resume=False)


def line(task, method, seed, seconds):
    reached = [value for value in seconds if value is not None]
    return {
        "task": task,
        "method": method,
        "seed": seed,
        "settings": asdict(mazes.MazePlanning()) | (asdict(MazeLearning()) if method == "two_level" else {}),
        "seconds": seconds,
        "clock": 8.0,
        "success_rate": len(reached) / len(seconds),
    }


def test_two_levels_are_held_against_each_method_seed_by_seed_and_a_miss_lasts_until_the_clock_runs_out():
    task = "PointMaze_Large-v3"
    lines = [
        *(line(task, "two_level", seed, [2.0, 3.0]) for seed in (1, 2)),
        line(task, "one_level", 1, [2.0, None]),
        line(task, "one_level", 2, [None, None]),
        line(task, "one_level_critic", 2, [1.0, 3.0]),
    ]
    rows = [[cell.strip() for cell in row.split("|")[2:-1]] for row in maze_tables.differences(lines).splitlines()[2:]]
    # By seeds 0.5 and 1 more, by ways too: half the distance between two values times t(0.975, 1) = 12.71. Seconds: 2.5 and 5.5, 3 and 5.
    assert rows == [
        ["one_level", "20 × 128 × 3", "0.75 ± 3.18", "0.75 ± 3.18", "4 ± 19", "4 ± 13", "2 × 2"],
        ["one_level_critic", "20 × 128 × 3", "0", "0.00 ± 0.00", "-0.500", "-0.50 ± 6.35", "1 × 2"],
    ]


@pytest.mark.parametrize(("task", "seconds"), [("PointMaze_UMaze-v3", 3.0), ("PointMaze_Large-v3", 8.0), (doors.ID, 4.8)])
def test_the_clock_is_the_environments_own(task, seconds):
    pytest.importorskip("gymnasium_robotics")
    made = mpc.make(task, action_repeat=4)
    assert mazes.clock_of(made) == pytest.approx(seconds)
    made.close()


def test_what_was_measured_is_drawn_with_a_panel_a_maze(tmp_path):
    lines = [
        line(task, method, seed, [1.0, None][: 1 + seed]) for task in mazes.TASKS for method in mazes.METHODS for seed in (0, 1)
    ]
    text = plot_goals(lines, tmp_path / "goals.svg").read_text()
    assert all(name in text for name in ("UMaze", "Medium", "Large", *mazes.METHODS))
    ahead = [
        {"task": mazes.TASKS[0], "method": method, "seed": seed, "seconds": at, "prediction_error": at + seed}
        for method in ("level_1", "level_2", "still") for seed in (0, 1) for at in (0.0, 0.2)
    ]  # fmt: skip
    text = plot_horizons(ahead, tmp_path / "horizons.svg").read_text()
    assert all(name in text for name in ("UMaze", "level_1", "still", "seconds ahead"))


def test_each_search_of_one_level_is_a_row_beside_the_usual_two_levels():
    task = "PointMaze_Large-v3"
    further = {**line(task, "one_level", 1, [2.0, 2.0]), "settings": asdict(mazes.MazePlanning(horizon=40))}
    without = {
        **line(task, "two_level", 1, [None, None]),
        "settings": asdict(MazeLearning()) | asdict(mazes.MazePlanning(leaps=0.0)),
    }
    lines = [
        without,
        *(line(task, "two_level", seed, [2.0, 2.0]) for seed in (1, 2)),
        line(task, "one_level", 1, [2.0, None]),
        further,
    ]
    rows = [[cell.strip() for cell in row.split("|")[3:5]] for row in maze_tables.differences(lines).splitlines()[2:]]
    assert rows == [["20 × 128 × 3", "0.500"], ["40 × 128 × 3", "0"]]


@pytest.mark.parametrize("listed", [lambda: maze_map.list_ways("PointMaze_UMaze-v3", 0), lambda: doors.door_ways(0)])
def test_no_ways_are_refused(listed):
    pytest.importorskip("gymnasium_robotics")
    with pytest.raises(planners.PlannerError, match="episodes=0"):
        listed()


def test_one_level_is_known_by_its_own_settings_alone():
    keys = [
        mazes.cell_key("here", method, 1, 4, MazeLearning(), planning)
        for method in ("one_level", "two_level", "simulator")
        for planning in (mazes.MazePlanning(), mazes.MazePlanning(leaps=0.0, reach=5.0))
    ]
    assert [keys[i] == keys[i + 1] for i in (0, 2, 4)] == [True, False, True]
