"""`sailplan explore`, and how its coverage compares with that of noise, into benchmarks/results/exploration.jsonl."""

import tempfile
import time
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

import mpc
from benchmarks import results
from mpc.exploration import ExplorationProgress, coverage
from mpc.exploration import explore as explore_in
from worldmodels.data import Dataset

RESULTS = results.RESULTS / "exploration.jsonl"
console = Console(markup=False)


def explore(environment: tyro.conf.Positional[str], frames: int, out: Path, action_repeat: int = 2, seed: int = 0) -> None:
    """Gather episodes where an ensemble of models disagrees, and learn a model from them; no reward is looked at.

    Args:
        environment: a Gymnasium id, or dm_control's as dm_control/cheetah-run-v0.
        frames: environment steps in all, before action repeat.
        out: the run's folder: memory/, model/ and progress.jsonl.
        action_repeat: environment steps a decision lasts.
        seed: of networks, environment and search.
    """

    def show(report: ExplorationProgress) -> None:
        said = f"episode {report.episode:>4}: {report.frames:>7} of {report.total} frames"
        console.print(f"{said}  new to the model {report.novelty:.3f}", highlight=False)

    explore_in(mpc.make(environment, action_repeat=action_repeat), out, frames=frames, seed=seed, progress=show)
    console.print(f"{out}: the model is in {out / 'model'}, the episodes in {out / 'memory'}", highlight=False)


def bench_exploration(
    tasks: tuple[str, ...], seeds: tuple[int, ...], frames: int, action_repeat: int = 4
) -> list[dict[str, Any]]:
    """Coverage by disagreement, by white and by pink noise at equal frames; one grid over all three for each task and seed."""
    lines = []
    for task in tasks:
        for seed in seeds:
            environment = mpc.make(task, action_repeat=action_repeat)
            noises = {"random": mpc.RandomAgent(environment.spec), "pink": mpc.PinkAgent(environment.spec)}
            began = time.perf_counter()
            with tempfile.TemporaryDirectory() as root:
                explore_in(environment, Path(root) / "run", frames=frames, seed=seed)
                groups: dict[str, Any] = {"disagreement": list(Dataset.open(Path(root) / "run" / "memory"))}
            minutes = {"disagreement": (time.perf_counter() - began) / 60}
            for name, agent in noises.items():
                began = time.perf_counter()
                groups[name] = list(mpc.collect(environment, frames=frames, seed=seed * 100_000, agent=agent))
                minutes[name] = (time.perf_counter() - began) / 60
            shares = coverage(groups, environment.spec)
            console.print(f"{task}, seed {seed}: {shares}", highlight=False)
            for method, share in shares.items():
                cell = {
                    "benchmark": "exploration",
                    "task": task,
                    "method": method,
                    "settings": {"action_repeat": action_repeat},
                }
                figures = {"seed": seed, "frames": frames, "coverage": round(share, 4), "minutes": round(minutes[method], 2)}
                lines.append(results.write_line(RESULTS, {**cell, **figures}))
    return lines
