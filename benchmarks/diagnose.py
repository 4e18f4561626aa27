"""`sailplan diagnose`: what a model is worth on recorded episodes, as JSON and as a page."""

from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

import mpc
import worldmodels
from benchmarks.diagnosis_page import diagnosis_page
from benchmarks.json_file import write_json
from mpc.learning.storage import load_learned
from mpc.ranking import UNRANKED, rank_plans, ranks
from planners.errors import require_positive
from worldmodels import manifest
from worldmodels.diagnostics import diagnose as measure
from worldmodels.errors import WorldModelError
from worldmodels.files import require_writable

console = Console(markup=False)
MOST_POINTS = 512  # of the scatter of plans, kept in the JSON


def diagnose(
    model: tyro.conf.Positional[Path],
    data: tyro.conf.Positional[Path],
    out: Path,
    horizon: int = 40,
    windows: int = 256,
    futures: int = 32,
    plans: int = 64,
    moments: int = 8,
    plan_horizon: int = 20,
    seed: int = 0,
    skip_bad: bool = False,
) -> None:
    """Measure a model on episodes it was not trained on: OUT/diagnostics.json and OUT/diagnostics.html.

    Args:
        model: the folder of a model or a learned agent.
        data: a dataset of the same environment, not the one it was trained on.
        out: where to write.
        horizon: steps predicted without looking.
        windows: moments looked at.
        futures: drawn at each, for models with noise.
        plans: candidates ranked at each moment, where the task has a simulator and a cost; 0 ranks none.
        moments: at which plans are ranked.
        plan_horizon: actions in those plans.
        seed: of windows, futures and plans.
        skip_bad: leave damaged episodes out instead of stopping.
    """
    require_positive(plans=plans or 1, moments=moments, plan_horizon=plan_horizon)
    require_writable(out)
    loaded = load_model(model)
    episodes = worldmodels.Dataset.open(data, skip_damaged=skip_bad)
    figures = {
        "model": str(model),
        "data": str(data),
        "environment": loaded.spec.environment,
        "seed": seed,
        **measure(loaded, episodes, horizon=horizon, windows=windows, futures=futures, seed=seed),
        "plans": ranked(loaded, episodes, plans, moments, plan_horizon, seed),
        "versions": manifest.package_versions(),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "diagnostics.json", figures)
    manifest.write_aside(out / "diagnostics.html", diagnosis_page(figures).encode())
    for line in in_words(figures):
        console.print(line, highlight=False)
    console.print(f"{out / 'diagnostics.html'} says more", highlight=False)


def load_model(folder: Path) -> Any:
    """A saved model, or that of a learned agent."""
    if manifest.read(folder).kind == "agent":
        return load_learned(folder)[0].model
    return worldmodels.load(folder)


def ranked(model: Any, episodes: Any, plans: int, moments: int, horizon: int, seed: int) -> dict[str, Any]:
    """How the model ranks plans, as JSON; with `missing`, why it could not be measured."""
    if not plans:
        return {"missing": "No plans were ranked: --plans 0."}
    try:
        found = rank_plans(model, episodes, horizon=horizon, candidates=plans, moments=moments, seed=seed)
    except (*UNRANKED, mpc.MPCError, WorldModelError) as error:
        return {"missing": f"Plans were not ranked: {error}"}
    return {
        "spearman": found.mean,
        "charged": type(found.charged).__name__,
        "each": found.correlations.tolist(),
        "best_rank": found.best_rank,
        "candidates": plans,
        "horizon": horizon,
        "places": np.stack([places(found.predicted).ravel(), places(found.true).ravel()], 1)[:MOST_POINTS].tolist(),
    }


def places(costs: np.ndarray) -> np.ndarray:
    """Where each of costs [S, N] stands among those of its row, from 0, the cheapest, to 1."""
    return np.array([ranks(row) / max(1, costs.shape[1] - 1) for row in costs])


def in_words(figures: dict[str, Any]) -> list[str]:
    """The figures that decide, a line each."""
    spread, plans, calibrated = figures["representation"], figures["plans"], figures["calibration"]
    lines = [f"effective rank {spread['effective_rank']:.1f} of {spread['size']}, correlation {spread['correlation']:.2f}"]
    lines.append(f"open-loop error {figures['open_loop_score']:.3f} standard deviations over {figures['horizon']} steps")
    lines.append(f"wrong actions make the error {figures['actions']['shuffled'][0]:.1f} times as large one step ahead")
    if calibrated is not None:
        ratio = sum(calibrated["spread_over_error"]) / len(calibrated["spread_over_error"])
        lines.append(f"the spread of futures is {ratio:.2f} of the error it should equal")
    learned = ", by the cost it learned" if plans.get("charged") == mpc.LearnedCost.__name__ else ""
    lines.append(plans.get("missing") or f"rank correlation of plans with the true simulator {plans['spearman']:.2f}{learned}")
    return lines
