"""Tables of README.md and docs/*.md, written between markers from the lines under `benchmarks/results/`.

<!-- table: demo -->
... replaced by `update` ...
<!-- end table -->
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import control_tables, maze_tables, model_tables
from benchmarks.provenance import ROOT
from benchmarks.results import RESULTS, read_lines
from benchmarks.table_text import (
    Lines,
    group,
    group_by_accelerator,
    markdown,
    mean_and_interval,
    number,
    plus_minus,
    provenance,
    short,
)
from worldmodels.files import write_aside

METHOD_NAMES = {
    "random": "Random actions",
    "simulator": "iCEM on the true simulator (ceiling)",
    "cem": "CEM on the JEPA",
    "gradient": "Gradient on the JEPA",
    "policy": "Distilled policy",
}
"""The demo's methods in the order they are shown, with the names people read."""

_MARKER = re.compile(r"^<!-- (?:table: (?P<name>.*?)|(?P<end>end table)) -->[ \t]*$", re.MULTILINE)


class TableError(ValueError):
    """A marker that cannot be filled: what it says, what was expected, what to do."""


def update(paths: Iterable[Path] | None = None, check: bool = False, results: Path = RESULTS) -> list[Path]:
    """Write every marked table of `paths` anew and return the files that changed; under `check`, that would change.

    Args:
      paths: markdown files; README.md and docs/*.md of this repository if None.
      check: write nothing.
      results: folder of `NAME.jsonl`, one file per table and its views.

    Raises:
      TableError: a file is missing, or a marker names no known table or is not closed. No file is written then.
      ResultError: a results file is damaged.
    """
    if paths is None:
        paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    fresh = {}
    for path in map(Path, paths):
        if not path.is_file():
            raise TableError(f"There is no file {path}. Name markdown files, or run from the folder that holds README.md.")
        text = path.read_text(encoding="utf-8")
        replaced = fill(text, results, source=str(path))
        if replaced != text:
            fresh[path] = replaced
    for path, text in fresh.items() if not check else ():
        write_aside(path, text.encode())
    return list(fresh)


def fill(text: str, results: Path = RESULTS, source: str = "text") -> str:
    """`text` with every marked table written from `results`; `source` names it in errors."""
    pieces, position, name, where = [], 0, None, ""
    for marker in _MARKER.finditer(text):
        here = f"{source}, line {text.count(chr(10), 0, marker.start()) + 1}"
        if marker["end"] is None and name is not None:
            raise TableError(f"{here}: table {name!r} above is still open. Write `<!-- end table -->` below it.")
        if marker["end"] is None:
            pieces.append(text[position : marker.end()])
            position, name, where = marker.end(), str(marker["name"]), here
        elif name is None:
            raise TableError(f"{here}: `end table` closes nothing. Write `<!-- table: NAME -->` above it.")
        else:
            pieces.append(f"\n{_table(name, results, where)}\n")
            position, name = marker.start(), None
    if name is not None:
        raise TableError(f"{where}: table {name!r} is never closed. Write `<!-- end table -->` below it.")
    return "".join(pieces) + text[position:]


def _table(name: str, results: Path, where: str) -> str:
    if name not in TABLES:
        raise TableError(f"{where}: unknown table {name!r}. Known tables: {', '.join(sorted(TABLES))}.")
    source = f"{name.partition('-')[0]}.jsonl"
    lines = read_lines(results / source)
    return TABLES[name](lines) if lines else f"*No results yet in `benchmarks/results/{source}`.*"


def demo(lines: Lines) -> str:
    """One row per task and method of the demo, in the demo's own order."""
    order = list(METHOD_NAMES)
    groups = group(lines, "task", "method")
    ranked = sorted(groups, key=lambda key: (key[0], order.index(key[1]) if key[1] in order else len(order)))
    rows = []
    for task, method in ranked:
        cell = groups[task, method]
        frames, episodes = (number(mean_and_interval(cell, field)[0], None) for field in ("frames", "episodes"))
        latency = [number(mean_and_interval(cell, f"decision_ms_{field}")[0]) for field in ("p50", "p99")]
        rows.append([task, METHOD_NAMES.get(method, method), frames, plus_minus(cell, "return_mean"), episodes, *latency])
    headings = ["Task", "Method", "Frames", "Return, mean ± 95 %", "Episodes", "Decision p50, ms", "Decision p99, ms"]
    return markdown(headings, rows) + provenance(lines)


def speed(lines: Lines) -> str:
    """A table for each kind of machine."""
    return "\n\n".join(map(_speed, group_by_accelerator(lines).values()))


def _speed(lines: Lines) -> str:
    """One row per workload and method: latency, model steps per second, share of the roofline, lead over the peers."""
    rows = []
    for (task, method), cell in sorted(group(lines, "task", "method").items()):
        fields = ("ms_p50", "ms_p99", "model_steps_per_second", "roofline_fraction", "speedup_over_fastest_peer")
        p50, p99, steps, fraction, speedup = (mean_and_interval(cell, field)[0] for field in fields)
        share = "—" if fraction is None else f"{number(100 * fraction, 2)} %"
        lead = "—" if speedup is None else f"{number(speedup, 2)}×"
        rows.append([task, method, number(p50), number(p99), number(steps, None), share, lead])
    headings = [
        "Workload",
        "Method",
        "p50, ms",
        "p99, ms",
        "Model steps per second",
        "Of the roofline",
        "Over the fastest peer",
    ]
    return markdown(headings, rows) + provenance(lines)


def planners(lines: Lines) -> str:
    """One row per task, model, method and settings, over all seeds; a method's rows in the order of their work."""
    rows = []
    for (task, model, method, _), cell in group(lines, "task", "model", "method", "settings").items():
        reached = [plus_minus(cell, metric) for metric in ("return_mean", "cost_mean", "regret_mean")]
        latency, work = (mean_and_interval(cell, field)[0] for field in ("decision_ms_p50", "model_evaluations"))
        seeds = sum(line.get("episodes", 1) for line in cell)
        row = [task, model, method, *reached, number(latency), number(work, None), str(seeds)]
        rows.append(((task, model, method, work or 0.0), row))
    measures = ["Return ± 95 %", "Cost ± 95 %", "Above the optimum ± 95 %"]
    headings = ["Task", "Model", "Method", *measures, "Decision p50, ms", "Model evaluations", "Seeds"]
    return markdown(headings, [row for _, row in sorted(rows)], drop_empty=True) + provenance(lines)


EQUAL_WORK = {"analytic": 512, "simulator": 128, "jepa": 64}
"""Trajectories a decision in the short planner table, by kind of model."""


def planners_short(lines: Lines) -> str:
    """One row per planner at equal work: the return on every task, or how far above the optimum the plan is."""
    chosen = [line for line in lines if line["settings"].get("trajectories") == EQUAL_WORK.get(line["model"])]
    columns = sorted({(line["model"], line["task"]) for line in chosen}, key=lambda key: (list(EQUAL_WORK).index(key[0]), key))
    rows = []
    for method in sorted({line["method"] for line in chosen}):
        row = [method]
        for model, task in columns:
            cell = [line for line in chosen if (line["model"], line["task"], line["method"]) == (model, task, method)]
            reached = "regret_mean" if model == "analytic" else "return_mean"
            row.append(plus_minus(cell, reached))
        rows.append(row)
    headings = ["Planner", *(f"{task}, {model}" for model, task in columns)]
    work = ", ".join(
        f"{count} on the {model} problems" for model, count in EQUAL_WORK.items() if model in {model for model, _ in columns}
    )
    note = "Cost above the optimum of one cold plan on analytic problems (lower is better), return of whole episodes elsewhere"
    return f"{markdown(headings, rows)}\n\n*{note}. Trajectories a decision: {work}.*{provenance(chosen)}"


def runtime(lines: Lines) -> str:
    """One row per task and condition of a controller that drives: what went wrong, and what it still earned."""
    fields = ("decisions", "exceptions", "limit_violations", "unnamed_faults", "deadline_missed")
    times = ("step_ms_p50", "step_ms_p99", "overhead_ms_p99")
    rows = []
    for (task, method), cell in group([line for line in lines if "return_mean" in line], "task", "method").items():
        counts = [number(mean_and_interval(cell, field)[0], None) for field in fields]
        latency = [number(mean_and_interval(cell, field)[0]) for field in times]
        rows.append([short(task), method, *counts, plus_minus(cell, "return_mean"), *latency])
    counted = ["Decisions", "Exceptions", "Outside limits", "Faults unnamed", "Deadlines missed", "Return ± 95 %"]
    timed = ["Step p50, ms", "Step p99, ms", "Beyond planning p99, ms"]
    return markdown(["Task", "Condition", *counted, *timed], rows) + "\n\n" + _alone(lines) + provenance(lines)


def _alone(lines: Lines) -> str:
    """The policy alone in the controller, and what was exported, beside JAX."""
    fields = ("decisions", "step_ms_p50", "step_ms_p99", "jax_ms_p50", "error_p50", "error_max", "memory_growth_mb")
    rows = []
    for (task, method), cell in group([line for line in lines if "return_mean" not in line], "task", "method").items():
        values = [mean_and_interval(cell, field)[0] for field in fields]
        shown = [
            f"{v:.1e}" if name.startswith("error") and v is not None else number(v)
            for name, v in zip(fields, values, strict=True)
        ]
        rows.append([short(task), method, number(values[0], None), *shown[1:]])
    heads = ["Calls", "p50, ms", "p99, ms", "JAX p50, ms", "Error, median", "Error, largest", "Memory, MB more"]
    return markdown(["Task", "What", *heads], rows)


TABLES: dict[str, Callable[[Lines], str]] = {
    "demo": demo,
    "speed": speed,
    "planners": planners,
    "planners-short": planners_short,
    "control": control_tables.control,
    "control-short": control_tables.short_control,
    "surprise": control_tables.surprise,
    "ablations": control_tables.ablations,
    "control-gymnasium": control_tables.gymnasium,
    "control-policies": control_tables.policies,
    "runtime": runtime,
    "mazes": maze_tables.mazes,
    "mazes-differences": maze_tables.differences,
    "horizons": maze_tables.horizons,
    "objectives": model_tables.objectives,
    "partial": model_tables.partial,
    "distractors": model_tables.distractors,
    "futures": model_tables.futures,
    "action_free": model_tables.action_free,
    "pixels": model_tables.pixels,
    "training": model_tables.training,
    "training-loader": model_tables.training_loader,
    "many_tasks": model_tables.many_tasks,
    "switching": model_tables.switching,
    "exploration": model_tables.exploration,
    "video": model_tables.video,
}
"""Marker name -> what writes the table from the lines of `benchmarks/results/NAME.jsonl`; a dash ends the file's name."""
