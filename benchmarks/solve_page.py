"""The page of `sailplan solve`: who acts on the new task, how imagination went, and films."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import page, report
from benchmarks.page import Panel, missing, paragraph
from benchmarks.plots import Axis, Series, line_panel
from benchmarks.table_text import interval_text, measured, number

NAMES = {"planner": "planner alone", "policy": "imagined policy"}
UNSEEN = "No videos: nothing draws here. `sailplan doctor` shows what is found, and what to install."


def solve_page(content: dict[str, Any], progress: Sequence[dict[str, Any]], films: Sequence[Path]) -> str:
    """A self-contained HTML page of what `solve.json` and `progress.jsonl` say, with the films."""
    rows = [_row(name, row) for name, row in content["rows"].items()]
    lead = (
        f"A model of {content['task']} was driven by a cost that it was not trained for. A critic and a policy for this cost were learned in "
        "the model's imagination alone, from states that its data show: no environment step, no reward."
    )
    text = (
        "Returns are minus what the cost charges for what was observed, summed over each episode. Random actions are the floor; the planner "
        "alone sees as far as its horizon, with the critic beyond."
    )
    parts = [
        page.header("Sailplan · a task that the model never saw", content["cost"], lead),
        page.facts(_facts(rows, content)),
        report.results(rows, text),
        _imagination(progress),
        report.videos(films, {"rows": rows}) if films else page.section("Videos", missing(UNSEEN)),
        report.provenance(content),
    ]
    return page.page(f"{content['cost']}: a task solved by Sailplan", "\n".join(parts))


def _row(name: str, row: dict[str, Any]) -> dict[str, Any]:
    reacted = row.get("reacted_share")
    note = {} if reacted is None else {"note": f"the policy alone sufficed in {reacted:.0%} of the decisions"}
    return {**row, "name": NAMES.get(name, name), **note}


def _facts(rows: Sequence[dict[str, Any]], content: dict[str, Any]) -> list[tuple[str, str]]:
    learned = [row for row in rows if row["name"] != "random" and measured(row["return_mean"])]
    facts = [(page.duration(60 * content["imagination_minutes"]), "of imagination")]
    if learned:
        best = max(learned, key=lambda row: row["return_mean"])
        facts.insert(0, (interval_text(best["return_mean"], best["return_ci95"]), f"best return: {best['name']}"))
    return facts + [(f"{number(row['decision_ms_p50'], 2)} ms", f"a decision of the {row['name']}, median") for row in rows[2:]]


def _imagination(progress: Sequence[dict[str, Any]]) -> str:
    """What the policy was expected to cost, and the critic's loss, against updates."""

    def curve(field: str, colour: str) -> list[Series]:
        known = [line for line in progress if measured(line[field])]
        return [Series("", [line["updates"] for line in known], [line[field] for line in known], colour, marker="o")]

    panels = [
        Panel(line_panel(curve("cost_to_go", "blue"), Axis("updates"), Axis("cost to go")), "What the policy is expected to cost.",
              "Discounted, along its rollouts; it should fall. Where it does and the return above does not follow, the model "
              "promises what the environment does not hold."),
        Panel(line_panel(curve("loss", "orange"), Axis("updates"), Axis("loss")), "The critic's loss.",
              "How badly it knew what its policy's rollouts cost, in nats."),
    ]  # fmt: skip
    return page.section(
        "Imagination", paragraph("The world model stays as it is; critic and policy learn."), page.figures(panels)
    )
