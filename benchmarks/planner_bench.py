"""`sailplan bench planners`: what every planner reaches against decision time and against model evaluations.

Three kinds of model, with one line a cell in benchmarks/results/planners.jsonl:

- `analytic`: one cold plan on problems of known optimum (`benchmarks.analytic`). `cost_mean` is J plus `VIOLATION_WEIGHT` a unit
  of the largest violation, an exact penalty: no plan is cheaper than the optimum by crossing the wall. `regret_mean` is what is
  above the optimum.
- `simulator`: receding horizon on MuJoCo itself, under the task's own reward as a cost. No derivatives there.
- `jepa`: receding horizon on a JEPA that `benchmarks.demo.learn` trained on the task, under the cost it learned.

Work is set and counted by `benchmarks.planner_budgets`; `settings["trajectories"]` is the budget asked for. `seed` is the first of
`seeds` that a cell averages over, its interval is Student's t over them.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

import mpc
import planners
from benchmarks import planner_cells, plots, results
from benchmarks.analytic import Case
from benchmarks.planner_budgets import at_budget, model_evaluations, obstacle_to
from benchmarks.planner_cells import FIRST_SEED, Cell, Place, cells, place
from benchmarks.timing import interleaved
from mpc.acting import decide, play
from mpc.evaluation import confidence_interval, time_decisions

RESULTS = results.RESULTS / "planners.jsonl"
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "planners.svg"
VIOLATION_WEIGHT = 1000.0  # above the sum of the wall's multipliers
RETIMING, WARM_UP = 15.0, 3  # seconds in which the decisions of one task and model are timed in turn; decisions before them
SCALARS = (bool, int, float, str)
console = Console(markup=False)


def measure(cell: Cell, seeds: int) -> dict[str, Any] | None:
    """The cell's line; None, said aloud, where the planner does not apply."""
    began = time.perf_counter()
    where = place(cell.task, cell.model, cell.horizon)
    reason = obstacle_to(cell.method, where.problem)
    if reason is not None:
        console.print(f"{cell.task}, {cell.model}: {cell.method} is left out, it {reason}", highlight=False)
        return None
    planner = at_budget(cell.method, horizon=cell.horizon, trajectories=cell.trajectories, size=where.size)
    figures = cold_plans(where.case, planner, seeds) if where.case else episodes(where, planner, seeds)
    return {
        **_key(cell, planner, where.frames),
        "model": cell.model,
        **figures,
        "model_evaluations": model_evaluations(planner, where.size),
        "minutes": round((time.perf_counter() - began) / 60, 3),
    }


def _key(cell: Cell, planner: planners.Planner, frames: int) -> dict[str, Any]:
    values = {field.name: getattr(planner, field.name) for field in fields(planner)}  # type: ignore[arg-type]
    simple = {name: value for name, value in values.items() if isinstance(value, SCALARS)}
    settings = {"model": cell.model, "trajectories": cell.trajectories, **simple}
    return {
        "benchmark": "planners",
        "task": cell.task,
        "method": cell.method,
        "settings": settings,
        "seed": 0 if cell.model == "analytic" else FIRST_SEED,
        "frames": frames,
    }


def cold_plans(case: Case, planner: planners.Planner, seeds: int) -> dict[str, Any]:
    """Cost over the optimum of one plan from a cold start, for each of `seeds` keys, and what it takes."""
    state = planner.init(case.problem)

    def decide(seed: int) -> planners.Plan:
        key = jax.random.key(seed)
        return jax.block_until_ready(planners.plan(planner, case.problem, case.latent, state, elapsed=0.0, key=key)[0])

    decide(0)  # compiles
    milliseconds, reached, violations = [], [], []
    for seed in range(seeds):
        start = time.perf_counter()
        plan = decide(seed)
        milliseconds.append(1e3 * (time.perf_counter() - start))
        violations.append(float(plan.violation))
        reached.append(float(plan.cost) + VIOLATION_WEIGHT * violations[-1])
    return {
        "cost_mean": float(np.mean(reached)),
        **_interval("cost_ci95", reached),
        "regret_mean": float(np.mean(reached)) - case.optimum,
        **_interval("regret_ci95", reached),
        "violation_mean": float(np.mean(violations)),
        **_latency(milliseconds),
        "episodes": seeds,
    }


def episodes(where: Place, planner: planners.Planner, seeds: int) -> dict[str, Any]:
    """Return of episodes with the seeds from `FIRST_SEED`, played side by side, and milliseconds a decision."""
    agent = mpc.PlanningAgent(where.model, where.cost, planner)
    played = list(play(where.environment, agent, range(FIRST_SEED, FIRST_SEED + seeds), copies=seeds))  # type: ignore[arg-type]
    returns = [float(episode.total_return) for episode in played]
    timed = 20 if where.frames == 0 else 100
    milliseconds = time_decisions(agent, played[0].observations, FIRST_SEED, count=timed)
    return {
        "return_mean": float(np.mean(returns)),
        **_interval("return_ci95", returns),
        **_latency(milliseconds),
        "episodes": seeds,
    }


def _latency(milliseconds: Sequence[float] | np.ndarray) -> dict[str, float]:
    return {f"decision_ms_p{percent}": float(np.percentile(milliseconds, percent)) for percent in (50, 99)}


def _interval(name: str, values: Sequence[float]) -> dict[str, float]:
    return {name: confidence_interval(np.array(values))} if len(values) > 1 else {}


def cell_of(line: dict[str, Any]) -> Cell:
    """The cell that a line holds."""
    settings = line["settings"]
    return Cell(line["task"], line["model"], line["method"], settings["horizon"], settings["trajectories"])


def finished(cell: Cell, seeds: int, lines: Sequence[dict[str, Any]]) -> bool:
    """Whether the results hold this cell over at least as many seeds, and on the model that would be used now."""
    if cell.model == "jepa" and not (planner_cells.MODELS / cell.task / "model").exists():
        return False  # another will be trained, and returns on two models cannot be compared
    return any(line["episodes"] >= seeds and cell_of(line) == cell for line in lines)


def retime(wanted: Sequence[Cell]) -> list[dict[str, Any]]:
    """Decision times of those of `wanted` that were measured, anew: all of one task and model in turn, so that ratios can be trusted."""
    chosen = [line for line in results.read_lines(RESULTS) if cell_of(line) in wanted]
    new = []
    for task, model in dict.fromkeys((line["task"], line["model"]) for line in chosen):
        lines = [line for line in chosen if (line["task"], line["model"]) == (task, model)]
        timings = interleaved({str(number): decision(cell_of(line)) for number, line in enumerate(lines)}, seconds=RETIMING)
        for number, line in enumerate(lines):
            timing = timings[str(number)]
            new.append(results.write_line(RESULTS, {**line, "decision_ms_p50": timing.p50, "decision_ms_p99": timing.p99}))
            console.print(f"{task}, {model}: {line['method']}, {timing.p50:.3g} ms", highlight=False)
    return new


def decision(cell: Cell) -> Callable[[], Any]:
    """One decision of the cell, over and over: a cold plan of an analytic problem, a warm one of an agent."""
    where = place(cell.task, cell.model, cell.horizon)
    planner = at_budget(cell.method, horizon=cell.horizon, trajectories=cell.trajectories, size=where.size)
    if where.case:
        cold, key = planner.init(where.problem), jax.random.key(0)
        return lambda: planners.plan(planner, where.problem, where.case.latent, cold, elapsed=0.0, key=key)  # type: ignore[union-attr]
    agent = mpc.PlanningAgent(where.model, where.cost, planner)
    observation = where.environment.reset(FIRST_SEED)  # type: ignore[union-attr]
    state = agent.reset(observation)
    for step in range(WARM_UP):
        _, state = decide(agent, state, observation, np.uint32(FIRST_SEED), np.int32(step), explore=False)
    return lambda: decide(agent, state, observation, np.uint32(FIRST_SEED), np.int32(WARM_UP), explore=False)


def measured(wanted: Sequence[Cell], seeds: int, minutes: float) -> Iterator[dict[str, Any]]:
    """Lines of the wanted cells, each written as it ends; no cell begins after `minutes`."""
    began = time.perf_counter()
    for count, cell in enumerate(wanted, start=1):
        if time.perf_counter() - began > 60 * minutes:
            console.print(f"{minutes:g} minutes are over: {len(wanted) - count + 1} cells are left for --resume")
            return
        line = measure(cell, seeds)
        if line is not None:
            yield results.write_line(RESULTS, line)
            outcome = f"return {line['return_mean']:.0f}" if "return_mean" in line else f"regret {line['regret_mean']:.4g}"
            spent = f"{line['decision_ms_p50']:.2f} ms, {line['model_evaluations']} model evaluations"
            console.print(
                f"{count}/{len(wanted)} {cell.task}, {cell.model}: {cell.method}, {outcome}, {spent}", highlight=False
            )


def bench_planners(
    tasks: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    models: tuple[str, ...] = (),
    budgets: tuple[int, ...] = (),
    seeds: int = 10,
    resume: bool = False,
    retimed: bool = False,
    minutes: float = float("inf"),
) -> list[dict[str, Any]]:
    """Measure the cells and draw docs/images/planners.svg from all that were ever measured; returns the new lines.

    Args:
      tasks, methods, models, budgets: those to measure, budgets in trajectories a decision; all if empty.
      seeds: keys or episodes a cell averages over.
      resume: leave out cells that stand in the results already, over as many seeds, and use the models trained before.
      retimed: measure no cell, only the decision times of those that stand in the results.
      minutes: begin no cell after so long.
    """
    wanted = cells(tasks, methods, models, budgets)
    if retimed:
        new = retime(wanted)
    else:
        if resume:
            lines = results.read_lines(RESULTS)
            wanted = [cell for cell in wanted if not finished(cell, seeds, lines)]
        else:
            for task in {cell.task for cell in wanted if cell.model == "jepa"}:
                shutil.rmtree(planner_cells.MODELS / task, ignore_errors=True)
        new = list(measured(wanted, seeds, minutes))
        fresh = {line["task"] for line in new if line["model"] == "jepa"}
        retime([cell for cell in cells(models=["jepa"]) if cell.task in fresh])
    lines = results.read_lines(RESULTS)
    if lines:
        console.print(f"the picture: {plots.plot_planners(lines, PICTURE)}")
    return new
