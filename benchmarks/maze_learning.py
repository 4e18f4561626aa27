"""What is learned of a maze from episodes of noise, without reward: once a seed, kept under runs/mazes, shared by all methods."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import mpc
import worldmodels
from benchmarks.maze_map import gym_id
from worldmodels import manifest

RUNS = Path("runs/mazes")


@dataclass(frozen=True)
class MazeLearning:
    """The same for every maze.

    Attributes:
      frames: environment steps of pink noise, from starts all over the maze.
      action_repeat: environment steps (of 10 ms) in a decision.
      stride, codes, upper_latent: of the level above.
    """

    frames: int = 200_000
    action_repeat: int = 4
    exponent: float = 1.5
    updates: int = 6_000
    batch: int = 128
    latent: int = 32
    hidden: int = 128
    stride: int = 5
    codes: int = 16
    upper_latent: int = 16
    upper_updates: int = 4_000
    distance_updates: int = 8_000
    distance_hidden: int = 256


def environment(task: str, action_repeat: int) -> mpc.Environment:
    """Positions and velocities; the goal is not part of what is learned."""
    return mpc.make(gym_id(task), action_repeat=action_repeat, observe=("observation",))


def watched(task: str, seed: int, settings: MazeLearning) -> worldmodels.Episodes:
    """Episodes of noise without costs."""
    made = environment(task, settings.action_repeat)
    agent = mpc.PinkAgent(made.spec, exponent=settings.exponent, length=64)
    recorded = mpc.collect(made, frames=settings.frames, seed=2_000_000 + 100_000 * seed, agent=agent, copies=16)
    made.close()
    return worldmodels.Episodes(made.spec, tuple(replace(episode, costs=None) for episode in recorded))


def learned(task: str, seed: int, settings: MazeLearning, say: Callable[[str], None] = print) -> tuple[mpc.Hierarchy, float]:
    """Two levels and the distances in time on both, and the minutes that learning them took; read where they were learned before."""
    digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode()).hexdigest()[:8]
    folder = RUNS / f"{task}-{seed}-{digest}"
    if (folder / "minutes").exists():
        return mpc.load_hierarchy(folder / "hierarchy"), float((folder / "minutes").read_text())
    began = time.perf_counter()
    episodes = watched(task, seed, settings)
    say(f"{task}, seed {seed}: {len(episodes)} episodes")
    hierarchy = learn_levels(episodes, seed, settings, say)
    minutes = (time.perf_counter() - began) / 60
    folder.mkdir(parents=True, exist_ok=True)
    mpc.save_hierarchy(hierarchy, folder / "hierarchy")
    manifest.write_aside(folder / "minutes", f"{minutes:.2f}".encode())
    return hierarchy, minutes


def learn_levels(
    episodes: worldmodels.Episodes, seed: int, settings: MazeLearning, say: Callable[[str], None]
) -> mpc.Hierarchy:
    """A model, a level on top of it, and on both how many steps of the lower one states are apart."""
    s = settings
    training = worldmodels.TrainingSettings(batch=s.batch)
    made = worldmodels.JEPA(episodes.spec, latent=s.latent, hidden=s.hidden, seed=seed)
    model = worldmodels.train(made, episodes, training, updates=s.updates, seed=seed)
    say("level 1 is learned")
    above = worldmodels.abstract(
        model,
        episodes,
        s.stride,
        replace(training, length=3),
        codes=s.codes,
        latent=s.upper_latent,
        hidden=s.hidden,
        updates=s.upper_updates,
        seed=seed,
    )
    say("level 2 is learned")
    how = mpc.DistanceSettings(updates=s.distance_updates, batch=2 * s.batch, hidden=s.distance_hidden)

    def show(report: Any) -> None:
        if report.updates == report.total:
            say(f"distance: a step costs {report.step:.2f}, states are {report.apart:.0f} apart, price {report.price:.2f}")

    distances = tuple(mpc.learn_distance(level, episodes, how, seed=seed, progress=show) for level in (model, above))
    return mpc.Hierarchy(model, (above,), distances)
