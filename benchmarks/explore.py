"""`sailplan explore`, and how its coverage compares with that of noise, into benchmarks/results/exploration.jsonl."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

import mpc
import worldmodels
from benchmarks import results
from benchmarks.many_tasks import ACTION_REPEAT, BODIES, EPISODES, RUNS, environment_of, exploration, explored, folder, imagined
from benchmarks.many_tasks_plot import plot_visited
from mpc.acting import play
from mpc.evaluation import HELD_OUT
from mpc.exploration import ExplorationProgress, ExplorationSettings, coverage, relative_error, untrained
from mpc.exploration import explore as explore_in
from worldmodels.data import Episode, Episodes

RESULTS = results.RESULTS / "exploration.jsonl"
METHODS = ("disagreement", "pink", "random")
console = Console(markup=False)


def explore(
    environment: tyro.conf.Positional[str],
    frames: int,
    out: Path,
    action_repeat: int = 2,
    seed: int = 0,
    resume: bool = False,
) -> None:
    """Gather episodes where an ensemble of models disagrees, and learn a model from them; no reward is looked at.

    Args:
        environment: a Gymnasium id, or dm_control's as dm_control/cheetah-run-v0.
        frames: environment steps in all, before action repeat.
        out: the run's folder: memory/, model/ and progress.jsonl.
        action_repeat: environment steps a decision lasts.
        seed: of networks, environment and search.
        resume: go on with the run in --out where it stopped.
    """

    def show(report: ExplorationProgress) -> None:
        said = f"episode {report.episode:>4}: {report.frames:>7} of {report.total} frames"
        console.print(f"{said}  new to the model {report.novelty:.3f}", highlight=False)

    made = mpc.make(environment, action_repeat=action_repeat)
    explore_in(made, out, frames=frames, seed=seed, resume=resume, progress=show)
    console.print(f"{out}: the model is in {out / 'model'}, the episodes in {out / 'memory'}", highlight=False)


def bench_exploration(
    bodies: Sequence[str], seeds: Sequence[int], frames: int, updates: int, methods: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Coverage by disagreement, by white and by pink noise at equal frames and resets, how new it stays, and how well one plans after it.

    One grid over all three for each body and seed, also where only some `methods` are measured. Plans are for the task in whose
    environment the body explored, through models that learn from each method's data alone, all alike; `updates` are of critic and
    policy. What is done in the second half is the newer, the worse a model of the first half foresees it.
    """
    lines, chosen = [], results.choose("method", methods, METHODS)
    for body in results.choose("body", bodies, BODIES):
        task = f"dm_control/{body}-{BODIES[body][0]}-v0"
        environment = environment_of(body, BODIES[body][0])
        for seed in seeds:
            cells = {method: _cell(task, method, seed, frames, updates) for method in chosen}
            wanted = {method: cell for method, cell in cells.items() if not results.holds(RESULTS, cell)}
            if not wanted:
                continue
            groups = visited(environment, body, seed, frames)
            shares = coverage(groups, environment.spec)
            for method, cell in wanted.items():
                episodes, run = groups[method], _compared(body, seed, frames, method)
                planned = _planned(run, environment, body, episodes, updates, seed)
                measured = {
                    "coverage": round(shares[method], 4),
                    "novelty": round(float(np.mean(news(run, environment, episodes, seed))), 4),
                }
                lines.append(results.write_line(RESULTS, {**cell, **measured, **planned}))
                said = f"{task}, {method}, seed {seed}: coverage {shares[method]:.3f}, return {planned['return_mean']:.1f}"
                console.print(said, highlight=False)
    return lines


def _cell(task: str, method: str, seed: int, frames: int, updates: int) -> dict[str, Any]:
    settings = {"action_repeat": ACTION_REPEAT, "exploration": exploration(), "updates": updates}
    return {"benchmark": "exploration", "task": task, "method": method, "settings": settings, "seed": seed, "frames": frames}


def _compared(body: str, seed: int, frames: int, method: str) -> Path:
    """Where the models of a method's data are kept."""
    return RUNS / "compared" / folder(body, seed, frames).name / method


def _planned(
    run: Path, environment: mpc.Environment, body: str, episodes: Sequence[Episode], updates: int, seed: int
) -> dict[str, Any]:
    """What the planner returns through a model of `episodes`, and the minutes of learning, imagining and acting; kept in `run`."""
    began, cost = time.process_time(), f"{body}.{BODIES[body][0]}"
    agents, _ = imagined(run, _learned(run, environment, episodes, seed), episodes, cost, updates, seed)
    result = mpc.evaluate(environment, agents["planner"], episodes=EPISODES, seed=HELD_OUT)
    return {**result.summary(), "minutes": round((time.process_time() - began) / 60, 2)}


def news(run: Path, environment: mpc.Environment, episodes: Sequence[Episode], seed: int) -> np.ndarray:
    """The relative error, one step ahead on each episode of the second half, of a model of the first half."""
    half = len(episodes) // 2
    model = _learned(run / "half", environment, episodes[:half], seed)
    return np.array([relative_error(model, episode) for episode in episodes[half:]])


def _learned(run: Path, environment: mpc.Environment, episodes: Sequence[Episode], seed: int) -> Any:
    """What exploring would have learned from `episodes`, with as many updates, from the beginning, circles not held; kept in `run`."""
    kept, settings = run / "model", ExplorationSettings()
    if not kept.exists():
        seen = Episodes(environment.spec, tuple(episodes))
        count = round((settings.updates + settings.closing) * seen.decisions)
        model = worldmodels.train(untrained(environment, settings, seed=seed), seen, settings.falling, updates=count, seed=seed)
        worldmodels.save(model, kept)
    return worldmodels.load(kept)


def visited(environment: mpc.Environment, body: str, seed: int, frames: int) -> dict[str, list[Episode]]:
    """What each method did, at equal frames and resets."""
    noises = {"pink": mpc.PinkAgent(environment.spec), "random": mpc.RandomAgent(environment.spec)}
    made = {name: noise(environment, agent, frames, seed) for name, agent in noises.items()}
    return {"disagreement": gathered(body, seed, frames), **made}


def gathered(body: str, seed: int, frames: int) -> list[Episode]:
    """The first `frames` of the body's run: of a longer one where there is one, since exploring does not look at how much is to come."""
    lengths = [path.name.removeprefix(f"{body}-{seed}-") for path in RUNS.glob(f"{body}-{seed}-*")]
    length = min((int(each) for each in lengths if each.isdigit() and int(each) >= frames), default=frames)
    episodes = list(explored(body, seed, length)[1])
    ends = ACTION_REPEAT * np.cumsum([len(episode) for episode in episodes])
    return episodes[: np.searchsorted(ends, frames) + 1]


def draw_exploration(bodies: Sequence[str], seed: int, frames: int) -> Path:
    """The picture of what the runs of `seed` visited, beside noise, and how new it stayed."""
    shown = {}
    for body in results.choose("body", bodies, BODIES):
        environment = environment_of(body, BODIES[body][0])
        groups = visited(environment, body, seed, frames)
        new = {
            method: news(_compared(body, seed, frames, method), environment, episodes, seed)
            for method, episodes in groups.items()
        }
        shown[body] = environment.spec, groups, new
    return plot_visited(shown)


def noise(environment: mpc.Environment, agent: Any, frames: int, seed: int) -> list[Episode]:
    """`frames` of an agent that does not learn, in episodes as long as those of exploration."""
    repeat, episodes, left = environment.spec.action_repeat, [], frames
    while left > 0:
        budget = -(-min(left, ExplorationSettings().episode_frames) // repeat)
        episodes += play(environment, agent, [seed * 1_000_000 % 2**31 + len(episodes)], budget=budget, explore=True)
        left -= repeat * len(episodes[-1])
    return episodes
