"""The page of `sailplan diagnose`: each figure with how to read it."""

from typing import Any

from benchmarks import page
from benchmarks.page import Panel, missing, paragraph
from benchmarks.plots import Axis, Series, bar_panel, line_panel

MOST_NAMES = 9  # observed quantities drawn; the rest is only counted
SMALL = (3.3, 2.1)  # inches
METHODS = {"model": ("model", "blue", "-"), "copy": ("copy", "grid", "--"), "linear": ("linear", "orange", ":")}
STEPS = Axis("steps ahead")


def diagnosis_page(figures: dict[str, Any]) -> str:
    """A self-contained HTML page of what `worldmodels.diagnostics.diagnose` and the ranking of plans found."""
    lead = (
        f"{figures['windows']} moments of {figures['episodes']} episodes, each predicted {figures['horizon']} steps "
        f"({figures['horizon'] * figures['seconds_per_step']:.3g} s) ahead without looking."
    )
    if figures["held_out"] == "windows":
        lead += " Probes and baselines are measured on windows that overlap with those they were fitted on, and look too good."
    parts = [
        page.header("Diagnosis of a world model", figures["environment"], lead),
        page.facts(_facts(figures)),
        _plans(figures["plans"]),
        _open_loop(figures),
        _calibration(figures),
        _actions(figures["actions"], figures["horizon"]),
        _readouts(figures["readout"]),
        _representation(figures["representation"]),
        page.section("Where from", page.definitions([(name, str(figures[name])) for name in ("model", "data", "seed")])),
    ]
    return page.page(f"Diagnosis: {figures['environment']}", "\n".join(parts))


def _facts(figures: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [
        (f"{figures['open_loop_score']:.3g}", "open-loop error, standard deviations; 1 is guessing the mean"),
        (f"{figures['representation']['effective_rank']:.1f}", f"effective rank, of {figures['representation']['size']}"),
        (f"{figures['actions']['shuffled'][0]:.3g}×", "error one step ahead under wrong actions"),
    ]
    if "spearman" in figures["plans"]:
        facts.insert(0, (f"{figures['plans']['spearman']:.2f}", "rank correlation of plans with the true simulator"))
    return facts


def _plans(plans: dict[str, Any]) -> str:
    title = "Does it rank plans as the world does?"
    if "missing" in plans:
        return page.section(title, missing(plans["missing"]))
    predicted, true = zip(*plans["places"], strict=True)
    scatter = line_panel(
        [Series("", predicted, true, line="", marker="o")], Axis("place by predicted cost"), Axis("place by true cost")
    )
    each = plans["each"]
    bars = bar_panel(
        [f"moment {i + 1}" for i in range(len(each))],
        each,
        Axis("rank correlation"),
        texts=[f"{value:.2f}" for value in each],
    )
    text = (
        f"The same {plans['candidates']} plans of {plans['horizon']} actions, half of them random and half near what was done, "
        "costed by the model and by MuJoCo. 1 is the order of the world, 0 chance. The plan the model liked best was, in the world, beaten "
        f"by {100 * plans['best_rank']:.0f} % of the others."
    )
    panels = [
        Panel(
            scatter,
            "Every plan.",
            "Its place among those of its moment, 0 the cheapest. A rising diagonal is what planning needs.",
        ),
        Panel(bars, "Moment by moment.", "A low bar is a situation in which the planner is misled."),
    ]
    return page.section(title, paragraph(text), page.figures(panels))


def _open_loop(figures: dict[str, Any]) -> str:
    errors = figures["open_loop"]
    steps = list(range(1, figures["horizon"] + 1))
    text = (
        "Root mean squared error of predictions made without looking, as a share of each quantity's own standard deviation: 1 is guessing "
        "its mean. A model worth planning with stays below both baselines as far as a plan reaches: copy, by which nothing changes, and "
        "linear regression of the next observation on this one and the action, rolled out."
    )
    parts = [paragraph(text)]
    panels = [Panel(_three({m: errors["features"][m] for m in METHODS}, steps), "The features.", "All components together.")]
    if "model" in errors:
        shown = errors["names"][:MOST_NAMES]
        panels += [Panel(_three({m: errors[m][name] for m in METHODS}, steps), name) for name in shown]
        if len(errors["names"]) > len(shown):
            parts.append(paragraph(f"{len(shown)} of {len(errors['names'])} observed quantities; the JSON holds all."))
    else:
        parts.append(missing("The model observes images alone: only its features can be compared."))
    return page.section("How far ahead does it see?", *parts, page.figures(panels, small=True))


def _three(errors: dict[str, list[float]], steps: list[int]) -> str:
    """Errors above three deviations are left out, so that a baseline that explodes does not hide the rest."""
    series = [
        Series(label, steps, [value if value <= 3 else float("nan") for value in errors[method]], colour, line=line)
        for method, (label, colour, line) in METHODS.items()
    ]
    return line_panel(series, STEPS, Axis("relative error", from_zero=True), SMALL)


def _calibration(figures: dict[str, Any]) -> str:
    title, found = "Does its uncertainty cover what happens?", figures["calibration"]
    if found is None:
        return page.section(title, missing("The model is deterministic, or reads nothing out: it has one future only."))
    steps = list(range(1, figures["horizon"] + 1))
    colours = ("blue", "orange", "green")
    coverage = []
    for (level, values), colour in zip(found["coverage"].items(), colours, strict=True):
        coverage.append(Series(f"{100 * float(level):.0f} %", steps, values, colour))
        coverage.append(Series("", [steps[0], steps[-1]], [float(level)] * 2, colour, line=":"))
    ratio = [Series("", steps, found["spread_over_error"]), Series("", [1, steps[-1]], [1, 1], "grid", line="--")]
    tenths = [0.1 * (i + 0.5) for i in range(len(found["ranks"]))]
    ranks = [Series("", tenths, found["ranks"], marker="o"), Series("", [0, 1], [1 / len(tenths)] * 2, "grid", line="--")]
    panels = [
        Panel(
            line_panel(coverage, STEPS, Axis("share covered"), SMALL),
            "Coverage.",
            "Each line should lie on its dotted one; below it the model is too sure.",
        ),
        Panel(
            line_panel(ratio, STEPS, Axis("spread / error", from_zero=True), SMALL),
            "Spread over error.",
            "1 is calibrated, below 1 too sure, above 1 too timid.",
        ),
        Panel(
            line_panel(ranks, Axis("place of the truth among the futures"), Axis("share", from_zero=True), SMALL),
            "Ranks.",
            "Flat is calibrated; a U is too narrow, a hill too wide, a slope biased.",
        ),
    ]
    return page.section(
        title, paragraph(f"{found['futures']} futures drawn from each moment."), page.figures(panels, small=True)
    )


def _actions(found: dict[str, list[float]], horizon: int) -> str:
    components = found["components"]
    bars = bar_panel(
        [f"action {i}" for i in range(len(components))],
        components,
        Axis("movement, standard deviations"),
        texts=[f"{value:.3g}" for value in components],
    )
    series = [Series("", list(range(1, horizon + 1)), found["shuffled"]), Series("", [1, horizon], [1, 1], "grid", line="--")]
    panels = [
        Panel(bars, "One step, from one end to the other.", "How far the features move; an action near 0 is not heeded."),
        Panel(
            line_panel(series, STEPS, Axis("error under wrong / true actions")),
            "Another episode's actions.",
            "1 means that actions do not matter to the model: it can describe, but not plan.",
        ),
    ]
    return page.section("Does it heed actions?", page.figures(panels))


def _readouts(found: dict[str, dict[str, float | None]]) -> str:
    title = "What can be read from its features?"
    if not found:
        return page.section(title, missing("Nothing but images is observed."))

    def cell(value: float | None) -> str:
        return "constant" if value is None else f"{value:.4f}"

    rows = [("blue", name, "", (cell(row["linear"]), cell(row["readout"]))) for name, row in found.items()]
    text = "R², the share of each quantity's variance on unseen episodes: by a linear probe of the features, and by the model's readout."
    return page.section(title, paragraph(text), page.table(("quantity", "linear probe", "readout"), rows))


def _representation(found: dict[str, Any]) -> str:
    deviations = found["deviations"]
    line = line_panel(
        [Series("", list(range(1, len(deviations) + 1)), deviations)], Axis("component"), Axis("deviation", from_zero=True)
    )
    text = (
        f"The features use {found['effective_rank']:.1f} of {found['size']} directions; their components correlate by "
        f"{found['correlation']:.2f} (root mean square; covariance {found['covariance']:.3g}). A rank near 1, or deviations near 0, is "
        "collapse; a rank far below the size is room unused, which may be all the world needs."
    )
    panel = Panel(
        line, "Standard deviation of each component.", "Sorted. A cliff means that the components behind it say nothing."
    )
    return page.section("How is the representation spread?", paragraph(text), page.figures([panel]))
