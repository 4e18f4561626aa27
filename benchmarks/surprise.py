"""`sailplan bench surprise`: the body's mass doubles in the middle of a run; what comes back, and by how many updates.

One run a task and seed learns as always, its folder is kept under runs/surprise. Then the mass of every body doubles, and the run goes
on as it was, as one that learns where it is surprised, and as one that learns no more. Lines go into benchmarks/results/surprise.jsonl.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import mpc
from benchmarks import results
from benchmarks.control import ACTION_REPEAT, identifier
from mpc.evaluation import HELD_OUT
from mpc.learning import Run, RunSettings, learn
from mpc.learning.run import begun

RESULTS = results.RESULTS / "surprise.jsonl"
RUNS = Path("runs/surprise")
METHODS = {"always": 1.0, "surprised": 0.1, "never": 0.0}
"""`RunSettings.unsurprised` once the mass has doubled; `never` makes no update at all."""
EPISODES = 5
console = Console(markup=False)


def bench_surprise(
    tasks: Sequence[str], methods: Sequence[str], seeds: Sequence[int], before: int, after: int
) -> list[dict[str, Any]]:
    """Lines of the cells that are not there yet: `before` frames with the body as it is, `after` more with twice its mass."""
    chosen, lines = results.choose("method", methods, METHODS), []
    for seed in seeds:
        for task in map(identifier, tasks):
            for method in chosen:
                known = {
                    "benchmark": "surprise",
                    "task": task,
                    "method": method,
                    "settings": {"action_repeat": ACTION_REPEAT, "before": before, "unsurprised": METHODS[method]},
                    "seed": seed,
                    "frames": before + after,
                }
                if not results.holds(RESULTS, known):
                    lines.append(results.write_line(RESULTS, {**known, **measure(task, method, seed, before, after)}))
                    said = {name: lines[-1][name] for name in ("return_mean", "return_ci95", "updates", "return_before")}
                    console.print(f"{task}, seed {seed}, {method}: {said}", highlight=False)
    return lines


def measure(task: str, method: str, seed: int, before: int, after: int) -> dict[str, Any]:
    """Go on with twice the mass, in a copy of the run's folder; returns by the planner on unseen seeds."""
    made, settings = mpc.make(task, action_repeat=ACTION_REPEAT), RunSettings()
    folder = RUNS / f"{task.rpartition('/')[2]}-{seed}-{before}"
    light = learn(made, folder, frames=before, seed=seed, settings=settings, resume=begun(folder))
    copied = folder.with_name(f"{folder.name}-{method}")
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(folder, copied)
    heavy = doubled(task)
    run = Run.resume(heavy, copied, settings, seed=seed)
    run.settings = replace(settings, unsurprised=METHODS[method])
    first, surprises, began = int(run.learner.updates), [], time.process_time()
    while method != "never" and run.frames < before + after:
        run.act(before + after)
        surprises.append(round(run.learn()["surprise"], 3))
    minutes = (time.process_time() - began) / 60
    found = returns(heavy, run)
    return {
        "return_mean": float(found.mean()),
        "return_ci95": mpc.confidence_interval(found),
        "return_before": float(returns(made, light).mean()),
        "episodes": EPISODES,
        "updates": int(run.learner.updates) - first,
        "surprises": surprises,
        "minutes": round(minutes, 2),
    }


def returns(environment: mpc.Environment, run: Run) -> np.ndarray:
    """The planner's, on unseen seeds, in this very environment."""
    return mpc.evaluate(environment, run.planning_agent(), episodes=EPISODES, seed=HELD_OUT, copies=1).returns


def doubled(task: str) -> mpc.Environment:
    """The task with twice the mass and the inertia of every body."""
    made = mpc.make(task, action_repeat=ACTION_REPEAT)
    physics = made.mujoco()
    if physics is None:
        raise mpc.UnsupportedEnvironmentError(f"{task} has no MuJoCo model whose masses could double.")
    for values in (physics[0].body_mass, physics[0].body_inertia):
        values *= 2
    return made
