"""Pictures of `sailplan bench many-tasks` and `exploration`: returns, what was visited, and how new that stayed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.plots import COLOURS, Axis, Series, draw_lines, drawing, write
from benchmarks.provenance import ROOT
from benchmarks.table_text import group, latest, mean_and_interval, short
from mpc.exploration import flat
from worldmodels.data import Episode

PICTURES = ROOT / "docs" / "images"
METHODS = {"random": "strong", "simulator": "purple", "planner": "blue", "policy": "orange"}
BINS = 48  # of an axis, where what was visited is shown
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


def plot_visited(bodies: Mapping[str, tuple[Any, Visited, Mapping[str, np.ndarray]]], folder: Path = PICTURES) -> Path:
    """`exploration.svg` in `folder`, replaced whole: a row a body, of what each method visited, and how new it stayed.

    Visited states are shown along the two directions in which those of all methods together vary most, each component counted in
    its own deviations.

    Args:
      bodies: by name the spec, each method's episodes, and how new each of the last of them was to a model of those before.
    """
    path = folder / "exploration.svg"
    with drawing() as make_figure:
        columns = 1 + max(len(visited) for _, visited, _ in bodies.values())
        figure = make_figure(figsize=(2.3 * columns, 0.4 + 2.1 * len(bodies)), layout="constrained")
        panels = figure.subplots(len(bodies), columns, squeeze=False)
        for row, (body, (spec, visited, new)) in zip(panels, bodies.items(), strict=True):
            states = {name: np.concatenate([flat(one, spec) for one in episodes]) for name, episodes in visited.items()}
            for axes, (name, points) in zip(row, projected(states).items(), strict=False):
                _draw_visited(axes, points)
                axes.set_title(f"{body}, {name}", fontsize=9)
            curves = [
                replace(_course(name, values, len(visited[name])), colour=colour)
                for (name, values), colour in zip(new.items(), ("blue", "orange", "strong"), strict=False)
            ]
            draw_lines(row[-1], curves, Axis("episode"), Axis("new to the model", logarithmic=True))
            row[-1].legend(fontsize=8)
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


def _course(name: str, values: np.ndarray, episodes: int) -> Series:
    """How new the last `len(values)` of `episodes` were, the mean of a few neighbours each."""
    width = max(1, len(values) // 10)
    means = np.convolve(values, np.ones(width) / width, "valid")
    return Series(name, range(episodes - len(means), episodes), means.tolist())


def _draw_visited(axes: Any, points: np.ndarray) -> None:
    counts, _, _ = np.histogram2d(*points.T, bins=BINS, range=[[0, 1], [0, 1]])
    axes.imshow(np.log1p(counts.T), cmap="Blues", origin="lower", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
