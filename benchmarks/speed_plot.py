"""The picture of `sailplan bench speed`: how long a decision takes, ours and the peers', and how it grows."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.plots import COLOURS, drawing, write

PEERS = ("pytorch", "stable-worldmodel")
ABSENT = ("matmul-roofline",)  # methods that are no decision


def plot_speed(lines: Sequence[dict], path: Path) -> Path:
    """One panel a workload with peers: the milliseconds of every method, on a logarithmic axis, 99th percentile as a whisker.

    Args:
      lines: of `benchmarks/results/speed.jsonl`.
      path: `.svg` or `.png`, replaced whole.

    Raises:
      ValueError: no workload was measured beside a peer.
    """
    tasks = [task for task in dict.fromkeys(line["task"] for line in lines) if _compared(lines, task)]
    if not tasks:
        text = f"{len(lines)} lines, none of a workload that a peer ran too: nothing to plot."
        raise ValueError(f"{text} Install the peers and run sailplan bench speed.")
    with drawing() as make_figure:
        figure = make_figure(figsize=(9.0, 0.5 + 2.6 * -(-len(tasks) // 2)), layout="constrained")
        panels = figure.subplots(-(-len(tasks) // 2), 2, squeeze=False).flat
        for axes, task in zip(panels, tasks, strict=False):
            _draw(axes, task, [line for line in lines if line["task"] == task and line["method"] not in ABSENT])
        for axes in list(panels)[len(tasks) :]:
            axes.set_axis_off()
        write(figure, path)
    return path


def _compared(lines: Sequence[dict], task: str) -> bool:
    return any(line["method"].startswith(PEERS) for line in lines if line["task"] == task)


def _draw(axes: Any, task: str, lines: Sequence[dict]) -> None:
    lines = sorted(lines, key=lambda line: line["ms_p50"])
    for place, line in enumerate(lines):
        colour = COLOURS["orange" if line["method"].startswith(PEERS) else "blue"]
        tail = [[0.0], [max(0.0, line["ms_p99"] - line["ms_p50"])]]
        axes.errorbar([line["ms_p50"]], [-place], xerr=tail, marker="o", markersize=4, capsize=2, color=colour)
    axes.set_yticks([-place for place in range(len(lines))], [line["method"] for line in lines], fontsize=7)
    axes.set_xscale("log")
    axes.set_title(re.sub("-(?=[a-z])", ", ", task), fontsize=8)
    axes.set_xlabel("decision, ms: median, 99th percentile")
