"""The table of `sailplan bench control`: what was reached on each task by frames, beside what others published, and over all tasks."""

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.table_text import (
    Lines,
    group,
    group_by_accelerator,
    interval_text,
    markdown,
    mean_and_interval,
    number,
    plus_minus,
    provenance,
    short,
)
from mpc.evaluation import confidence_interval

REFERENCES = Path(__file__).parent / "references" / "dmc_returns.csv"
PUBLISHED = ("tdmpc2", "bmpc", "dreamerv3", "sac")
"""Whose figures stand beside ours."""
FIXED = ("random", "simulator")
"""Methods that learn nothing: the same rows whatever the others ran on."""
RESAMPLES = 2000
MODE_1 = {"policy": "Policy", "compiled": "Compiled policy"}
WITHIN = 0.05
"""Of the planner's return, by which a policy may fall behind."""
CELL = ("task", "method", "seed", "frames")

Pick = Callable[[str], Lines]


SUITE = "dm_control/"
"""The tasks that others published, and that are averaged over."""


def control(lines: Lines) -> str:
    """A table for each kind of machine dm_control's tasks were learned on, the one with the most runs to the most frames first."""
    return "\n\n".join(_tables([line for line in lines if line["task"].startswith(SUITE)]))


def short_control(lines: Lines) -> str:
    """The first of these tables, at the most frames alone."""
    lines = [line for line in lines if line["task"].startswith(SUITE)]
    most = max((line["frames"] for line in lines), default=0)
    return _tables([line for line in lines if line["method"] in FIXED or line["frames"] == most])[0]


def gymnasium(lines: Lines) -> str:
    """The same of Gymnasium's own tasks, whose returns have no common scale."""
    return "\n\n".join(_tables([line for line in lines if not line["task"].startswith(SUITE)], averaged=False))


def _tables(lines: Lines, averaged: bool = True) -> list[str]:
    if not lines:
        return ["*Nothing measured yet.*"]
    fixed = [line for line in lines if line["method"] in FIXED]
    parts = _kinds(lines) or [("", fixed)]
    return [_table(name, [*fixed, *part], averaged) for name, part in parts]


def _kinds(lines: Lines) -> list[tuple[str, Lines]]:
    """What was learned on each kind of machine, the one with the most runs to the most frames first."""
    learned = newest([line for line in lines if line["method"] not in FIXED])

    def order(part: tuple[str, Lines]) -> tuple[int, int, str]:
        frames = [line["frames"] for line in part[1]]
        return -max(frames), -frames.count(max(frames)), part[0]

    return sorted(group_by_accelerator(learned).items(), key=order)


def policies(lines: Lines) -> str:
    """One row per task of the first table, at the most frames: Mode-1's return on the same episodes as its planner's.

    Intervals are of the paired differences, as shares of the planner's mean.
    """
    kinds = _kinds([line for line in lines if line["task"].startswith(SUITE)])
    if not kinds:
        return "*Nothing measured yet.*"
    most = max(line["frames"] for line in kinds[0][1])
    part = [line for line in kinds[0][1] if line["frames"] == most]
    rows, kept = [], dict.fromkeys(MODE_1, 0)
    for (task,), cell in group(part, "task").items():
        row = [short(task)]
        for method in MODE_1:
            share, width = _beside_planner(cell, method)
            kept[method] += share - width > -WITHIN
            row.append(f"{100 * share:+.1f} ± {100 * width:.1f} %")
        rows.append([*row, *(number(mean_and_interval(_of(cell, method), "decision_ms_p50")[0], 2) for method in MODE_1)])
    rows.append([f"above −{WITHIN:.0%}", *(f"{count} of {len(rows)}" for count in kept.values()), "", ""])
    headings = ["Task", *(f"{name} − planner" for name in MODE_1.values()), *(f"{name}, p50, ms" for name in MODE_1.values())]
    return f"{markdown(headings, rows)}\n\n*At {most:,} frames.*{provenance(part)}"


def _beside_planner(cell: Lines, method: str) -> tuple[float, float]:
    """Mean difference to the planner over the same episodes of the same seeds, and half its 95 % interval, over the planner's mean."""
    ours, planned = ({line["seed"]: line["returns"] for line in _of(cell, name)} for name in (method, "planner"))
    seeds = sorted(set(ours) & set(planned))
    apart = np.concatenate([np.subtract(ours[seed], planned[seed]) for seed in seeds])
    mean = abs(np.concatenate([planned[seed] for seed in seeds]).mean())
    return float(apart.mean() / mean), confidence_interval(apart) / mean


def _of(cell: Lines, method: str) -> Lines:
    return [line for line in cell if line["method"] == method]


def newest(lines: Lines) -> Lines:
    """Of each cell on each kind of machine the line that was measured last."""
    parts = group_by_accelerator(lines).items()
    return list({(kind, *(line[field] for field in CELL)): line for kind, part in parts for line in part}.values())


def _table(accelerator: str, lines: Lines, averaged: bool) -> str:
    """One row per task: random, the true simulator, planner and policy by frames, and what others published; then over all."""
    published = read_published(REFERENCES)
    frames = sorted({line["frames"] for line in lines if line["method"] == "planner"})
    columns: list[tuple[str, Pick]] = [
        ("Random", lambda task: _chosen(lines, task, "random", 0)),
        ("iCEM on the simulator", lambda task: _chosen(lines, task, "simulator", 0)),
        *((f"Planner, {at:,}", lambda task, at=at: _chosen(lines, task, "planner", at)) for at in frames),
        *((f"Tree search, {at:,}", lambda task, at=at: _chosen(lines, task, "tree", at)) for at in frames[-1:]),
        *((f"Policy, {at:,}", lambda task, at=at: _chosen(lines, task, "policy", at)) for at in frames[-1:]),
        *((f"Compiled policy, {at:,}", lambda task, at=at: _chosen(lines, task, "compiled", at)) for at in frames[-1:]),
        *((f"{name}, 100,000", lambda task, name=name: published.get((name, task), ())) for name in PUBLISHED),
    ]
    tasks = list(dict.fromkeys(line["task"] for line in lines))
    rows = [[short(task), *(plus_minus(pick(task), "return_mean") for _, pick in columns)] for task in tasks]
    for name, aggregate in (("mean", mean), ("interquartile mean", interquartile_mean)) if averaged else ():
        rows.append([name, *(interval_text(*aggregate([pick(task) for task in tasks])) for _, pick in columns)])
    where = f"On one {accelerator}, which all runs shared" if accelerator else "On one core a run"
    minutes = [line["minutes"] for line in lines if frames and (line["method"], line["frames"]) == ("planner", frames[-1])]
    spent = (
        f" Minutes of acting and learning to {frames[-1]:,} frames: {min(minutes):.0f} to {max(minutes):.0f}."
        if minutes
        else ""
    )
    others = " Others' figures: benchmarks/references/dmc_returns.csv, with their sources." if averaged else ""
    note = f"\n\n*{where}.{spent}{others}*"
    return markdown(["Task", *(name for name, _ in columns)], rows, drop_empty=True) + note + provenance(lines)


def surprise(lines: Lines) -> str:
    """One row per task, frames and way of going on after the mass doubled: return, share of always' return and of its updates."""
    always = group([line for line in lines if line["method"] == "always"], "task", "frames")
    rows = []
    for (task, frames, method), cell in group(lines, "task", "frames", "method").items():
        figures = []
        for field in ("return_mean", "updates"):
            ours, whole = (mean_and_interval(each, field)[0] for each in (cell, always.get((task, frames), ())))
            figures.append(f"{number(100 * ours / whole, 3)} %" if ours is not None and whole else "—")
        before = number(mean_and_interval(cell, "return_before")[0])
        rows.append(
            [short(task), f"{int(frames):,}", method, before, plus_minus(cell, "return_mean"), *figures, str(len(cell))]
        )
    heads = ["Task", "Frames", "Learns", "Before", "Return after", "Of always' return", "Of its updates", "Seeds"]
    return markdown(heads, rows) + provenance(lines)


def ablations(lines: Lines) -> str:
    """One row per task, frames and variant, beside the whole agent's return."""
    whole = group([line for line in lines if line["method"] == "whole"], "task", "frames")
    rows = []
    ordered = sorted(lines, key=lambda line: (line["task"], line["frames"]))
    for (task, frames, method), cell in group(ordered, "task", "frames", "method").items():
        ours, reference = (mean_and_interval(each, "return_mean")[0] for each in (cell, whole.get((task, frames), ())))
        share = f"{number(100 * ours / reference, 3)} %" if ours is not None and reference else "—"
        spent = number(mean_and_interval(cell, "minutes")[0], 3)
        said = [method, cell[0]["settings"]["without"], plus_minus(cell, "return_mean"), share, spent, str(len(cell))]
        rows.append([short(task), f"{int(frames):,}", *said])
    heads = ["Task", "Frames", "Variant", "Without", "Return ± 95 %", "Of the whole's", "Minutes", "Seeds"]
    return markdown(heads, rows) + provenance(lines)


def mean(cells: Sequence[Lines]) -> tuple[float | None, float | None]:
    """Of the tasks' means, and the half-width of its 95 % interval from theirs; None unless every task was measured."""
    found = [mean_and_interval(cell, "return_mean") for cell in cells]
    values, intervals = [value for value, _ in found if value is not None], [width for _, width in found if width is not None]
    if not values or len(values) < len(cells):
        return None, None
    width = math.sqrt(sum(width**2 for width in intervals)) / len(cells) if len(intervals) == len(cells) else None
    return sum(values) / len(values), width


def interquartile_mean(cells: Sequence[Lines]) -> tuple[float | None, float | None]:
    """Of all runs on all tasks, the lowest and highest quarter left out (Agarwal et al. 2021, section 4.3); None as for the mean.

    The half-width of its 95 % interval is from resampling the runs of each task; None where a task has but one.
    """
    runs = [np.array([line["return_mean"] for line in cell], float) for cell in cells]
    if not runs or any(len(values) == 0 for values in runs):
        return None, None
    found = float(stats.trim_mean(np.concatenate(runs), 0.25))
    if any(len(values) == 1 for values in runs):
        return found, None
    random = np.random.default_rng(0)
    drawn = np.concatenate([random.choice(values, (RESAMPLES, len(values))) for values in runs], axis=1)
    low, high = np.percentile(stats.trim_mean(drawn, 0.25, axis=1), [2.5, 97.5])
    return found, float(high - low) / 2


def _chosen(lines: Lines, task: str, method: str, frames: int) -> Lines:
    return [line for line in lines if (line["task"], line["method"], line["frames"]) == (task, method, frames)]


def read_published(path: Path) -> dict[tuple[str, str], Lines]:
    """Published mean returns at 100,000 frames by method and task."""
    with path.open(encoding="utf-8") as file:
        return {
            (row["method"], f"dm_control/{row['task']}-v0"): [{"return_mean": float(row["mean_return"])}]
            for row in csv.DictReader(file)
            if row["environment_frames"] == "100000"
        }
