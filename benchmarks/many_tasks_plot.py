"""Pictures and films of `sailplan bench many-tasks` and `exploration`: returns, what was visited, and one model at all its tasks."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mpc
from benchmarks import many_tasks, results
from benchmarks.plots import COLOURS, Axis, Series, draw_lines, drawing, write
from benchmarks.provenance import ROOT
from benchmarks.table_text import group, latest, mean_and_interval, short
from mpc.acting import play
from mpc.evaluation import HELD_OUT
from mpc.exploration import flat
from worldmodels.data import Episode

PICTURES = ROOT / "docs" / "images"
METHODS = {"random": "strong", "simulator": "purple", "planner": "blue", "policy": "orange"}
BINS = 48  # of an axis, where what was visited is shown
SIZE = 128, 96  # of a film's panel, pixels
COLUMNS = 5
SECONDS, PER_SECOND = 8.0, 10
Visited = Mapping[str, Sequence[Episode]]
"""What each method did, by its name."""


def plot_tasks(lines: Sequence[dict], folder: Path = PICTURES) -> Path:
    """`many-tasks.svg` in `folder`, replaced whole: a row a task, a mark a method at its return, of the most frames, with its interval."""
    tasks, path = group(latest(lines), "task"), folder / "many-tasks.svg"
    with drawing() as make_figure:
        figure = make_figure(figsize=(7.0, 1.0 + 0.36 * len(tasks)), layout="constrained")
        axes = figure.subplots()
        for place, (method, colour) in enumerate(METHODS.items()):
            rows, means, intervals = [], [], []
            for row, cell in enumerate(tasks.values()):
                of_method = [line for line in cell if line["method"] == method]
                most = max((line["frames"] for line in of_method), default=0)
                mean, interval = mean_and_interval([line for line in of_method if line["frames"] == most], "return_mean")
                if mean is not None:
                    rows.append(row + 0.16 * (place - 1.5))
                    means.append(mean)
                    intervals.append(interval or 0.0)
            if rows:
                axes.errorbar(means, rows, xerr=intervals, fmt="osD^"[place], color=COLOURS[colour], label=method, markersize=4)
        axes.set_yticks(range(len(tasks)), [short(task) for (task,) in tasks])
        axes.set_ylim(len(tasks) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel("return")
        figure.legend(loc="outside upper center", ncols=len(METHODS))
        write(figure, path)
    return path


def plot_visited(bodies: Mapping[str, tuple[Any, Visited, Path]], folder: Path = PICTURES) -> Path:
    """`exploration.svg` in `folder`, replaced whole: a row a body, of what each method visited, and how new it was to the model.

    Visited states are shown along the two directions in which those of all methods together vary most, each component counted in
    its own deviations.

    Args:
      bodies: by name the spec, each method's episodes, and the progress file of the run that explored.
    """
    path = folder / "exploration.svg"
    with drawing() as make_figure:
        columns = 1 + max(len(visited) for _, visited, _ in bodies.values())
        figure = make_figure(figsize=(2.3 * columns, 0.4 + 2.1 * len(bodies)), layout="constrained")
        panels = figure.subplots(len(bodies), columns, squeeze=False)
        for row, (body, (spec, visited, progress)) in zip(panels, bodies.items(), strict=True):
            states = {name: np.concatenate([flat(one, spec) for one in episodes]) for name, episodes in visited.items()}
            for axes, (name, points) in zip(row, projected(states).items(), strict=False):
                _draw_visited(axes, points)
                axes.set_title(f"{body}, {name}", fontsize=9)
            reports = [json.loads(line) for line in progress.read_text().splitlines()]
            known = [(report["frames"] / 1000, report["novelty"]) for report in reports if report["novelty"] is not None]
            if known:
                x, y = zip(*known, strict=True)
                draw_lines(row[-1], [Series("", x, y)], Axis("thousand frames"), Axis("new to the model", logarithmic=True))
        write(figure, path)
    return path


def projected(states: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """States [N, D] by name, each as [N, 2] along the two principal directions of all together, between 0 and 1."""
    together = np.concatenate(list(states.values()))
    mean, deviation = together.mean(0), together.std(0)
    scale = np.where(deviation > 1e-6, deviation, np.inf)
    _, _, directions = np.linalg.svd((together - mean) / scale, full_matrices=False)
    points = {name: ((each - mean) / scale) @ directions[:2].T for name, each in states.items()}
    low = np.min([each.min(0) for each in points.values()], 0)
    high = np.max([each.max(0) for each in points.values()], 0)
    return {name: (each - low) / np.maximum(high - low, 1e-12) for name, each in points.items()}


def _draw_visited(axes: Any, points: np.ndarray) -> None:
    counts, _, _ = np.histogram2d(*points.T, bins=BINS, range=[[0, 1], [0, 1]])
    axes.imshow(np.log1p(counts.T), cmap="Blues", origin="lower", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)


def film_tasks(bodies: Sequence[str], seed: int, frames: int, updates: int, path: Path = PICTURES / "many-tasks.gif") -> Path:
    """The planner at all tasks of `bodies` side by side, in real time; what `bench many-tasks` learned. `path` is replaced whole.

    Raises `RenderingError` before anything is learned where no backend draws.
    """
    panels, bodies = [], results.choose("body", bodies, many_tasks.BODIES)
    mpc.record(many_tasks.environment_of(bodies[0], many_tasks.BODIES[bodies[0]][0]), [], HELD_OUT)
    for body in bodies:
        model, dataset = many_tasks.explored(body, seed, frames)
        for task in many_tasks.BODIES[body][1]:
            run, name = many_tasks.folder(body, seed, frames), f"{body}.{task}"
            agents, _ = many_tasks.imagined(run, model, dataset, name, updates, seed)
            environment = many_tasks.environment_of(body, task)
            panels.append(filmed(environment, agents["planner"]))
            environment.close()
    columns = -(-len(panels) // -(-len(panels) // COLUMNS))
    empty = [np.full_like(panels[0], 255)] * (-len(panels) % columns)
    rows = np.split(np.stack(panels + empty), range(columns, len(panels), columns))
    path.parent.mkdir(parents=True, exist_ok=True)
    mpc.write_gif(path, np.concatenate([np.concatenate(list(row), 2) for row in rows], 1), 1 / PER_SECOND)
    return path


def filmed(environment: mpc.Environment, agent: Any) -> np.ndarray:
    """The first seconds of one episode, uint8 [T, H, W, 3], a fixed number of frames a second, the last repeated where it ended before."""
    decisions = int(np.ceil(SECONDS / environment.spec.seconds_per_step))
    (episode,) = play(environment, agent, [HELD_OUT], budget=decisions)
    taken = mpc.record(environment, episode.actions, HELD_OUT, width=SIZE[0], height=SIZE[1])
    moments = np.arange(round(SECONDS * PER_SECOND)) / PER_SECOND
    return taken[np.minimum((moments / environment.spec.seconds_per_step).astype(int), len(taken) - 1)]
