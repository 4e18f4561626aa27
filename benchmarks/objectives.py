"""`sailplan bench objectives`: every objective on the same data, model and budget: diagnostics, and the return of iCEM on it.

The data are no objective's own: random episodes, and episodes of iCEM on the true simulator with exploration noise. One line a cell
in benchmarks/results/objectives.jsonl; `none` is VICReg without its regulariser, which collapses.
"""

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import mpc
import planners
import worldmodels
from benchmarks import results
from benchmarks.open_loop import open_loop
from benchmarks.plan_ranking import plan_rank_correlation
from benchmarks.planner_cells import ACTION_REPEAT, TASKS, Task
from mpc.acting import play
from mpc.evaluation import confidence_interval
from worldmodels.objectives import PRESETS, Preset, VICReg

RESULTS = results.RESULTS / "objectives.jsonl"
DATA = Path("runs/bench/objectives")
EPISODES = 6  # of each kind, in the data
HELD_OUT = 30_000  # first seed of evaluation
AHEAD = 20  # model steps after which open-loop error is measured
METHODS = {**PRESETS, "none": Preset(VICReg(variance=0.0, covariance=0.0), "VICReg without its regulariser")}
console = Console()


def bench_objectives(
    tasks: Sequence[str], methods: Sequence[str], seeds: Sequence[int], updates: int, batch: int, episodes: int, minutes: float
) -> list[dict[str, Any]]:
    """Lines of all cells that are not in the results yet, each written as it ends; none begins after `minutes`."""
    for name, known in [*((task, TASKS) for task in tasks), *((method, METHODS) for method in methods)]:
        if name not in known:
            raise results.ResultError(f"{name} is not known. Expected some of {', '.join(known)}.")
    began, lines = time.perf_counter(), []
    for seed in seeds:
        for task in tasks:
            for method in methods or METHODS:
                cell = {
                    "benchmark": "objectives",
                    "task": TASKS[task].environment,
                    "method": method,
                    "settings": {"condition": "clean", "updates": updates, "batch": batch, "action_repeat": ACTION_REPEAT},
                    "seed": seed,
                    "frames": data_of(TASKS[task]).frames,
                }
                if any(all(line[name] == value for name, value in cell.items()) for line in results.read_lines(RESULTS)):
                    continue
                if time.perf_counter() - began > 60 * minutes:
                    console.print(f"{minutes:g} minutes are over: run the command again for the cells that are left")
                    return lines
                start = time.perf_counter()
                figures = measure(TASKS[task], METHODS[method], seed, updates, batch, episodes)
                spent = round((time.perf_counter() - start) / 60, 2)
                lines.append(results.write_line(RESULTS, {**cell, "condition": "clean", **figures, "minutes": spent}))
                said = "  ".join(f"{name} {figures[name]:.3g}" for name in SHOWN)
                console.print(f"{task}, {method}, seed {seed}: {said}", highlight=False)
    return lines


SHOWN = ("return_mean", "effective_rank", "plan_rank_correlation", "open_loop_error")


def data_of(task: Task) -> worldmodels.Dataset:
    """The task's dataset under `DATA`, gathered where there is none."""
    folder = DATA / task.name
    if folder.exists():
        return worldmodels.Dataset.open(folder)
    environment = mpc.make(task.environment, action_repeat=ACTION_REPEAT)
    simulator = mpc.make(task.environment, action_repeat=ACTION_REPEAT, privileged=True)
    cost = mpc.cost(mpc.tasks.lookup(task.environment))
    planner = planners.ICEM(task.horizon, samples=16, iterations=2, elites=4, keep=2)
    agent = mpc.PlanningAgent(mpc.simulator(simulator), cost, planner)
    acted = mpc.collect(simulator, episodes=EPISODES, seed=1_000, agent=agent)
    random = mpc.collect(environment, episodes=EPISODES, seed=0)
    aside = folder.with_name(folder.name + ".aside")
    with worldmodels.Dataset.create(aside, environment.spec, {"of": "random, and iCEM on the simulator"}) as dataset:
        for episode in [*random, *(replayed(environment, episode) for episode in acted)]:
            dataset.append(episode)
    aside.rename(folder)
    return worldmodels.Dataset.open(folder)


def replayed(environment: mpc.Environment, episode: worldmodels.Episode) -> worldmodels.Episode:
    """The same actions from the same seed, as `environment` shows them."""
    seen, costs = [environment.reset(episode.seed)], []
    for action in episode.actions:
        step = environment.step(action)
        seen.append(step.observation)
        costs.append(step.cost)
    observations = {name: np.stack([moment[name] for moment in seen]) for name in seen[0]}
    return worldmodels.Episode(
        observations, episode.actions, np.asarray(costs, np.float32), episode.terminated, episode.truncated, episode.seed
    )


def measure(task: Task, preset: Preset, seed: int, updates: int, batch: int, episodes: int) -> dict[str, Any]:
    """Train one model and say how good it is to plan with."""
    environment, data = mpc.make(task.environment, action_repeat=ACTION_REPEAT), data_of(task)
    settings = worldmodels.TrainingSettings(batch=batch, objective=preset.objective, cost_gradient=preset.cost_gradient)
    reports: list[worldmodels.Progress] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", worldmodels.CollapseWarning)
        began = time.perf_counter()
        model = worldmodels.JEPA(environment.spec, seed=seed, norm=preset.norm)
        model = worldmodels.train(model, data, settings, updates=updates, seed=seed, progress=reports.append)
        seconds = time.perf_counter() - began
    agent = mpc.PlanningAgent(model, mpc.LearnedCost(), planners.ICEM(task.horizon, samples=128))
    played = list(play(environment, agent, range(HELD_OUT, HELD_OUT + episodes), copies=episodes))
    returns = np.array([episode.total_return for episode in played])
    last = reports[-1]
    return {
        "return_mean": float(returns.mean()),
        "return_ci95": confidence_interval(returns),
        "episodes": episodes,
        "effective_rank": last.effective_rank,
        "plan_rank_correlation": plan_rank_correlation(model, environment, played, task.horizon),
        "open_loop_error": open_loop_error(model, worldmodels.Episodes(environment.spec, tuple(played))),
        "collapse_caught": bool([warning for warning in caught if warning.category is worldmodels.CollapseWarning]),
        **{name: last.recipe[name] for name in ("information_x", "information_y", "prediction_error", "information_z")},
        "losses": {name: round(value, 5) for name, value in last.losses.items()},
        "train_seconds": round(seconds, 1),
    }


def open_loop_error(model: worldmodels.JEPA, episodes: worldmodels.Episodes) -> float:
    """Error of readouts predicted `AHEAD` steps, over the spread of what is observed; root mean square over its components."""
    found = open_loop(model, episodes, horizon=AHEAD)
    flat = np.concatenate([np.asarray(model.spec.flatten(episode.observations)) for episode in episodes])
    errors = np.array([values[-1] for values in found["error"].values()])
    return float(np.sqrt(np.mean((errors / (flat.std(0) + 1e-3)) ** 2)))
