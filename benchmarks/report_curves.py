"""The report's curves: how learning went, and how far ahead the model predicts."""

import math
from collections.abc import Sequence

from benchmarks import page
from benchmarks.page import Panel, missing, paragraph
from benchmarks.plots import Axis, Series, distinct, line_panel
from benchmarks.table_text import measured, number

MOST_NAMES = 9  # observed quantities drawn; the rest is only counted
SMALL = (3.3, 2.1)  # inches


def learning(progress: Sequence[dict]) -> str:
    """Return against frames, losses and effective rank against updates, the policy's loss."""
    panels = [*_round_panel(_events(progress, "round")), *_training_panels(_events(progress, "train"))]
    distil = [event for event in _events(progress, "distil") if measured(event.get("loss"))]
    if len(distil) > 1:
        series = [Series("", updates_so_far(distil), [event["loss"] for event in distil], "green")]
        svg = line_panel(series, Axis("updates"), Axis("loss", True))
        panels.append(Panel(svg, "Distilling the policy.", "How far its actions are from the planner's on the same states."))
    if not panels:
        return page.section(
            "Learning", missing("No learning curves: `progress.jsonl` is missing or holds no round and no update.")
        )
    text = (
        "Data come in rounds: a few random episodes first, then episodes in which the planner acts through the model learned so "
        "far. Random actions alone would never visit the states that matter."
    )
    return page.section("Learning", paragraph(text), page.figures(panels))


def _round_panel(rounds: list[dict]) -> list[Panel]:
    rounds = [event for event in rounds if measured(event.get("return_mean"))]
    if not rounds:
        return []
    frames = [event["frames"] for event in rounds]
    episodes = [(event["frames"], value) for event in rounds for value in event.get("returns", [])]
    x, y = [frame for frame, _ in episodes], [value for _, value in episodes]
    series = [Series("each episode", x, y, "grid", line="", marker="o")] if episodes else []
    series.append(Series("mean of the round", frames, [event["return_mean"] for event in rounds], marker="o"))
    svg = line_panel(series, Axis("frames"), Axis("return"))
    return [Panel(svg, "Return of the collected episodes.", "Gathered with exploration noise; the evaluation acts without.")]


def _training_panels(updates: list[dict]) -> list[Panel]:
    panels, steps = [], updates_so_far(updates)
    names = list(dict.fromkeys(name for event in updates for name in event.get("losses", {})))
    if names:
        series = [
            Series(name, steps, [event.get("losses", {}).get(name, math.nan) for event in updates], **distinct(i))
            for i, name in enumerate(names)
        ]
        text = "They may jump where a new round brings states the model has not seen."
        panels.append(Panel(line_panel(series, Axis("updates"), Axis("loss", True)), "Training losses.", text))
    ranks = [
        (step, event["effective_rank"])
        for step, event in zip(steps, updates, strict=True)
        if measured(event.get("effective_rank"))
    ]
    if ranks:
        series = [Series("", [step for step, _ in ranks], [rank for _, rank in ranks], "green")]
        text = "How many independent directions the representation uses; near one it would have collapsed."
        panels.append(
            Panel(
                line_panel(series, Axis("updates"), Axis("effective rank", from_zero=True)),
                "Effective rank of the features.",
                text,
            )
        )
    return panels


def open_loop(data: dict) -> str:
    """Predicted against real trajectories, and the error as the horizon grows."""
    title = "How far the model sees"
    names = list(data.get("names", data.get("error", {})))
    if not names:
        return page.section(title, missing("No open-loop predictions: `open_loop.json` is missing."))
    left_out = len(names) - MOST_NAMES
    rest = missing(f"{left_out} more quantities are in `open_loop.json`, too many to draw here.") if left_out > 0 else ""
    names = names[:MOST_NAMES]
    text = (
        "The model is shown one observation of an episode it was not trained on, then only the actions. Its prediction must stay "
        "on the real trajectory for as long as the planner looks ahead."
    )
    parts, units = [paragraph(text)], data.get("units", {})
    for index, example in enumerate(data.get("examples", [])):
        panels = [
            Panel(_overlay(example, name, units.get(name, "")), f"{name}.") for name in names if name in example.get("real", {})
        ]
        grid = page.figures(panels, small=True)
        parts.append(grid if index == 0 else page.details(f"Example {index + 1}", grid))
    if data.get("error"):
        parts += [
            page.subheading("Error against horizon"),
            paragraph(_verdict(data)),
            page.figures(_error_panels(data, names), small=True),
        ]
    return page.section(title, *parts, rest)


def _overlay(example: dict, name: str, unit: str) -> str:
    series = [
        Series("real", example["time"], example["real"][name], "ink"),
        Series("predicted", example["time"], example.get("predicted", {}).get(name, []), "blue", line="--"),
    ]
    series = [one for one in series if len(one.x) == len(one.y)]
    return line_panel(series, Axis("time, s"), Axis(unit), size=SMALL)


def _error_panels(data: dict, names: Sequence[str]) -> list[Panel]:
    panels = []
    for name in (name for name in names if name in data["error"]):
        seconds = [step * data["seconds_per_step"] for step in data["horizon"]]
        series = [Series("model", seconds, data["error"][name], "blue")]
        if name in data.get("copy_last_error", {}):
            series.append(Series("copy last", seconds, data["copy_last_error"][name], "ink", line="--"))
        panels.append(Panel(line_panel(series, Axis("horizon, s"), Axis("error", from_zero=True), size=SMALL), f"{name}."))
    return panels


def _verdict(data: dict) -> str:
    """One sentence of the model's last error relative to copying the last observation, averaged over quantities."""
    text = "The dashed line is the error of predicting that nothing changes; a model is worth planning with while it stays well below."
    pairs = [
        (data["error"][name][-1], last[-1]) for name, last in data.get("copy_last_error", {}).items() if name in data["error"]
    ]
    ratios = [error / last for error, last in pairs if last > 0 and measured(error)]
    if not ratios:
        return text
    seconds = data["horizon"][-1] * data["seconds_per_step"]
    share = 100 * sum(ratios) / len(ratios)
    return (
        f"{text} After {number(seconds, 2)} s its error is {number(share, 2)} % of that, averaged over the observed quantities."
    )


def _events(progress: Sequence[dict], kind: str) -> list[dict]:
    return [event for event in progress if event.get("event") == kind]


def updates_so_far(events: Sequence[dict]) -> list[float]:
    """Updates since the start of the run, also where each round counts from one."""
    steps, before, last = [], 0.0, 0.0
    for index, event in enumerate(events):
        update = float(event.get("update", index + 1))
        if update < last:
            before += last
        last = update
        steps.append(before + update)
    return steps
