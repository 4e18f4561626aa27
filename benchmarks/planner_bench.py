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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import mpc
import planners
import worldmodels
from benchmarks import demo, plots, results
from benchmarks.analytic import CASES, Case
from benchmarks.planner_budgets import at_budget, methods, model_evaluations, obstacle_to
from mpc.acting import play
from mpc.evaluation import confidence_interval, time_decisions

RESULTS = results.RESULTS / "planners.jsonl"
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "planners.svg"
MODELS = Path("runs/bench/models")
VIOLATION_WEIGHT = 1000.0  # above the sum of the wall's multipliers
ACTION_REPEAT = 4
FIRST_SEED = 20_000
SCALARS = (bool, int, float, str)
console = Console()


@dataclass(frozen=True)
class Task:
    """A dm_control task and how far to plan on it, in decisions of `ACTION_REPEAT` frames."""

    name: str
    horizon: int

    @property
    def environment(self) -> str:
        return f"dm_control/{self.name}-v0"


TASKS = {task.name: task for task in (Task("cartpole-swingup", 30), Task("reacher-easy", 20), Task("cheetah-run", 15))}
BUDGETS = {"analytic": (64, 512, 4096), "simulator": (32, 128), "jepa": (16, 32, 64, 256, 1024)}
"""Trajectories in one decision."""
REFERENCE = ("cartpole-swingup", "jepa", "icem", 20, 1024)
"""Beside the task's own horizon: iCEM 256 × 20 × 4 as the issue fixes it."""


class Cell(NamedTuple):
    """One point of the comparison, and the key of its line."""

    task: str
    model: str
    method: str
    horizon: int
    trajectories: int


def cells(
    tasks: Sequence[str] = (), chosen: Sequence[str] = (), models: Sequence[str] = (), budgets: Sequence[int] = ()
) -> list[Cell]:
    """Every task, planner, model and budget, or those that are named; `ResultError` for a name that is not there."""
    known = {
        "task": [*CASES, *TASKS],
        "method": methods(),
        "model": list(BUDGETS),
        "budget": sorted(set(sum(BUDGETS.values(), ()))),
    }
    wanted = {"task": tasks, "method": chosen, "model": models, "budget": budgets}
    for kind, names in wanted.items():
        unknown = sorted(set(names) - set(known[kind]))
        if unknown:
            some, expected = ", ".join(map(str, unknown)), ", ".join(map(str, known[kind]))
            raise results.ResultError(f"{kind} {some} is not known. Expected some of {expected}.")
    places = [(name, "analytic", CASES[name]().horizon) for name in CASES]
    places += [(task.name, model, task.horizon) for model in ("simulator", "jepa") for task in TASKS.values()]
    every = [
        Cell(task, model, method, horizon, budget)
        for task, model, horizon in places
        for budget in BUDGETS[model]
        for method in known["method"]
    ]
    every.append(Cell(*REFERENCE))
    return [cell for cell in every if all(not names or _named(cell)[kind] in names for kind, names in wanted.items())]


def _named(cell: Cell) -> dict[str, Any]:
    return {"task": cell.task, "method": cell.method, "model": cell.model, "budget": cell.trajectories}


class Place(NamedTuple):
    """Where a cell is measured: the problem, its size, and the environment and model where it is acted in."""

    problem: planners.Problem
    size: int
    case: Case | None = None
    environment: mpc.Environment | None = None
    model: Any = None
    cost: Any = None
    frames: int = 0


@cache
def place(task: str, kind: str, horizon: int) -> Place:
    """The problem of a cell, once per process."""
    if kind == "analytic":
        case = CASES[task]()
        return Place(case.problem, _entries(case.latent) + _entries(jnp.zeros(case.problem.actions.shape)), case=case)
    environment = mpc.make(TASKS[task].environment, action_repeat=ACTION_REPEAT, privileged=kind == "simulator")
    if kind == "simulator":
        model, cost, frames = mpc.simulator(environment), mpc.cost(mpc.tasks.lookup(task.replace("-", "."))), 0
    else:
        model, cost = trained(TASKS[task], environment), mpc.LearnedCost()
        frames = worldmodels.Dataset.open(MODELS / task / "data").frames
    problem = mpc.PlanningAgent(model, cost, planners.ICEM(horizon)).problem()
    size = _entries(model.start(environment.reset(FIRST_SEED)))  # type: ignore[arg-type] + _entries(jnp.zeros(environment.spec.action.shape))
    return Place(problem, size, environment=environment, model=model, cost=cost, frames=frames)


def _entries(tree: Any) -> int:
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(tree))


def trained(task: Task, environment: mpc.Environment, settings: demo.DemoSettings | None = None) -> worldmodels.JEPA:
    """The JEPA under `MODELS`; where there is none, one trained as the demo trains, which takes minutes."""
    folder = MODELS / task.name
    if not (folder / "model").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        recipe = settings or demo.DemoSettings(task=task.environment, collector=planners.ICEM(task.horizon, samples=128))
        worldmodels.save(demo.learn(environment, recipe, demo.Journal(folder), folder, seed=0), folder / "model")
    return worldmodels.load(folder / "model")


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


def finished(cell: Cell, seeds: int, lines: Sequence[dict[str, Any]]) -> bool:
    """Whether the results hold this cell over at least as many seeds."""
    return any(
        line["episodes"] >= seeds
        and Cell(line["task"], line["model"], line["method"], line["settings"]["horizon"], line["settings"]["trajectories"])
        == cell
        for line in lines
    )


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
    minutes: float = float("inf"),
) -> list[dict[str, Any]]:
    """Measure the cells and draw docs/images/planners.svg from all that were ever measured; returns the new lines.

    Args:
      tasks, methods, models, budgets: those to measure, budgets in trajectories a decision; all if empty.
      seeds: keys or episodes a cell averages over.
      resume: leave out cells that stand in the results already, over as many seeds, and use the models trained before.
      minutes: begin no cell after so long.
    """
    wanted = cells(tasks, methods, models, budgets)
    if resume:
        lines = results.read_lines(RESULTS)
        wanted = [cell for cell in wanted if not finished(cell, seeds, lines)]
    else:
        for task in {cell.task for cell in wanted if cell.model == "jepa"}:
            shutil.rmtree(MODELS / task, ignore_errors=True)
    new = list(measured(wanted, seeds, minutes))
    lines = results.read_lines(RESULTS)
    if lines:
        console.print(f"the picture: {plots.plot_planners(lines, PICTURE)}")
    return new
