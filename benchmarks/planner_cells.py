"""The cells of `sailplan bench planners`: which planner, with how much work, on which problem, and the models they act on."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mpc
import planners
import worldmodels
from benchmarks import demo, results
from benchmarks.analytic import CASES, Case
from benchmarks.planner_budgets import methods

MODELS = Path("runs/bench/models")
ACTION_REPEAT = 4
FIRST_SEED = 20_000


@dataclass(frozen=True)
class Task:
    """A dm_control task, how far to plan on it in decisions of `ACTION_REPEAT` frames, and how its JEPA is trained.

    Attributes:
      random_episodes, rounds, episodes: as in `demo.DemoSettings`. A task whose target moves from episode to episode
        (reacher) needs many of them rather than many frames of one.
      rehearsed: whether models are compared on episodes of this training too. Between what random actions and what a planner on
        the simulator reach, a locomotion body is in states that neither visits, and that models without them plan into.
    """

    name: str
    horizon: int
    random_episodes: int = 5
    rounds: int = 6
    episodes: int = 2
    rehearsed: bool = False

    @property
    def environment(self) -> str:
        return f"dm_control/{self.name}-v0"

    @property
    def recipe(self) -> demo.DemoSettings:
        """As the demo trains, with a collector of this horizon."""
        return demo.DemoSettings(
            task=self.environment,
            random_episodes=self.random_episodes,
            rounds=self.rounds,
            episodes=self.episodes,
            collector=planners.ICEM(self.horizon, samples=128),
        )


TASKS = {
    task.name: task
    for task in (
        Task("cartpole-swingup", 30),
        Task("reacher-easy", 20, random_episodes=16, rounds=6, episodes=6),
        Task("cheetah-run", 15, rehearsed=True),
    )
}
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


def rehearsal(task: Task, environment: mpc.Environment) -> worldmodels.Dataset:
    """The episodes that the task's JEPA under `MODELS` was trained on."""
    trained(task, environment)
    return worldmodels.Dataset.open(MODELS / task.name / "data")


def trained(task: Task, environment: mpc.Environment, settings: demo.DemoSettings | None = None) -> worldmodels.JEPA:
    """The JEPA under `MODELS`; where there is none, one trained as the demo trains, which takes minutes."""
    folder = MODELS / task.name
    if not (folder / "model").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        learned = demo.learn(environment, settings or task.recipe, demo.Journal(folder), folder, seed=0)
        worldmodels.save(learned, folder / "model")
    return worldmodels.load(folder / "model")
