"""The demo's report: one self-contained HTML file from what a run left in its folder."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks import page
from benchmarks.page import Panel, missing, paragraph
from benchmarks.plots import Axis, Series, bar_panel, distinct, line_panel
from benchmarks.report_curves import learning, open_loop
from benchmarks.table_text import describe, interval_text, measured, number
from benchmarks.tables import METHOD_NAMES
from worldmodels.files import write_aside

ROW_COLOURS = {
    "random": "grid",
    "simulator": "ink",
    "policy": "green",
    "gradient": "orange",
    "cem": "blue",
    "critic": "orange",
    "planner": "blue",
}
"""Word in a row's name -> its colour throughout the page; the first that fits."""

DEMO_ROWS = (
    "Random actions are the floor. iCEM on the true simulator is the ceiling: the planner with a perfect model. Between them "
    "stand the planners on the learned model, and the policy, which answers at once what the planner had to work out."
)

NOT_LEARNED = ("random", "simulator")


class ReportError(ValueError):
    """A folder that a report cannot be made of: what was given, what was expected, what to do."""


def write_report(folder: Path) -> Path:
    """Write `folder/report.html` from the files of a run, replacing it whole, and return its path.

    Reads `summary.json`, `progress.jsonl`, `open_loop.json`, `plans.json` and `videos/*.gif`. What is missing
    or cut off becomes a sentence in its section.

    Raises:
      ReportError: the folder does not exist.
      MissingExtraError: matplotlib is not installed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReportError(f"{folder} is not a folder. Expected the folder of a run, as `sailplan demo` writes it.")
    summary = _read_json(folder / "summary.json")
    summary.setdefault("task", folder.resolve().name)
    progress = _read_progress(folder / "progress.jsonl")
    body = [
        headline(summary),
        results(summary.get("rows", [])),
        learning(progress),
        open_loop(_read_json(folder / "open_loop.json")),
        planners(_read_json(folder / "plans.json").get("planners", [])),
        videos(sorted((folder / "videos").glob("*.gif")), summary),
        time(summary.get("wall_seconds", {})),
        provenance(summary),
    ]
    path = folder / "report.html"
    write_aside(path, page.page(f"{summary['task']}: a Sailplan run", "\n".join(body)).encode())
    return path


def headline(summary: dict) -> str:
    """What this page is, and the figures most people came for."""
    rows = {_kind(row["name"]): row for row in summary.get("rows", [])}
    learned = [
        row for row in summary.get("rows", []) if _kind(row["name"]) not in NOT_LEARNED and measured(row.get("return_mean"))
    ]
    items = []
    if learned:
        best = max(learned, key=lambda row: row["return_mean"])
        items.append(
            (interval_text(best["return_mean"], best.get("return_ci95")), f"best learned return: {_readable(best['name'])}")
        )
        ceiling = rows.get("simulator", {}).get("return_mean")
        if measured(ceiling) and ceiling > 0:
            items.append((f"{100 * best['return_mean'] / ceiling:.0f} %", "of what the planner reaches on the true simulator"))
    if "frames" in summary:
        items.append((number(summary["frames"], None), "frames of experience"))
    if total := summary.get("wall_seconds", {}).get("total"):
        items.append((page.duration(total), "for the whole run"))
    if measured(latency := rows.get("policy", {}).get("decision_ms_p50")):
        items.append((f"{number(latency, 2)} ms", "a decision of the distilled policy, median"))
    opening = (
        "A world model was learned from observed episodes alone. A planner chose actions by imagining their consequences in it, "
        "and a policy was distilled from those plans. This page shows how well each of them controls the task, how far into the "
        "future the model can be trusted, and where the time went."
    )
    rest = (
        page.facts(items)
        if items
        else missing("`summary.json` is not there yet: the run has not ended. Below is what it left so far.")
    )
    return page.header("Sailplan · model-predictive control over a learned world model", str(summary["task"]), opening) + rest


def results(rows: Sequence[dict], text: str = DEMO_ROWS) -> str:
    """The rows as a table, with bars of return and latency; `text` says what they are."""
    if not rows:
        return page.section("Results", missing("Nothing was evaluated: `summary.json` holds no rows."))
    lines = []
    for row in rows:
        cells = [interval_text(row.get("return_mean"), row.get("return_ci95")), number(row.get("episodes"), None)]
        cells += [number(row.get(f"decision_ms_{point}")) for point in ("p50", "p99")]
        lines.append((_colour(row["name"]), _readable(row["name"]), str(row.get("note", "")), cells))
    names, colours = [_short(row["name"]) for row in rows], [_colour(row["name"]) for row in rows]
    means, latency = ([row.get(field) for row in rows] for field in ("return_mean", "decision_ms_p50"))
    texts = [number(mean, None) for mean in means]
    intervals = [row.get("return_ci95") for row in rows]
    panels = [
        Panel(bar_panel(names, means, Axis("return"), texts=texts, intervals=intervals, colours=colours),
              "Return on unseen seeds.", "Higher is better; whiskers are 95 % intervals over episodes."),
        Panel(bar_panel(names, latency, Axis("one decision, ms", True), texts=[f"{number(ms)} ms" for ms in latency], colours=colours),
              "Time of one decision.", "Median on this machine, in powers of ten; lower is better."),
    ]  # fmt: skip
    headings = ("", "Return, mean ±\N{NO-BREAK SPACE}95\N{NO-BREAK SPACE}%", "Episodes", "Decision p50, ms", "Decision p99, ms")
    return page.section("Results", paragraph(text), page.table(headings, lines), page.figures(panels))


def planners(plans: Sequence[dict]) -> str:
    """Cost per iteration and latency of each planner on the same problem."""
    title = "Planners side by side"
    if not plans:
        return page.section(title, missing("The planners were not compared on one decision: `plans.json` is missing."))
    names, colours = [_short(plan["name"]) for plan in plans], [_colour(plan["name"], i) for i, plan in enumerate(plans)]
    series = [
        Series(
            name,
            range(1, len(plan["best_cost"]) + 1),
            plan["best_cost"],
            colour,
            marker="o" if len(plan["best_cost"]) < 20 else "",
        )
        for name, plan, colour in zip(names, plans, colours, strict=True)
    ]
    latency = [plan.get("decision_ms_p50") for plan in plans]
    axis = Axis("one decision, ms", logarithmic=True)
    longest = max(len(plan["best_cost"]) for plan in plans)
    panels = [
        Panel(line_panel(series, Axis("iteration", logarithmic=longest > 30), Axis("best predicted cost")), "Cost reached.",
              "Of the best action sequence so far, as the model predicts it; lower is better."),
        Panel(bar_panel(names, latency, axis, texts=[f"{number(ms)} ms" for ms in latency], colours=colours), "Time of one decision.",
              "An iteration of one planner may cost far more than one of another, so both pictures belong together."),
    ]  # fmt: skip
    return page.section(
        title, paragraph("The same model, cost and starting state, given to each planner."), page.figures(panels)
    )


def videos(files: Sequence[Path], summary: dict) -> str:
    """An episode of each row that was filmed."""
    if not files:
        reason = summary.get("videos") or "this machine had no rendering backend for MuJoCo when the demo ran"
        text = (
            f"No videos: {reason}. Everything else works without one. On Debian or Ubuntu, `apt-get install libegl1 libgl1` "
            "(or `libosmesa6`) gives one; `sailplan doctor` shows what is found. Then run the demo again."
        )
        return page.section("Videos", missing(text))
    rows = summary.get("rows", [])
    places = {_kind(row["name"]): i for i, row in enumerate(rows)} | {_plain(row["name"]): i for i, row in enumerate(rows)}
    items = []
    for file in files:
        place = places.get(_plain(file.stem), places.get(_kind(file.stem), len(rows)))
        row: dict = rows[place] if place < len(rows) else {"name": file.stem}
        text = interval_text(row.get("return_mean"), row.get("return_ci95"))
        caption = f"Mean return {text} over all its episodes." if measured(row.get("return_mean")) else ""
        items.append((place, (file, f"{_readable(row['name'])}.", caption)))
    ordered = [item for _, item in sorted(items, key=lambda placed: placed[0])]
    return page.section("Videos", paragraph("One episode of each."), page.videos(ordered))


def time(seconds: dict) -> str:
    """Where the wall time went."""
    stages = {name: value for name, value in seconds.items() if name != "total" and measured(value)}
    if not stages:
        return page.section("Where the time went", missing("`summary.json` holds no wall times."))
    svg = bar_panel(
        list(stages), list(stages.values()), Axis("seconds"), texts=[page.duration(value) for value in stages.values()]
    )
    total = seconds.get("total")
    text = f"Wall time of each stage; {page.duration(total)} in all." if measured(total) else "Wall time of each stage."
    return page.section("Where the time went", page.figures([Panel(svg, text)]))


def provenance(summary: dict) -> str:
    """Commit, versions, machine, settings: what a rerun needs."""
    items = [
        (name, describe(summary[name]))
        for name in ("task", "commit", "machine", "settings", "seed", "versions")
        if summary.get(name)
    ]
    if len(items) < 2:
        return page.section("Provenance", missing("`summary.json` says neither commit nor versions nor machine."))
    return page.section("Provenance", page.definitions(items))


def _kind(name: str) -> str:
    """The word of `ROW_COLOURS` that a row's or a video's name holds, else its letters and digits."""
    return next((kind for kind in ROW_COLOURS if kind in name.lower()), _plain(name))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()


def _colour(name: str, index: int = 3) -> str:
    return ROW_COLOURS[_kind(name)] if _kind(name) in ROW_COLOURS else distinct(index)["colour"]


def _readable(name: str) -> str:
    return METHOD_NAMES[name] if name in METHOD_NAMES else name[:1].upper() + name[1:]


def _short(name: str) -> str:
    """Names that fit beside a bar."""
    return name if len(name) <= 20 else name[:19] + "…"


def _read_json(path: Path) -> dict:
    """The file's object; empty where the file is missing or cut off."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def _read_progress(path: Path) -> list[dict]:
    """The events of a run; a line cut off by a kill is left out."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [event for event in events if isinstance(event, dict)]
