"""The tables of world models and of what is learned without reward; see `benchmarks.tables`."""

import json
from collections.abc import Callable, Sequence

from benchmarks.control_tables import REFERENCES, read_published
from benchmarks.table_text import (
    Lines,
    group,
    latest,
    markdown,
    mean_and_interval,
    number,
    plus_minus,
    provenance,
    short,
    text_of,
)


def objectives(lines: Lines) -> str:
    """One row per task, objective and condition: the return of iCEM on it, and what its diagnostics said."""
    fields = ("plan_rank_correlation", "effective_rank", "information_x", "prediction_error", "open_loop_error")
    lines, rows = latest(lines), []
    for (task, method, condition), cell in group(lines, "task", "method", "condition").items():
        figures = [number(mean_and_interval(cell, field)[0]) for field in fields]
        caught = f"{sum(bool(line.get('collapse_caught')) for line in cell)} of {len(cell)}"
        rows.append([short(task), method, condition, plus_minus(cell, "return_mean"), *figures, caught])
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
    lines = [{**line, "hidden": str(line["settings"].get("hidden", ""))} for line in latest(lines)]
    references = group([line for line in lines if reference(line)], "task", *alike)
    fields = ("plan_rank_correlation", "effective_rank", "prediction_error", "open_loop_error")
    rows = []
    for (task, method, hidden, condition), cell in group(lines, "task", "method", "hidden", "condition").items():
        whole = references.get(tuple(text_of(cell[0].get(field, "")) for field in ("task", *alike)), ())
        reached, best = (mean_and_interval(each, "return_mean")[0] for each in (cell, whole))
        of = f"{number(100 * reached / best, 2)} %" if reached is not None and best else "—"
        figures = [number(mean_and_interval(cell, field)[0]) for field in fields]
        fallen = sum(bool(line.get("collapse_caught")) for line in cell)
        counts = [f"{fallen} of {len(cell)}" if fallen else "", str(len(cell))]
        rows.append([short(task), method, hidden, condition, plus_minus(cell, "return_mean"), of, *figures, *counts])
    measures = ["Plan ranking", "Effective rank", "Unexplained", "Open-loop error", "Collapse caught", "Seeds"]
    headings = ["Task", kind, "Hidden", "Condition", "Return ± 95 %", share, *measures]
    rows.sort(key=lambda row: (row[:3], row[3] != "clean", row[3]))
    return markdown(headings, rows, drop_empty=True) + provenance(lines)


def action_free(lines: Lines) -> str:
    """One row per task and method: what is left of the return where most actions are not known."""
    return _beside(lines, "Learned from", "Of all labelled", lambda line: line["method"] == "labelled", ())


def pixels(lines: Lines) -> str:
    """One row per task and model: what is left of the state model's return where only pictures are seen."""
    return _beside(lines, "Model of", "Of the state's", lambda line: line["method"] == "state", ())


def futures(lines: Lines) -> str:
    """One row per capacity of z: how iCEM sails on the model, what its particles cover, and its energies."""
    columns = {
        "Plan ranking": "plan_rank_correlation",
        "Ends covered": "modes_covered",
        "Between": "between",
        "Nats in z": "information_z",
        "Energy, all": "energy_true",
        "in a gust": "energy_gust",
        "other action": "energy_other_action",
        "Actions told apart": "actions_told_apart",
        "Open-loop error": "open_loop_error",
    }
    rows = []
    ordered = sorted(
        lines, key=lambda line: (line["method"] != "world", line["settings"].get("noise_size", 1), line["condition"])
    )
    for (condition,), cell in group(ordered, "condition").items():
        figures = [number(mean_and_interval(cell, field)[0]) for field in columns.values()]
        missed = f"{number(100 * (mean_and_interval(cell, 'success_rate')[0] or 0.0))} %"
        rows.append([condition, plus_minus(cell, "return_mean"), missed, *figures, str(len(cell))])
    headings = ["Latent variable", "Return ± 95 %", "Rocks missed", *columns, "Seeds"]
    return markdown(headings, rows) + provenance(lines)


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
    """One row per task, number of cores and method, of fields by their headings."""
    lines = [{**line, "cores": line["machine"]["cores"]} for line in lines]
    rows = [
        [task, method, cores, *(number(mean_and_interval(cell, field)[0]) for field in columns.values())]
        for (task, cores, method), cell in group(lines, "task", "cores", "method").items()
    ]
    if not rows:
        return "*No results yet.*"
    return markdown(["Workload", "Method", "Cores", *columns], rows, drop_empty=True) + provenance(lines)


def many_tasks(lines: Lines) -> str:
    """One row per task: random, the simulator, the agent that learned with the reward, and a model without reward by its frames,
    planning and reacting; what others published that learned with the reward; and the share that the better of ours has of the two to compare with."""
    lines, published = latest(lines), read_published(REFERENCES)
    most = max((line["frames"] for line in lines), default=0)
    found = group(lines, "method", "frames")
    columns = sorted(found, key=lambda column: (int(column[1]), column[0]))
    rows = []
    for (task,), cell in group(lines, "task").items():
        means = {
            method: mean_and_interval(
                [line for line in cell if line["method"] == method and line["frames"] in (0, most)], "return_mean"
            )[0]
            for method in ("planner", "policy", "simulator", "task_agent")
        }
        ours = max((mean for mean in (means["planner"], means["policy"]) if mean is not None), default=None)
        said = (plus_minus([line for line in cell if line in found[column]], "return_mean") for column in columns)
        soonest = min(
            (line["minutes_to_first_good_episode"] for line in cell if "minutes_to_first_good_episode" in line), default=None
        )
        shares = (share(ours, means[other]) for other in ("simulator", "task_agent"))
        seeds = len({line["seed"] for line in cell if line["method"] == "planner"})
        others = (plus_minus(published.get((method, task), ()), "return_mean") for method in OTHERS)
        rows.append([short(task), *said, *others, *shares, number(soonest), str(seeds)])
    names = [
        TOLD.get(method, method.capitalize()) + (f", {int(frames):,} frames" if int(frames) else "")
        for method, frames in columns
    ]
    headings = [
        "Task",
        *names,
        *OTHERS.values(),
        "Better of the two: of the simulator's",
        "of that with the reward",
        "Minutes to a good episode",
        "Seeds",
    ]
    note = "\n\n*Others' figures, at 100,000 frames: benchmarks/references/dmc_returns.csv, with their sources.*"
    return markdown(headings, rows, drop_empty=True) + note + provenance(lines)


OTHERS = {"dreamerv3": "DreamerV3, with the reward", "tdmpc2": "TD-MPC2, with the reward"}
TOLD = {"task_agent": "With the reward"}


def share(ours: float | None, theirs: float | None) -> str:
    """One mean in hundredths of another."""
    return f"{ours / theirs:.0%}" if ours is not None and theirs else "—"


def switching(lines: Lines) -> str:
    """One row per segment: its return after a switch and by a fresh controller, over episodes and seeds."""
    lines, rows = latest(lines), []
    for (task, frames), cell in group(lines, "task", "frames").items():
        of = [[line for line in cell if line["method"] == method] for method in ("switched", "fresh")]
        said = [plus_minus(each, "return_mean") for each in of]
        shared = share(*(mean_and_interval(each, "return_mean")[0] for each in of))
        compiled = max(line["compiled_after_first_switch"] for line in cell)
        rows.append([short(task), f"{int(frames):,}", *said, shared, str(compiled)])
    return markdown(["Segment", "Frames", "Switched", "Fresh", "Share", "Compiled after the first switch"], rows) + provenance(
        lines
    )


def exploration(lines: Lines) -> str:
    """Rows per task and frames: the share of states that each way of acting visited, how new that stayed, what one returns by the model of each.

    Of the seeds that disagreement and pink noise both have, and of white noise where it has them all: what one seed finds is not held
    against another's.
    """
    methods = ("disagreement", "pink", "random")
    rows, shown = [], []
    for (task, frames), cell in group(latest(lines), "task", "frames").items():
        for measure, metric in (("coverage", "coverage"), ("new to the model", "novelty"), ("return", "return_mean")):
            told = [[line for line in cell if line["method"] == method and metric in line] for method in methods]
            seeds = [{line["seed"] for line in each} for each in told]
            if not (common := seeds[0] & seeds[1]):
                continue
            told = [
                [line for line in each if line["seed"] in common] if common <= having else []
                for each, having in zip(told, seeds, strict=True)
            ]
            shown += [line for each in told for line in each]
            rows.append(
                [short(task), f"{int(frames):,}", measure, *(plus_minus(each, metric) for each in told), str(len(common))]
            )
    return markdown(["Task", "Frames", "", "Disagreement", "Pink noise", "White noise", "Seeds"], rows) + provenance(shown)


def video(lines: Lines) -> str:
    """One row per codec and size of frame, the mean over tasks."""
    fields = ("kept_percent", "written_per_second", "read_per_second")
    rows = [
        [method, json.loads(settings)["size"], *(number(mean_and_interval(cell, field)[0]) for field in fields)]
        for (method, settings), cell in group(lines, "method", "settings").items()
    ]
    rows = [[method, f"{size} × {size}", *figures] for method, size, *figures in rows]
    return markdown(["Codec", "Frames", "Kept, %", "Written a second", "Read a second"], rows) + provenance(lines)
