"""The pictures of `sailplan bench mazes` and `doors`: a maze from above, the ways taken, and where the upper level meant to go."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import mpc
from benchmarks import doors
from benchmarks.maze_learning import MazeLearning, environment, learned
from benchmarks.maze_map import Maze, Way, list_ways, maze_of
from benchmarks.mazes import MazePlanning, make_agent, play
from benchmarks.plots import COLOURS, drawing, write
from benchmarks.provenance import ROOT

PICTURES = ROOT / "docs" / "images"


class Course(NamedTuple):
    """One episode: the robot's positions [T, 2], and the subgoals [N, 2] of each of some decisions, metres."""

    way: Way
    places: np.ndarray
    subgoals: list[np.ndarray]
    reached: bool


def course(made: mpc.Environment, agent: mpc.PlanningAgent, upper: Any, way: Way, every: int = 10) -> Course:
    """Play `way`; the subgoals of every so many decisions, as the level `upper` reads them out."""
    taken, places, states = play(made, agent, way, [])
    look = jax.jit(jax.vmap(lambda latent: upper.readout(latent)["observation"][:2]))
    subgoals = [np.asarray(look(state.search.courses[0].states[0])) for state in states[::every]]
    return Course(way, np.stack(places), subgoals, taken is not None)


def plot_courses(mazes: Sequence[tuple[str, Maze, Sequence[Course]]], path: Path) -> Path:
    """A panel a maze. `path`: `.svg` or `.png`, replaced whole."""
    with drawing() as make_figure:
        width = sum(maze.walls.shape[1] for _, maze, _ in mazes)
        height = max(len(maze.walls) for _, maze, _ in mazes)
        figure = make_figure(figsize=(9.0, 0.6 + 9.0 * height / width), layout="constrained")
        ratios = [maze.walls.shape[1] for _, maze, _ in mazes]
        panels = figure.subplots(1, len(mazes), squeeze=False, width_ratios=ratios)[0]
        for axes, (task, maze, courses) in zip(panels, mazes, strict=True):
            draw_maze(axes, maze)
            for one in courses:
                draw_course(axes, one)
            axes.set_title(task, fontsize=8)
        write(figure, path)
    return path


def draw_maze(axes: Any, maze: Maze) -> None:
    height, width = maze.walls.shape
    left, below = -maze.centre
    axes.imshow(maze.walls, cmap="Greys", vmax=2.0, extent=(left, left + width, below, below + height), interpolation="nearest")
    axes.set_axis_off()


def draw_course(axes: Any, course: Course) -> None:
    for number, subgoals in enumerate(course.subgoals):
        shade = 0.25 + 0.6 * number / len(course.subgoals)
        axes.plot(*subgoals.T, marker="o", markersize=1.8, linewidth=0.6, color=COLOURS["orange"], alpha=shade)
    axes.plot(*course.places.T, color=COLOURS["blue"], linewidth=1.4)
    axes.plot(*course.places[0], marker="s", markersize=4, color=COLOURS["blue"])
    axes.plot(*course.way.goal, marker="*", markersize=9, color=COLOURS["green"])


def draw_mazes(tasks: Sequence[str], *, seed: int = 1, path: Path = PICTURES / "mazes.svg") -> Path:
    """The first way of each task by two levels, from what `bench mazes` learned."""
    learning, planning, panels = MazeLearning(), MazePlanning(), []
    for task in tasks:
        hierarchy, _ = learned(task, seed, learning)
        made, (way,) = environment(task, learning.action_repeat), list_ways(task, 1)
        agent = make_agent("two_level", hierarchy, way, planning)
        panels.append((task, maze_of(task), [course(made, agent, hierarchy.upper[0], way)]))
        made.close()
    return plot_courses(panels, path)


def draw_doors(*, seed: int = 1, path: Path = PICTURES / "doors.svg") -> Path:
    """The way on which the door saves most, of those with it open and with it closed, under chance and by the likeliest."""
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
            panels.append((f"{method}, {said}", maze, [played]))
    made.close()
    return plot_courses(panels, path)
