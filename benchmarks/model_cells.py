"""Cells that train one model on given data and plan on it: what `bench objectives`, `partial` and `distractors` have in common.

The data are none of the compared models' own: random episodes, and episodes of iCEM on the true simulator with exploration noise; of
a locomotion body those too that the model of `bench planners` learned from. They are gathered once a task, with everything in sight; a
cell's view hides some of it or adds to it.
"""

import itertools
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import mpc
import planners
import worldmodels
from benchmarks import results
from benchmarks.planner_cells import ACTION_REPEAT, TASKS, Task, rehearsal
from benchmarks.views import View, replayed
from mpc.acting import play
from mpc.evaluation import confidence_interval
from mpc.ranking import rank_plans
from worldmodels.diagnostics import look, trials_for
from worldmodels.diagnostics.ridge import ridge
from worldmodels.diagnostics.trials import component_names, trials
from worldmodels.files import beside, sole_writer
from worldmodels.objectives import Preset

DATA = Path("runs/bench/objectives")
EPISODES = 6  # of each kind, in the data where not said otherwise
HELD_OUT = 30_000  # first seed of evaluation, and of the episodes on which models are compared
AHEAD, WINDOWS = 20, 256  # model steps after which open-loop error is measured, and moments it is measured from
MOMENTS = 32  # from which plans are ranked
SHOWN = ("return_mean", "effective_rank", "plan_rank_correlation", "open_loop_error")
console = Console(markup=False)


@dataclass(frozen=True)
class Budget:
    """What a cell costs.

    Attributes:
      seeds: of initialisation and batches.
      updates: gradient steps.
      batch: windows in each.
      episodes: that iCEM plays on each model, on unseen seeds.
      minutes: begin no cell after so long.
    """

    seeds: tuple[int, ...] = (0,)
    updates: int = 2_000
    batch: int = 128
    episodes: int = 10
    minutes: float = float("inf")


@dataclass(frozen=True)
class Cell:
    """One model to train.

    Attributes:
      task: by name, of `TASKS`.
      method: objective or model, as the results name it.
      condition: what is seen, in words.
      compared: quantities whose open-loop error counts, so that models with different views can be compared.
      parts: settings of the JEPA that are not the defaults.
      recorded: episodes of each kind to learn from.
      probed: whether open-loop error is that of the whole state, read by `probed_error`, because not all models compared see it.
    """

    task: str
    method: str
    condition: str
    preset: Preset
    view: View = View()
    compared: tuple[str, ...] = ()
    parts: dict[str, Any] = field(default_factory=dict)
    recorded: int = EPISODES
    probed: bool = False


def measure_cells(benchmark: str, cells: Sequence[Cell], budget: Budget) -> list[dict[str, Any]]:
    """Lines of all cells that the benchmark's results do not hold yet, each written as it ends."""
    planned = []
    for seed, cell in itertools.product(budget.seeds, cells):
        task = TASKS[cell.task]
        settings = {"condition": cell.condition, "updates": budget.updates, "batch": budget.batch}
        line = {
            "benchmark": benchmark,
            "task": task.environment,
            "method": cell.method,
            "settings": {**settings, "action_repeat": ACTION_REPEAT, **cell.parts},
            "seed": seed,
            "frames": data_of(task, cell.recorded).frames,
        }
        planned.append((line, partial(measure, cell, seed, budget)))
    return measure_lines(planned, budget.minutes)


def measure_lines(
    planned: Iterable[tuple[dict[str, Any], Callable[[], dict[str, Any]]]], minutes: float = float("inf")
) -> list[dict[str, Any]]:
    """Lines of the planned cells that their benchmark's results do not hold yet, each written as it ends.

    Args:
      planned: the `results.CELL` fields of each, with the condition among its settings, and what measures its figures.
      minutes: begin no cell after so long.
    """
    began, lines = time.perf_counter(), []
    for line, measured in planned:
        path = results.RESULTS / f"{line['benchmark']}.jsonl"
        if results.holds(path, line):
            continue
        if time.perf_counter() - began > 60 * minutes:
            console.print(f"{minutes:g} minutes are over: run the command again for the cells that are left")
            return lines
        start = time.perf_counter()
        figures = measured()
        spent, condition = round((time.perf_counter() - start) / 60, 2), line["settings"]["condition"]
        lines.append(results.write_line(path, {**line, "condition": condition, **figures, "minutes": spent}))
        said = "  ".join(f"{name} {figures[name]:.3g}" for name in SHOWN if name in figures)
        console.print(f"{line['task']}, {line['method']}, {condition}, seed {line['seed']}: {said}", highlight=False)
    return lines


def data_of(task: Task, count: int = EPISODES, *, first: int = 0) -> worldmodels.Dataset:
    """The task's dataset under `DATA`, of `count` episodes of each kind from the seed `first` on; gathered where there is none."""
    folder = DATA / "-".join([task.name, *([] if count == EPISODES else [str(count)]), *([f"from-{first}"] if first else [])])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(beside(folder, "lock"), results.ResultError):
        if not folder.exists():
            gather(task, count, first, folder)
    return worldmodels.Dataset.open(folder)


def gather(task: Task, count: int, first: int, folder: Path) -> None:
    """Write the task's dataset, whole or not at all."""
    environment = mpc.make(task.environment, action_repeat=ACTION_REPEAT)
    simulator = mpc.make(task.environment, action_repeat=ACTION_REPEAT, privileged=True)
    cost = mpc.cost(mpc.tasks.lookup(task.environment))
    planner = planners.ICEM(task.horizon, samples=16, iterations=2, elites=4, keep=2)
    agent = mpc.PlanningAgent(mpc.simulator(simulator), cost, planner)
    acted = mpc.collect(simulator, episodes=count, seed=first + 1_000, agent=agent)
    random = mpc.collect(environment, episodes=count, seed=first)
    rehearsed = rehearsal(task, environment) if task.rehearsed and not first else ()
    aside = folder.with_name(folder.name + ".aside")
    shutil.rmtree(aside, ignore_errors=True)
    described = "random, iCEM on the simulator" + (", and the rehearsal" if rehearsed else "")
    with worldmodels.Dataset.create(aside, environment.spec, {"of": described}) as dataset:
        for episode in [*random, *(replayed(environment, episode) for episode in acted), *rehearsed]:
            dataset.append(episode)
    aside.rename(folder)


def measure(cell: Cell, seed: int, budget: Budget) -> dict[str, Any]:
    """Train one model and say how good it is to plan with."""
    task, preset = TASKS[cell.task], cell.preset
    environment, data = cell.view.environment(task), cell.view.episodes(task, data_of(task, cell.recorded))
    settings = worldmodels.TrainingSettings(batch=budget.batch, objective=preset.objective, cost_gradient=preset.cost_gradient)
    reports: list[worldmodels.Progress] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", worldmodels.CollapseWarning)
        began = time.perf_counter()
        model = worldmodels.JEPA(environment.spec, seed=seed, norm=preset.norm, **cell.parts)
        model = worldmodels.train(model, data, settings, updates=budget.updates, seed=seed, progress=reports.append)
        seconds = time.perf_counter() - began

    held_out = data_of(task, first=HELD_OUT)
    unseen = cell.view.episodes(task, held_out)
    if cell.probed:
        error = probed_error(model, unseen, View().episodes(task, held_out))
    else:
        error = open_loop_error(model, unseen, cell.compared)
    return {
        **judge(model, task, environment, unseen, reports[-1], budget),
        "open_loop_error": error,
        "collapse_caught": bool([warning for warning in caught if warning.category is worldmodels.CollapseWarning]),
        "train_seconds": round(seconds, 1),
    }


def judge(
    model: worldmodels.JEPA,
    task: Task,
    environment: mpc.Environment,
    unseen: worldmodels.Episodes,
    last: worldmodels.Progress,
    budget: Budget,
) -> dict[str, Any]:
    """How good a trained model is to plan with: on unseen seeds of `environment`, which is closed, and on episodes of others.

    Args:
      unseen: what all models of the task are compared on, as this one sees it.
      last: of its training's reports.
    """
    agent = mpc.PlanningAgent(model, mpc.LearnedCost(), planners.ICEM(task.horizon, samples=128))
    seeds = range(HELD_OUT, HELD_OUT + budget.episodes)
    returns = np.array([episode.total_return for episode in play(environment, agent, seeds, copies=budget.episodes)])
    environment.close()
    ranking = rank_plans(model, unseen, horizon=task.horizon, moments=MOMENTS, predicted=mpc.LearnedCost())
    return {
        "return_mean": float(returns.mean()),
        "return_ci95": confidence_interval(returns),
        "returns": [round(float(value), 1) for value in returns],
        "episodes": budget.episodes,
        "effective_rank": last.effective_rank,
        "plan_rank_correlation": ranking.mean,
        **{name: last.recipe[name] for name in ("information_x", "information_y", "prediction_error", "information_z")},
        "losses": {name: round(value, 5) for name, value in last.losses.items()},
    }


def open_loop_error(model: worldmodels.JEPA, episodes: worldmodels.Episodes, compared: Sequence[str] = ()) -> float:
    """Error of readouts predicted `AHEAD` steps, over the spread of what is observed; root mean square over its components.

    Of the quantities that `compared` names, all if it is empty.
    """
    seen = look(model, trials_for(model, episodes, AHEAD, WINDOWS))
    counts = [not compared or name.partition("[")[0] in compared for name in component_names(model.spec)]
    relative = _relative(seen.predicted_readouts.mean(1)[:, -1], seen.real)
    return float(np.sqrt(np.mean(relative[np.array(counts)] ** 2)))


def probed_error(model: worldmodels.JEPA, episodes: worldmodels.Episodes, states: worldmodels.Episodes) -> float:
    """As `open_loop_error`, of the state that `states` show of the same episodes; for models that may not see it.

    A ridge regression reads the state from the features; it is fitted to features that are not predicted, of half of the episodes,
    and asked on the other half.
    """
    given = trials_for(model, episodes, AHEAD, WINDOWS)
    same = trials(states, states.spec, AHEAD, WINDOWS, context=given.context)
    seen, real = look(model, given), np.asarray(states.spec.flatten(same.observations))[:, given.context :]
    probe = ridge(*(array[given.fit].reshape(-1, array.shape[-1]) for array in (seen.features, real)))
    relative = _relative(probe(seen.predicted_features[~given.fit].mean(1)[:, -1]), real[~given.fit])
    return float(np.sqrt(np.mean(relative**2)))


def _relative(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """[O], errors of `predicted` [N, O] at the end of `real` [N, H+1, O], over its spread."""
    errors = np.sqrt(((predicted - real[:, -1]) ** 2).mean(0))
    return errors / (real.reshape(-1, real.shape[-1]).std(0) + 1e-3)
