"""The pictures of `sailplan bench control`: return against frames and against minutes, a panel a task."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.control_tables import FIXED, PUBLISHED, REFERENCES, SUITE, newest, read_published
from benchmarks.plots import COLOURS, Axis, Series, draw_lines, drawing, write
from benchmarks.provenance import ROOT
from benchmarks.table_text import group, group_by_accelerator, mean_and_interval, short

PICTURES = ROOT / "docs" / "images"
METHODS = {"planner": "blue", "policy": "orange", "compiled": "green"}
AXES = {"frames": (1000, Axis("thousand frames", True)), "minutes": (1, Axis("minutes"))}
COLUMNS = 4


def plot_control(lines: Sequence[dict], folder: Path = PICTURES) -> list[Path]:
    """`control-frames.svg` and `control-minutes.svg` in `folder`, replaced whole.

    A line a method, dashed on an accelerator, with intervals; the true simulator and the published 100,000 frames as levels.
    """
    lines = newest(lines)
    return [_plot(lines, field, folder / f"control-{field}.svg") for field in AXES]


def _plot(lines: Sequence[dict], field: str, path: Path) -> Path:
    learned = [line["task"] for line in lines if line["method"] not in FIXED]
    tasks = [task for task in dict.fromkeys(learned) if task.startswith(SUITE)]
    with drawing() as make_figure:
        rows = -(-len(tasks) // COLUMNS)
        figure = make_figure(figsize=(2.7 * COLUMNS, 0.9 + 2.1 * rows), layout="constrained")
        panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
        for axes, task in zip(panels, tasks, strict=False):
            _draw(axes, task, [line for line in lines if line["task"] == task], field)
        for axes in list(panels)[len(tasks) :]:
            axes.set_axis_off()
        legend = {name: one for axes in figure.axes for one, name in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(legend.values(), legend.keys(), loc="outside upper center", ncols=COLUMNS)
        write(figure, path)
    return path


def _draw(axes: Any, task: str, lines: Sequence[dict], field: str) -> None:
    series, (unit, x_axis) = [], AXES[field]
    for accelerator, part in group_by_accelerator([line for line in lines if line["method"] in METHODS]).items():
        for (method,), cells in group(part, "method").items():
            points = [
                ((mean_and_interval(cell, field)[0] or 0.0) / unit, *mean_and_interval(cell, "return_mean"))
                for cell in group(cells, "frames").values()
            ]
            x, y, interval = zip(*sorted(points), strict=True)
            look = {"colour": METHODS[method], "line": "--" if accelerator else "-", "marker": "o"}
            series.append(Series(f"{method}, {accelerator}" if accelerator else method, x, y, interval=interval, **look))
    draw_lines(axes, series, x_axis, Axis("return", from_zero=True))
    published = read_published(REFERENCES)
    levels = {name: published.get((name, task), ()) for name in PUBLISHED[:2]}
    levels["true simulator"] = [line for line in lines if line["method"] == "simulator"]
    for (name, cell), look in zip(levels.items(), (":", "-.", "-"), strict=True):
        level = mean_and_interval(cell, "return_mean")[0]
        if level is not None:
            said = f"{name}, 100,000 frames" if name in PUBLISHED else name
            axes.axhline(level, color=COLOURS["strong"], linestyle=look, linewidth=1, label=said)
    axes.set_title(short(task), fontsize=8)
