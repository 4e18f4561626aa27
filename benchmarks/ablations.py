"""`sailplan bench ablations`: the learning agent, each time with one of its parts taken out or replaced.

The loop, the planner's defaults and the updates are the run's own; a variant changes what the model learns from, or who acts. Lines
go into benchmarks/results/ablations.jsonl; a run that is cut begins again.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

import mpc
from benchmarks import results
from benchmarks.control import ACTION_REPEAT, EPISODES, identifier
from mpc.evaluation import HELD_OUT
from mpc.learning import LearnerSettings, Run, RunSettings

RESULTS = results.RESULTS / "ablations.jsonl"
RUNS = Path("runs/ablations")
TASKS = ("cartpole-swingup", "walker-walk")
UNPREDICTED = LearnerSettings(prediction=0.0, variance=0.0, covariance=0.0)  # without the joint embedding's own losses
console = Console(markup=False)


class Uncritical(Run):
    """Plans are judged by predicted costs alone."""

    def planning_agent(self) -> mpc.PlanningAgent:
        return replace(super().planning_agent(), critic=None)


class Reacting(Run):
    """The policy acts, with noise while exploring; nothing is planned."""

    def planning_agent(self) -> Any:
        return self.policy_agent()


@dataclass(frozen=True)
class Variant:
    """What is different, and in words.

    Attributes:
      run: who acts, and is evaluated.
    """

    said: str
    settings: RunSettings = RunSettings()
    run: type[Run] = Run


VARIANTS = {
    "whole": Variant("nothing"),
    "reconstruction": Variant(
        "observations decoded from the predicted latents, instead of predicting encodings",
        RunSettings(learner=replace(UNPREDICTED, reconstruction=2.0)),
    ),
    "reward-only": Variant("no prediction but of costs and the critic", RunSettings(learner=UNPREDICTED)),
    "no-critic": Variant("no critic in plans; 12 steps ahead instead of 3", RunSettings(horizon=12), Uncritical),
    "unseeded": Variant("no plans proposed by the policy", RunSettings(proposals=0)),
    "mode-1": Variant("no planning: the policy acts", RunSettings(learner=LearnerSettings(imitation=0.0)), Reacting),
}


def bench_ablations(tasks: Sequence[str], methods: Sequence[str], seeds: Sequence[int], frames: int) -> list[dict[str, Any]]:
    """Lines of the cells that are not there yet."""
    lines = []
    for seed in seeds:
        for task in map(identifier, tasks or TASKS):
            for method in results.choose("method", methods, VARIANTS):
                known = {
                    "benchmark": "ablations",
                    "task": task,
                    "method": method,
                    "settings": {"action_repeat": ACTION_REPEAT, "without": VARIANTS[method].said},
                    "seed": seed,
                    "frames": frames,
                }
                if not results.holds(RESULTS, known):
                    lines.append(results.write_line(RESULTS, {**known, **measure(task, method, seed, frames)}))
                    said = f"{lines[-1]['return_mean']:.1f} ± {lines[-1]['return_ci95']:.1f}"
                    console.print(f"{task}, seed {seed}, {method}: {said}", highlight=False)
    return lines


def measure(task: str, method: str, seed: int, frames: int) -> dict[str, Any]:
    """Learn, then play unseen seeds by whoever acted."""
    made, variant = mpc.make(task, action_repeat=ACTION_REPEAT), VARIANTS[method]
    unseen, folder = made.copy(), RUNS / f"{task.rpartition('/')[2]}-{seed}-{method}"
    shutil.rmtree(folder, ignore_errors=True)
    began = time.process_time()
    run = variant.run.begin(made, folder, variant.settings, seed=seed)
    while run.learned < len(run.episodes) or run.frames < frames:
        run.round(frames)
    minutes = (time.process_time() - began) / 60
    played = mpc.evaluate(unseen, run.planning_agent(), episodes=EPISODES, seed=HELD_OUT)
    return {**played.summary(), "returns": played.returns.round(2).tolist(), "minutes": round(minutes, 2)}
