"""What `sailplan bench mazes`, `doors` and `horizons` measured, as pictures: goals reached, and how far each level predicts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.maze_tables import best_search
from benchmarks.plots import COLOURS, Axis, Series, draw_lines, drawing, write
from benchmarks.provenance import ROOT
from benchmarks.table_text import group, mean_and_interval, short

PICTURES = ROOT / "docs" / "images"
METHODS = {
    "one_level": "orange",
    "one_level_critic": "purple",
    "two_level": "blue",
    "two_level_mean": "green",
    "simulator": "strong",
}
LEVELS = {"level_1": "orange", "level_2": "blue", "level_2_steered": "green", "still": "strong"}


def plot_goals(lines: Sequence[dict], path: Path = PICTURES / "mazes-goals.svg") -> Path:
    """A panel a maze: the share of goals each method reached, a dot a seed, and the mean with its 95 % interval.

    Each method by its best search (`maze_tables.best_search`).

    Args:
      lines: of `benchmarks/results/mazes.jsonl`.
      path: `.svg` or `.png`, replaced whole.
    """
    tasks = sorted(group(lines, "task").items())
    with drawing() as make_figure:
        figure = make_figure(figsize=(0.8 + 2.3 * len(tasks), 2.4), layout="constrained")
        panels = figure.subplots(1, len(tasks), squeeze=False, sharey=True)[0]
        for axes, ((task,), of_task) in zip(panels, tasks, strict=True):
            for place, (method, colour) in enumerate(METHODS.items()):
                _draw_goals(axes, place, best_search([line for line in of_task if line["method"] == method]), COLOURS[colour])
            axes.set_xlim(-0.03, 1.06)
            axes.set_title(name_of(task), fontsize=9)
        panels[0].set_yticks(range(len(METHODS)), list(METHODS))
        panels[0].set_ylim(len(METHODS) - 0.5, -0.5)
        figure.supxlabel("share of goals reached; a dot a seed, 95 % interval over seeds", fontsize=9)
        write(figure, path)
    return path


def _draw_goals(axes: Any, place: int, cell: Sequence[dict], colour: str) -> None:
    mean, interval = mean_and_interval(cell, "success_rate")
    if mean is None:
        return
    within = [[min(interval or 0.0, mean)], [min(interval or 0.0, 1.0 - mean)]]  # a share is between 0 and 1
    axes.errorbar(mean, place, xerr=within, marker="D", markersize=5, capsize=3, color=colour)
    rates = [line["success_rate"] for line in cell]
    axes.plot(rates, [place + 0.25] * len(rates), linestyle="none", marker="o", markersize=2.5, color=colour, alpha=0.7)


def plot_horizons(lines: Sequence[dict], path: Path = PICTURES / "mazes-horizons.svg") -> Path:
    """A panel a maze: metres that each level's prediction is off, against seconds ahead.

    Args:
      lines: of `benchmarks/results/horizons.jsonl`.
      path: `.svg` or `.png`, replaced whole.
    """
    tasks = group(lines, "task").items()
    with drawing() as make_figure:
        figure = make_figure(figsize=(0.6 + 3.2 * len(tasks), 2.8), layout="constrained")
        panels = figure.subplots(1, len(tasks), squeeze=False)[0]
        for axes, ((task,), of_task) in zip(panels, tasks, strict=True):
            series = []
            for (method,), cells in group(of_task, "method").items():
                points = [
                    (cell[0]["seconds"], *mean_and_interval(cell, "prediction_error"))
                    for cell in group(cells, "seconds").values()
                ]
                x, y, intervals = zip(*sorted(points), strict=True)
                series.append(Series(method, x, y, LEVELS[method], None if None in intervals else intervals, marker="o"))
            draw_lines(axes, series, Axis("seconds ahead"), Axis("metres off" if axes is panels[0] else "", from_zero=True))
            axes.set_title(name_of(task), fontsize=9)
        panels[0].legend()
        write(figure, path)
    return path


def name_of(task: str) -> str:
    return short(task).removeprefix("PointMaze_").removesuffix("-v3")
