"""`sailplan bench many-tasks`: one model a body, learned without reward, driven to every task of that body.

The model explores under runs/many_tasks/; a model that is there is used again. Returns are the environments' own: what each task's
environment rewards, in dm_control's episodes of it. A cell that is in benchmarks/results/many_tasks.jsonl is left out.
"""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import mpc
import planners
import worldmodels
from benchmarks import results
from benchmarks.control import RESULTS as CONTROL
from mpc.evaluation import HELD_OUT
from mpc.exploration import explore
from worldmodels.data import Dataset, Episode
from worldmodels.files import beside, sole_writer

RESULTS = results.RESULTS / "many_tasks.jsonl"
RUNS = Path("runs/many_tasks")
BODIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "cartpole": ("swingup", ("balance", "swingup", "balance_sparse", "swingup_sparse")),
    "reacher": ("easy", ("easy", "hard")),
    "walker": ("walk", ("stand", "walk", "run")),
    "cheetah": ("run", ("run",)),
}
"""The task in whose environment a body explores, and the tasks it is then driven to."""
METHODS = ("simulator", "random", "planner", "policy")
"""In the order in which they are measured: what a good episode is, the simulator tells."""
ACTION_REPEAT, DISCOUNT = 2, 0.99
EPISODES, CEILING_EPISODES = 10, 3
GOOD = 0.8  # of the best return known for a task, the simulator's or an agent's that learned with its reward
CEILING = planners.ICEM(horizon=20, samples=640, iterations=4, elites=64, keep=8)
PLANNER = replace(CEILING, samples=64, elites=8, keep=2, proposals=4, spread=0.2)
"""A tenth of the ceiling's samples, each in every member of the ensemble, near the policy that it has and the ceiling has not."""


def bench_many_tasks(
    bodies: Sequence[str], seeds: Sequence[int], methods: Sequence[str], frames: int, updates: int
) -> list[dict[str, Any]]:
    """Lines of the cells that are not there yet: `methods` on every task of `bodies`, after `frames` without reward."""
    chosen, lines = sorted(results.choose("method", methods, METHODS), key=METHODS.index), []
    for body in results.choose("body", bodies, BODIES):
        for seed in seeds:
            for task in BODIES[body][1]:
                cells = {method: cell(body, task, method, seed, frames, updates) for method in chosen}
                wanted = {method: each for method, each in cells.items() if not results.holds(RESULTS, each)}
                if wanted:
                    lines += task_lines(body, task, wanted, seed, frames, updates)
    return lines


def environment_of(body: str, task: str, *, privileged: bool = False) -> mpc.Environment:
    """The environment of a body's task; `privileged` where its simulator is planned on."""
    return mpc.make(f"dm_control/{body}-{task}-v0", action_repeat=ACTION_REPEAT, privileged=privileged)


def imagination(updates: int) -> mpc.ImaginationSettings:
    """How the critic and the policy of a task are learned."""
    return mpc.ImaginationSettings(updates=updates, discount=DISCOUNT)


def cell(body: str, task: str, method: str, seed: int, frames: int, updates: int) -> dict[str, Any]:
    """What a line is known by; random's and the simulator's know neither seed, frames nor imagination."""
    ours = method in ("planner", "policy")
    learned = {"imagination": asdict(imagination(updates))} if ours else {}
    searches: dict[str, dict[str, Any]] = {
        "simulator": {"samples": CEILING.samples},
        "planner": {"samples": PLANNER.samples, "proposals": PLANNER.proposals, "spread": PLANNER.spread},
    }
    return {
        "benchmark": "many_tasks",
        "body": body,
        "task": f"dm_control/{body}-{task}-v0",
        "method": method,
        "settings": {"action_repeat": ACTION_REPEAT, **learned, **searches.get(method, {})},
        "seed": seed if ours else 0,
        "frames": frames if ours else 0,
    }


def folder(body: str, seed: int, frames: int) -> Path:
    """Where a body's model, its data, and what was imagined for its tasks are."""
    return RUNS / f"{body}-{seed}-{frames}"


def explored(body: str, seed: int, frames: int) -> tuple[Any, Dataset]:
    """The body's model and what it was learned from; explored now where it is not there, from the beginning if that was cut off."""
    run = folder(body, seed, frames)
    run.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(beside(run, "lock"), results.ResultError):
        if not run.exists():
            aside = run.with_name(run.name + ".aside")
            shutil.rmtree(aside, ignore_errors=True)
            environment = environment_of(body, BODIES[body][0])
            console.print(f"{body}, seed {seed}: {frames} frames without reward", highlight=False)
            explore(environment, aside, frames=frames, seed=seed)
            aside.rename(run)
    return worldmodels.load(run / "model"), Dataset.open(run / "memory")


def task_lines(
    body: str, task: str, cells: dict[str, dict[str, Any]], seed: int, frames: int, updates: int
) -> list[dict[str, Any]]:
    """The `cells` of one task by method, in their order: who acts, and what it returns; critic and policy are imagined for it first."""
    name, lines = f"dm_control/{body}-{task}-v0", []
    environment = environment_of(body, task)
    agents: dict[str, Any] = {"random": mpc.RandomAgent(environment.spec)}
    spent = 0.0
    if {"planner", "policy"} & set(cells):
        model, dataset = explored(body, seed, frames)
        learned, spent = imagined(folder(body, seed, frames), model, dataset, f"{body}.{task}", updates, seed)
        agents |= learned
    for method, known in cells.items():
        began, played, episodes = time.process_time(), environment, EPISODES
        if method == "simulator":
            played, episodes = environment_of(body, task, privileged=True), CEILING_EPISODES
            agents[method] = mpc.PlanningAgent(mpc.simulator(played), mpc.cost(mpc.tasks.lookup(f"{body}.{task}")), CEILING)
        result = mpc.evaluate(played, agents[method], episodes=episodes, seed=HELD_OUT)
        ours, best = method in ("planner", "policy"), best_known(name)
        line = {**known, **result.summary(), "returns": np.round(result.returns, 2).tolist()}
        if ours and best is not None and line["return_mean"] >= GOOD * best:
            line["minutes_to_first_good_episode"] = round(spent, 2)
        line["minutes"] = round((spent if ours else 0.0) + (time.process_time() - began) / 60, 2)
        lines.append(results.write_line(RESULTS, line))
        console.print(f"{name} {method}: {line['return_mean']:.1f} ± {line['return_ci95']:.1f}", highlight=False)
    return lines


def imagined(
    run: Path, model: Any, dataset: Sequence[Episode], name: str, updates: int, seed: int
) -> tuple[dict[str, Any], float]:
    """Planner with critic, and policy, for a cost of the library, and the minutes that imagining took."""
    body = mpc.Configurator(model, task=mpc.Task({name: 1.0}, planner=PLANNER, discount=DISCOUNT))
    critic, policy, minutes = solution(run, model, dataset, name, updates, seed)
    body.solve("task", critic, policy)
    return {"planner": body.agent("task"), "policy": mpc.PolicyAgent(model, policy)}, minutes


def solution(
    run: Path, model: Any, dataset: Sequence[Episode], name: str, updates: int, seed: int
) -> tuple[mpc.Critic, mpc.Policy, float]:
    """Critic and policy for a cost of the library, and the minutes that imagining took; kept in the run, until they are imagined otherwise."""
    kept, settings = run / "tasks" / name, imagination(updates)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(beside(kept, "lock"), results.ResultError):
        told = json.loads((kept / "imagined.json").read_text()) if kept.exists() else {}
        if told.get("settings") != asdict(settings):
            began = time.process_time()
            critic, policy = mpc.imagine(model, mpc.cost(mpc.tasks.lookup(name)), list(dataset), settings, seed=seed)
            told = {"settings": asdict(settings), "minutes": (time.process_time() - began) / 60}
            aside = kept.with_name(kept.name + ".aside")
            shutil.rmtree(aside, ignore_errors=True)
            mpc.save_critic(critic, aside / "critic")
            mpc.save_policy(mpc.PolicyAgent(model, policy), aside / "policy")
            (aside / "imagined.json").write_text(json.dumps(told))
            shutil.rmtree(kept, ignore_errors=True)
            aside.rename(kept)
    return mpc.load_critic(kept / "critic"), mpc.load_policy(kept / "policy").policy, told["minutes"]


def best_known(task: str) -> float | None:
    """The best return of the simulator, or of an agent that learned with the task's reward; None where neither was measured."""
    lines = [line for line in results.read_lines(RESULTS) if line["method"] == "simulator"]
    lines += [line for line in results.read_lines(CONTROL) if line["method"] in ("planner", "simulator")]
    return max((line["return_mean"] for line in lines if line["task"] == task), default=None)


console = Console(markup=False)
