"""`sailplan explore`, and how its coverage compares with that of noise, into benchmarks/results/exploration.jsonl."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

import mpc
from benchmarks import results
from benchmarks.many_tasks import ACTION_REPEAT, BODIES, environment_of, explored, folder
from benchmarks.many_tasks_plot import plot_visited
from mpc.acting import play
from mpc.exploration import ExplorationProgress, ExplorationSettings, coverage
from mpc.exploration import explore as explore_in
from worldmodels.data import Episode

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


def bench_exploration(bodies: Sequence[str], seeds: Sequence[int], frames: int) -> list[dict[str, Any]]:
    """Coverage by disagreement, by white and by pink noise at equal frames and resets; one grid over all three for each body and seed."""
    lines = []
    for body in results.choose("body", bodies, BODIES):
        task = f"dm_control/{body}-{BODIES[body][0]}-v0"
        environment = environment_of(body, BODIES[body][0])
        for seed in seeds:
            began, groups = time.process_time(), visited(environment, body, seed, frames)
            shares, minutes = coverage(groups, environment.spec), round((time.process_time() - began) / 60, 2)
            console.print(f"{task}, seed {seed}: {shares}", highlight=False)
            for method, share in shares.items():
                line = {
                    "benchmark": "exploration",
                    "task": task,
                    "method": method,
                    "settings": {"action_repeat": ACTION_REPEAT, "episode_frames": ExplorationSettings().episode_frames},
                    "seed": seed,
                    "frames": frames,
                    "coverage": round(share, 4),
                    "minutes": minutes,
                }
                lines.append(results.write_line(RESULTS, line))
    return lines


def visited(environment: mpc.Environment, body: str, seed: int, frames: int) -> dict[str, list[Episode]]:
    """What each method did, at equal frames and resets."""
    noises = {"pink": mpc.PinkAgent(environment.spec), "random": mpc.RandomAgent(environment.spec)}
    made = {name: noise(environment, agent, frames, seed) for name, agent in noises.items()}
    return {"disagreement": list(explored(body, seed, frames)[1]), **made}


def draw_exploration(bodies: Sequence[str], seed: int, frames: int) -> Path:
    """The picture of what the runs of `seed` visited, beside noise."""
    shown = {}
    for body in results.choose("body", bodies, BODIES):
        environment = environment_of(body, BODIES[body][0])
        shown[body] = environment.spec, visited(environment, body, seed, frames), folder(body, seed, frames) / "progress.jsonl"
    return plot_visited(shown)


def noise(environment: mpc.Environment, agent: Any, frames: int, seed: int) -> list[Episode]:
    """`frames` of an agent that does not learn, in episodes as long as those of exploration."""
    repeat, episodes, left = environment.spec.action_repeat, [], frames
    while left > 0:
        budget = -(-min(left, ExplorationSettings().episode_frames) // repeat)
        episodes += play(environment, agent, [seed * 1_000_000 % 2**31 + len(episodes)], budget=budget, explore=True)
        left -= repeat * len(episodes[-1])
    return episodes
