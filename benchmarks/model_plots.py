"""The pictures of the benchmarks that train a model a cell: what z's capacity does, and returns side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.plots import COLOURS, Axis, Series, draw_lines, drawing, write
from benchmarks.provenance import ROOT
from benchmarks.table_text import group, latest, mean_and_interval, short
from worldmodels.jepa import JEPASettings

PICTURES = ROOT / "docs" / "images"
SHARES = {"success_rate": "rocks missed", "modes_covered": "ends covered", "between": "particles between"}


def plot_futures(lines: Sequence[dict], folder: Path = PICTURES) -> Path:
    """`futures.svg` in `folder`, replaced whole: shares against z's codes, 1 where there is no z, and the world's own as a level."""
    world = [line for line in lines if line["method"] == "world"]
    limited = [line for line in lines if line["method"] in ("deterministic", "z")]
    cells = group(limited, "condition").values()
    path = folder / "futures.svg"
    with drawing() as make_figure:
        figure = make_figure(figsize=(9.0, 2.6), layout="constrained")
        for axes, (field, said), colour in zip(
            figure.subplots(1, len(SHARES), sharey=True), SHARES.items(), ("blue", "green", "orange"), strict=True
        ):
            found = [(cell[0]["settings"].get("noise_size", 1), *mean_and_interval(cell, field)) for cell in cells]
            points = sorted((codes, mean, interval or 0.0) for codes, mean, interval in found)
            x, y, interval = zip(*points, strict=True) if points else ((), (), ())
            draw_lines(
                axes,
                [Series("", x, y, colour, interval, marker="o")] if points else [],
                Axis("codes of z", True),
                Axis("share"),
            )
            axes.set_title(said, fontsize=9)
            axes.set_ylim(-0.05, 1.1)
            level = mean_and_interval(world, field)[0]
            if level is not None:
                axes.axhline(level, color=COLOURS["strong"], linestyle="--", linewidth=1)
        write(figure, path)
    return path


def plot_returns(lines: Sequence[dict], path: Path, by: Sequence[str] = ("condition",)) -> Path:
    """A panel a task, a bar for all lines with the same fields `by`, with 95 % intervals; `path` is replaced whole.

    Of models as wide as models are where nothing else is said.
    """
    usual = JEPASettings().hidden
    tasks = group([line for line in latest(lines) if line["settings"].get("hidden", usual) == usual], "task")
    rows = max(len(group(part, *by)) for part in tasks.values())
    with drawing() as make_figure:
        figure = make_figure(figsize=(4.5 * len(tasks), 1.1 + 0.3 * rows), layout="constrained")
        for axes, ((task,), part) in zip(figure.subplots(1, len(tasks), squeeze=False).flat, tasks.items(), strict=True):
            _draw_bars(axes, group(part, *by))
            axes.set_title(short(task), fontsize=9)
        write(figure, path)
    return path


def plot_widths(lines: Sequence[dict], path: Path) -> Path:
    """Return against the width of networks, a line for each objective and condition measured at several; `path` is replaced whole."""
    known = [{**line, "width": line["settings"]["hidden"]} for line in latest(lines) if "hidden" in line["settings"]]
    cells = {names: group(cell, "width") for names, cell in group(known, "task", "method", "condition").items()}
    swept = {names: widths for names, widths in cells.items() if len(widths) > 1}
    methods = list(dict.fromkeys(method for _, method, _ in swept))
    series = []
    for (_, method, condition), widths in swept.items():
        points = sorted((int(width), *mean_and_interval(cell, "return_mean")) for (width,), cell in widths.items())
        x, y, interval = zip(*points, strict=True)
        colour, line = ("blue", "orange", "green", "purple")[methods.index(method)], "-" if condition == "clean" else "--"
        series.append(Series(f"{method}, {condition}", x, y, colour, [half or 0.0 for half in interval], line, "o"))
    with drawing() as make_figure:
        figure = make_figure(figsize=(4.5, 2.8), layout="constrained")
        axes = figure.subplots()
        draw_lines(axes, series, Axis("width of the networks", True), Axis("return of iCEM", from_zero=True))
        axes.legend(fontsize=8, frameon=False)
        write(figure, path)
    return path


def plot_training(lines: Sequence[dict], folder: Path = PICTURES) -> Path:
    """`training.svg` in `folder`, replaced whole: updates a second of each workload of `bench training`, ours and PyTorch's."""
    path = folder / "training.svg"
    timed = [
        {**line, "cores": f"{line['machine']['cores']} cores"} for line in lines if line["method"] in ("sailplan", "pytorch")
    ]
    workloads = group(timed, "task")
    with drawing() as make_figure:
        figure = make_figure(figsize=(4.5 * len(workloads), 1.9), layout="constrained")
        for axes, ((task,), part) in zip(
            figure.subplots(1, len(workloads), squeeze=False).flat, workloads.items(), strict=True
        ):
            _draw_bars(axes, group(part, "method", "cores"), "updates_per_second", "updates a second")
            axes.set_title(task, fontsize=9)
        write(figure, path)
    return path


def _draw_bars(
    axes: Any, cells: Mapping[tuple[str, ...], Sequence[dict]], metric: str = "return_mean", label: str = "return of iCEM"
) -> None:
    found = [mean_and_interval(cell, metric) for cell in cells.values()]
    names = [", ".join(fields) for fields in cells]
    axes.barh(names, [mean for mean, _ in found], height=0.6, color=COLOURS["blue"])
    axes.errorbar(
        [mean for mean, _ in found], names, xerr=[interval or 0.0 for _, interval in found], fmt="none",
        ecolor=COLOURS["strong"], capsize=3,
    )  # fmt: skip
    axes.set_xlabel(label)
    axes.set_xlim(left=0)
    axes.invert_yaxis()
