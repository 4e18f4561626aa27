"""Tables of README.md and docs/*.md, written between markers from the lines under `benchmarks/results/`.

<!-- table: demo -->
... replaced by `update` ...
<!-- end table -->
"""

import csv
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from scipy import stats

from benchmarks.provenance import ROOT
from benchmarks.results import RESULTS, read_lines

METHOD_NAMES = {
    "random": "Random actions",
    "simulator": "iCEM on the true simulator (ceiling)",
    "cem": "CEM on the JEPA",
    "gradient": "Gradient on the JEPA",
    "policy": "Distilled policy",
}
"""The demo's methods in the order they are shown, with the names people read."""

REFERENCES = Path(__file__).parent / "references" / "dmc_returns.csv"
PUBLISHED = ("tdmpc2", "bmpc", "dreamerv3", "sac")
"""Whose figures stand beside ours in the control table."""

_MARKER = re.compile(r"^<!-- (?:table: (?P<name>.*?)|(?P<end>end table)) -->[ \t]*$", re.MULTILINE)

Lines = Sequence[dict]


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
        aside = path.with_name(path.name + ".aside")
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
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
    work = ", ".join(f"{count} on the {model} problems" for model, count in EQUAL_WORK.items())
    note = "Cost above the optimum of one cold plan on analytic problems (lower is better), return of whole episodes elsewhere"
    return f"{markdown(headings, rows)}\n\n*{note}. Trajectories a decision: {work}.*{provenance(chosen)}"


def control(lines: Lines) -> str:
    """One row per task: random, the true simulator, planner and policy by frames, and what others published; then the mean."""
    published = read_published(REFERENCES)
    frames = sorted({line["frames"] for line in lines if line["method"] == "planner"})
    columns: list[tuple[str, Callable[[str], Lines]]] = [
        ("Random", lambda task: _chosen(lines, task, "random", 0)),
        ("iCEM on the simulator", lambda task: _chosen(lines, task, "simulator", 0)),
        *((f"Planner, {at:,}", lambda task, at=at: _chosen(lines, task, "planner", at)) for at in frames),
        *((f"Policy, {at:,}", lambda task, at=at: _chosen(lines, task, "policy", at)) for at in frames[-1:]),
        *((f"Compiled policy, {at:,}", lambda task, at=at: _chosen(lines, task, "compiled", at)) for at in frames[-1:]),
        *((f"{name}, 100,000", lambda task, name=name: published.get((name, task), ())) for name in PUBLISHED),
    ]
    tasks = list(dict.fromkeys(line["task"] for line in lines))
    rows = [
        [task.removeprefix("dm_control/").removesuffix("-v0"), *(plus_minus(pick(task), "return_mean") for _, pick in columns)]
        for task in tasks
    ]
    means = []
    for _, pick in columns:
        cells = [mean_and_interval(pick(task), "return_mean")[0] for task in tasks]
        complete = [value for value in cells if value is not None]
        means.append(number(sum(complete) / len(complete), 3) if len(complete) == len(tasks) else "—")
    minutes = (
        [line["minutes"] for line in lines if line["method"] == "planner" and line["frames"] == frames[-1]] if frames else []
    )
    said = (
        f" Minutes of acting and learning to {frames[-1]:,} frames: {min(minutes):.0f} to {max(minutes):.0f}."
        if minutes
        else ""
    )
    note = "\n\n*Others' figures: benchmarks/references/dmc_returns.csv, with their sources." + said + "*"
    headings = ["Task", *(name for name, _ in columns)]
    return markdown(headings, [*rows, ["mean", *means]], drop_empty=True) + note + provenance(lines)


def runtime(lines: Lines) -> str:
    """One row per task and condition of a controller that drives: what went wrong, and what it still earned."""
    fields = ("decisions", "exceptions", "limit_violations", "unnamed_faults", "deadline_missed")
    times = ("step_ms_p50", "step_ms_p99", "overhead_ms_p99")
    rows = []
    for (task, method), cell in group([line for line in lines if "return_mean" in line], "task", "method").items():
        counts = [number(mean_and_interval(cell, field)[0], None) for field in fields]
        latency = [number(mean_and_interval(cell, field)[0]) for field in times]
        rows.append([_short(task), method, *counts, plus_minus(cell, "return_mean"), *latency])
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
        rows.append([_short(task), method, number(values[0], None), *shown[1:]])
    heads = ["Calls", "p50, ms", "p99, ms", "JAX p50, ms", "Error, median", "Error, largest", "Memory, MB more"]
    return markdown(["Task", "What", *heads], rows)


def _short(task: str) -> str:
    return task.removeprefix("dm_control/").removesuffix("-v0")


def objectives(lines: Lines) -> str:
    """One row per task, objective and condition: the return of iCEM on it, and what its diagnostics said."""
    fields = ("plan_rank_correlation", "effective_rank", "information_x", "prediction_error", "open_loop_error")
    rows = []
    for (task, method, condition), cell in group(lines, "task", "method", "condition").items():
        figures = [number(mean_and_interval(cell, field)[0]) for field in fields]
        caught = f"{sum(bool(line.get('collapse_caught')) for line in cell)} of {len(cell)}"
        rows.append([_short(task), method, condition, plus_minus(cell, "return_mean"), *figures, caught])
    measures = ["Plan ranking", "Effective rank", "Nats in s", "Unexplained", "Open-loop error"]
    headings = ["Task", "Objective", "Condition", "Return ± 95 %", *measures, "Collapse caught"]
    return markdown(headings, sorted(rows)) + provenance(lines)


def partial(lines: Lines) -> str:
    """One row per model: its return, and what share that is of the return with everything in sight."""
    return _beside(lines, "Model", "Of the full state's", lambda line: line["method"] == "full-state", ())


def distractors(lines: Lines) -> str:
    """One row per objective, width and amount of noise: its return, and what share of its own return without noise."""
    return _beside(lines, "Objective", "Of the clean return", lambda line: line["condition"] == "clean", ("method", "hidden"))


def _beside(lines: Lines, kind: str, share: str, reference: Callable[[dict], bool], alike: Sequence[str]) -> str:
    """Rows of models, each beside the reference with the same task and fields `alike`."""
    lines = [{**line, "hidden": str(line["settings"].get("hidden", ""))} for line in lines]
    references = group([line for line in lines if reference(line)], "task", *alike)
    fields = ("plan_rank_correlation", "effective_rank", "prediction_error", "open_loop_error")
    rows = []
    for (task, method, hidden, condition), cell in group(lines, "task", "method", "hidden", "condition").items():
        whole = references.get(tuple(_text(cell[0].get(field, "")) for field in ("task", *alike)), ())
        reached, best = (mean_and_interval(each, "return_mean")[0] for each in (cell, whole))
        of = f"{number(100 * reached / best, 2)} %" if reached is not None and best else "—"
        figures = [number(mean_and_interval(cell, field)[0]) for field in fields]
        rows.append([_short(task), method, hidden, condition, plus_minus(cell, "return_mean"), of, *figures, str(len(cell))])
    measures = ["Plan ranking", "Effective rank", "Unexplained", "Open-loop error", "Seeds"]
    headings = ["Task", kind, "Hidden", "Condition", "Return ± 95 %", share, *measures]
    rows.sort(key=lambda row: (row[:3], row[3] != "clean", row[3]))
    return markdown(headings, rows, drop_empty=True) + provenance(lines)


LOADERS = ("device", "loader")


def training(lines: Lines) -> str:
    """One row per workload and method of `bench training`: updates, beside the twin's and the machine's matmul rate."""
    columns = {
        "Updates a second": "updates_per_second",
        "Over PyTorch": "speedup_over_pytorch",
        "Share of the roofline": "roofline_fraction",
        "Matmul, GFLOP/s": "matmul_gflops",
        "Compile, s": "compile_seconds",
        "Busy elsewhere": "busy_elsewhere",
    }
    return _figures([line for line in lines if line["method"] not in LOADERS], columns)


def training_loader(lines: Lines) -> str:
    """One row per workload and source of windows of `bench loader`."""
    columns = {"Updates a second": "updates_per_second", "Windows read a second": "loader_windows_per_second"}
    return _figures([line for line in lines if line["method"] in LOADERS], columns)


def _figures(lines: Lines, columns: dict[str, str]) -> str:
    """One row per task and method, of fields by their headings."""
    rows = [
        [task, method, *(number(mean_and_interval(cell, field)[0]) for field in columns.values())]
        for (task, method), cell in group(lines, "task", "method").items()
    ]
    if not rows:
        return "*No results yet.*"
    return markdown(["Workload", "Method", *columns], rows, drop_empty=True) + provenance(lines)


def many_tasks(lines: Lines) -> str:
    """One row per task: random, the simulator, and a model without reward by its frames, planning and reacting."""
    found = group(lines, "method", "frames")
    columns = sorted(found, key=lambda column: (int(column[1]), column[0]))
    rows = []
    for (task,), cell in group(lines, "task").items():
        said = (plus_minus([line for line in cell if line in found[column]], "return_mean") for column in columns)
        soonest = min(
            (line["minutes_to_first_good_episode"] for line in cell if "minutes_to_first_good_episode" in line), default=None
        )
        rows.append([_short(task), *said, number(soonest)])
    names = [method.capitalize() + (f", {int(frames):,} frames" if int(frames) else "") for method, frames in columns]
    return markdown(["Task", *names, "Minutes to a good episode"], rows) + provenance(lines)


def exploration(lines: Lines) -> str:
    """One row per task and frames: the share of states that each way of acting visited."""
    methods = ("disagreement", "pink", "random")
    rows = []
    for (task, frames), cell in group(lines, "task", "frames").items():
        shares = [plus_minus([line for line in cell if line["method"] == method], "coverage") for method in methods]
        rows.append([_short(task), f"{int(frames):,}", *shares, str(len({line["seed"] for line in cell}))])
    return markdown(["Task", "Frames", "Disagreement", "Pink noise", "White noise", "Seeds"], rows) + provenance(lines)


def video(lines: Lines) -> str:
    """One row per codec and size of frame, the mean over tasks."""
    fields = ("kept_percent", "written_per_second", "read_per_second")
    rows = [
        [method, json.loads(settings)["size"], *(number(mean_and_interval(cell, field)[0]) for field in fields)]
        for (method, settings), cell in group(lines, "method", "settings").items()
    ]
    rows = [[method, f"{size} × {size}", *figures] for method, size, *figures in rows]
    return markdown(["Codec", "Frames", "Kept, %", "Written a second", "Read a second"], rows) + provenance(lines)


def mazes(lines: Lines) -> str:
    """One row per maze and method: goals reached, over seeds, how long it took where they were, and a decision."""
    rows = []
    for (task, method), cell in group(lines, "task", "method").items():
        fields = ("seconds_to_goal", "decision_ms_p50", "decision_ms_mean", "learning_minutes")
        seconds, median, mean, learning = (number(mean_and_interval(cell, field)[0]) for field in fields)
        played = f"{len(cell)} × {cell[0]['settings']['episodes']}"
        rows.append([task, method, plus_minus(cell, "success_rate"), seconds, median, mean, played, learning])
    headings = ["Maze", "Method", "Goals reached ± 95 %", "Seconds", "Decision p50, ms", "mean, ms", "Seeds × ways"]
    return markdown([*headings, "Minutes to learn"], rows) + provenance(lines)


def horizons(lines: Lines) -> str:
    """One row per maze and level: metres that the predicted position is off, by seconds ahead."""
    times = sorted({line["seconds"] for line in lines})
    shown = [min(times, key=lambda time: abs(time - wanted)) for wanted in (0.2, 0.4, 1.0, 2.0, 3.0)]
    rows = []
    for (task, method), cell in group(lines, "task", "method").items():
        errors = [plus_minus([line for line in cell if line["seconds"] == time], "prediction_error") for time in shown]
        rows.append([task, method, *errors])
    return markdown(["Maze", "Predicted by", *(f"{time:g} s" for time in shown)], rows) + provenance(lines)


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


TABLES: dict[str, Callable[[Lines], str]] = {
    "demo": demo,
    "speed": speed,
    "planners": planners,
    "planners-short": planners_short,
    "control": control,
    "runtime": runtime,
    "mazes": mazes,
    "horizons": horizons,
    "objectives": objectives,
    "partial": partial,
    "distractors": distractors,
    "training": training,
    "training-loader": training_loader,
    "many_tasks": many_tasks,
    "exploration": exploration,
    "video": video,
}
"""Marker name -> what writes the table from the lines of `benchmarks/results/NAME.jsonl`; a dash ends the file's name."""


def group(lines: Lines, *fields: str) -> dict[tuple[str, ...], list[dict]]:
    """Lines that agree in `fields` (compared as text, a dict by its JSON)."""
    groups: dict[tuple[str, ...], list[dict]] = {}
    for line in lines:
        groups.setdefault(tuple(_text(line.get(field, "")) for field in fields), []).append(line)
    return groups


def mean_and_interval(cell: Lines, metric: str) -> tuple[float | None, float | None]:
    """Mean of `metric` over the lines of a cell and the half-width of its 95 % interval; (None, None) where unmeasured.

    Over several seeds the interval is Student's t of their values; one line alone keeps the interval it
    measured over its episodes. A value that is not finite makes the mean NaN: a failed seed is not left out.
    """
    measured = [line for line in cell if line.get(metric) is not None]
    if not measured:
        return None, None
    values = [float(line[metric]) for line in measured]
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, measured[0].get(metric.removesuffix("_mean") + "_ci95")
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, float(stats.t.ppf(0.975, len(values) - 1)) * math.sqrt(variance / len(values))


def plus_minus(cell: Lines, metric: str) -> str:
    """`760 ± 25`, both at the digits the interval supports; `—` where unmeasured."""
    return interval_text(*mean_and_interval(cell, metric))


def interval_text(mean: float | None, interval: float | None) -> str:
    """`760 ± 25`; whole numbers from 10 up, two decimals below."""
    if mean is None or interval is None or not math.isfinite(mean) or not math.isfinite(interval):
        return number(mean, 3)
    decimals = 0 if abs(mean) >= 10 or interval >= 10 else 2
    return f"{mean:,.{decimals}f} ± {interval:,.{decimals}f}"


def number(value: float | None, significant: int | None = 3) -> str:
    """`value` for people: so many significant digits (None: a whole number), thousands apart, `—` where unmeasured."""
    if value is None:
        return "—"
    if not math.isfinite(value):
        return "not finite"
    if significant is None or value == 0:
        return f"{value:,.0f}"
    decimals = max(0, significant - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0") if abs(value) < 0.1 else text


def measured(value: Any) -> TypeGuard[float]:
    """Whether `value` is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], drop_empty: bool = False) -> str:
    """A markdown table, figures to the right; `drop_empty` leaves out columns in which nothing was measured."""
    kept = [i for i in range(len(headings)) if not drop_empty or any(row[i] not in ("—", "") for row in rows)]
    figures = [all(re.match(r"[-\d—]|not finite", row[i]) for row in rows) for i in kept]
    lines = [[headings[i] for i in kept], ["---:" if right else "---" for right in figures]]
    lines += [[row[i].replace("|", "\\|") for i in kept] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def provenance(lines: Lines) -> str:
    """A line under the table: which commits and machines the figures come from."""
    commits = sorted({str(line["commit"]) for line in lines if line.get("commit")})
    machines = sorted({_machine(line["machine"]) for line in lines if line.get("machine")})
    if not commits and not machines:
        return ""
    parts = [f"commit {', '.join(commits)}" if commits else "", f"on {'; '.join(machines)}" if machines else ""]
    return f"\n\n*Measured at {' '.join(part for part in parts if part)}.*"


def describe(value: object) -> str:
    """A setting, version list or machine as words: `cores 2, memory_gb 8`."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {describe(part)}" for name, part in value.items() if part is not None)
    return ", ".join(map(describe, value)) if isinstance(value, list | tuple) else str(value)


def _machine(machine: object) -> str:
    """What decides speed: the accelerator or processor, and the cores."""
    if not isinstance(machine, dict):
        return str(machine)
    names = [str(machine[name]) for name in ("accelerator", "cpu") if machine.get(name)]
    return ", ".join([*names, f"{machine['cores']} cores"] if machine.get("cores") else names)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
