"""Pictures and films of `sailplan bench mazes` and `doors`: a maze from above, the ways taken, and where the upper level meant to go."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

import mpc
from benchmarks import doors
from benchmarks.maze_learning import MazeLearning, environment, learned
from benchmarks.maze_map import Maze, Way, list_ways, maze_of
from benchmarks.mazes import MazePlanning, make_agent, play
from benchmarks.plots import COLOURS, drawing, write
from benchmarks.provenance import ROOT

PICTURES = ROOT / "docs" / "images"
EVERY = 10  # decisions between the subgoals that a picture shows
LINGERS = 25  # frames that a film stays on its last picture


class Course(NamedTuple):
    """One episode: the robot's positions [T+1, 2], and the subgoals [N, 2] of each of T decisions, metres."""

    way: Way
    places: np.ndarray
    subgoals: list[np.ndarray]
    reached: bool


def course(made: mpc.Environment, agent: mpc.PlanningAgent, upper: Any, way: Way) -> Course:
    """Play `way`; the subgoals as the level `upper` reads them out."""
    taken, places, states = play(made, agent, way, [])
    look = jax.jit(jax.vmap(lambda latent: upper.readout(latent)["observation"][:2]))
    subgoals = [np.asarray(look(state.search.courses[0].states[0])) for state in states]
    return Course(way, np.stack(places), subgoals, taken is not None)


Panel = tuple[str, Maze, Course]


def plot_courses(mazes: Sequence[Panel], path: Path) -> Path:
    """A panel a maze. `path`: `.svg` or `.png`, replaced whole."""
    with drawing() as make_figure:
        figure, panels = _panels(make_figure, mazes)
        for axes, (_, _, one) in zip(panels, mazes, strict=True):
            draw_course(axes, one)
        write(figure, path)
    return path


def film_courses(mazes: Sequence[Panel], path: Path, *, seconds_per_decision: float) -> Path:
    """The same as it goes, a picture a decision and every panel at its own, with the subgoals of that moment. `path`: `.gif`, replaced whole."""
    longest, pictures = max(len(one.places) for _, _, one in mazes), []
    with drawing() as make_figure:
        for moment in range(longest):
            figure, panels = _panels(make_figure, mazes)
            figure.patch.set_facecolor("white")
            for axes, (_, _, one) in zip(panels, mazes, strict=True):
                draw_moment(axes, one, min(moment, len(one.places) - 1))
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=90)
            pictures.append(Image.open(buffer).convert("RGB").quantize(32))
    times = [round(1000 * seconds_per_decision)] * (longest - 1) + [round(1000 * seconds_per_decision) * LINGERS]
    aside = path.with_name(f"{path.name}.aside")
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(aside, format="GIF", save_all=True, append_images=pictures[1:], duration=times, loop=0)
    aside.replace(path)
    return path


def _panels(make_figure: Any, mazes: Sequence[Panel]) -> tuple[Any, Any]:
    """A figure with the empty mazes side by side, and their axes."""
    ratios = [maze.walls.shape[1] for _, maze, _ in mazes]
    height = max(len(maze.walls) for _, maze, _ in mazes)
    figure = make_figure(figsize=(9.0, 0.6 + 9.0 * height / sum(ratios)), layout="constrained")
    panels = figure.subplots(1, len(mazes), squeeze=False, width_ratios=ratios)[0]
    for axes, (task, maze, _) in zip(panels, mazes, strict=True):
        draw_maze(axes, maze)
        axes.set_title(task, fontsize=8)
    return figure, panels


def draw_maze(axes: Any, maze: Maze) -> None:
    height, width = maze.walls.shape
    left, below = -maze.centre
    axes.imshow(maze.walls, cmap="Greys", vmax=2.0, extent=(left, left + width, below, below + height), interpolation="nearest")
    axes.set_axis_off()


def draw_course(axes: Any, course: Course) -> None:
    shown = course.subgoals[::EVERY]
    for number, subgoals in enumerate(shown):
        shade = 0.25 + 0.6 * number / len(shown)
        axes.plot(*subgoals.T, marker="o", markersize=1.8, linewidth=0.6, color=COLOURS["orange"], alpha=shade)
    _draw_way(axes, course, len(course.places))


def draw_moment(axes: Any, course: Course, moment: int) -> None:
    subgoals = course.subgoals[min(moment, len(course.subgoals) - 1)]
    axes.plot(*subgoals.T, marker="o", markersize=3, linewidth=0.8, color=COLOURS["orange"])
    _draw_way(axes, course, moment + 1)
    axes.plot(*course.places[moment], marker="o", markersize=6, color=COLOURS["blue"])


def _draw_way(axes: Any, course: Course, moments: int) -> None:
    axes.plot(*course.places[:moments].T, color=COLOURS["blue"], linewidth=1.4)
    axes.plot(*course.places[0], marker="s", markersize=4, color=COLOURS["blue"])
    axes.plot(*course.way.goal, marker="*", markersize=9, color=COLOURS["green"])


def draw_mazes(tasks: Sequence[str], *, seed: int = 1, folder: Path = PICTURES) -> list[Path]:
    """The first way of each task by two levels, from what `bench mazes` learned: a picture and a film of all of them."""
    learning, planning, panels, seconds = MazeLearning(), MazePlanning(), [], 0.0
    for task in tasks:
        hierarchy, _ = learned(task, seed, learning)
        made, (way,) = environment(task, learning.action_repeat), list_ways(task, 1)
        agent = make_agent("two_level", hierarchy, way, planning)
        panels.append((task, maze_of(task), course(made, agent, hierarchy.upper[0], way)))
        seconds = made.spec.seconds_per_step
        made.close()
    return _both(panels, folder / "mazes.svg", seconds)


def draw_doors(*, seed: int = 1, folder: Path = PICTURES) -> list[Path]:
    """The way on which the door saves most, of those with it open and with it closed, under chance and by the likeliest: picture and film."""
    settings = doors.DoorSettings()
    rooms, _ = doors.learned_rooms(seed, settings)
    made, maps, panels, shown = doors.environment(settings), doors.door_maps(), [], {}
    through, round_ = maps
    for way in doors.door_ways(20):
        saved = doors.metres_between(round_, way.start, way.goal) - doors.metres_between(through, way.start, way.goal)
        made.reset(way.seed)
        shown.setdefault(doors.is_open(made), []).append((saved, way.seed, way))
    for method in ("two_level", "two_level_mean"):
        for is_open, said, maze in ((True, "open", through), (False, "closed", round_)):
            way = max(shown[is_open])[-1]
            played = course(made, doors.make_agent(method, rooms, way, settings), rooms, way)
            panels.append((f"{method}, {said}", maze, played))
    made.close()
    return _both(panels, folder / "doors.svg", made.spec.seconds_per_step)


def _both(panels: Sequence[Panel], path: Path, seconds: float) -> list[Path]:
    return [plot_courses(panels, path), film_courses(panels, path.with_suffix(".gif"), seconds_per_decision=seconds)]
