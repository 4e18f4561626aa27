"""`sailplan bench doors`: a maze with a door that is open by chance, by two levels, under chance and as if the likeliest were certain.

`two_level` draws what may be seen of the door for each future, and takes the moves that are fewest on average; `two_level_mean` takes the
likeliest for certain, and is the same in all else. `one_level_critic` goes by the time to the goal as learned from the same episodes:
the shortest that the data show, which hopes for chance. `simulator` is told whether the door is open: the ceiling. Lines go into
benchmarks/results/mazes.jsonl.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Any

import jax.numpy as jnp
import numpy as np
from rich.console import Console

import mpc
import planners
import worldmodels
from benchmarks import mazes, results
from benchmarks.door_rooms import (
    Metres,
    MovesToGoal,
    Rooms,
    TimeWhateverTheDoor,
    count_rooms,
    likeliest,
    moves_to,
    nearest,
)
from benchmarks.maze_learning import RUNS
from benchmarks.maze_map import FIRST, Maze, Way, cells, distances_to, look_up, maze_of
from planners.errors import require_positive
from worldmodels import manifest

TASK = "PointMaze_Door-v0"
ID = f"benchmarks.door_maze:{TASK}"
METHODS = ("two_level", "two_level_mean", "one_level_critic", "simulator")
UPPER = ("stride", "moves", "upper_samples", "upper_iterations", "futures", "replan")  # one level does not have them
console = Console(markup=False)


@dataclass(frozen=True)
class DoorSettings:
    """What is learned, and how two levels plan with it.

    Attributes:
      frames: environment steps of pink noise, from starts all over the maze.
      stride: decisions from one room to the next.
      moves: rooms that the upper level looks ahead.
    """

    frames: int = 200_000
    action_repeat: int = 4
    exponent: float = 1.5
    updates: int = 6_000
    batch: int = 128
    latent: int = 32
    hidden: int = 128
    stride: int = 6
    samples: int = 128
    iterations: int = 3
    moves: int = 6
    upper_samples: int = 128
    upper_iterations: int = 4
    futures: int = 16
    replan: int = 3


@dataclass(frozen=True)
class OneLevel:
    """How one level searches, and learns its critic, on what `DoorSettings` learns.

    Attributes:
      distance_updates: three times as many as in the other mazes, which with this search reaches more; with 20 × 128 it does not.
    """

    horizon: int = 10
    samples: int = 256
    iterations: int = 3
    distance_updates: int = 24_000
    distance_hidden: int = 256


def bench_doors(
    methods: Sequence[str],
    seeds: Sequence[int],
    episodes: int,
    *,
    resume: bool,
    settings: DoorSettings | None = None,
    one: OneLevel | None = None,
) -> list[dict[str, Any]]:
    """Measure every cell; `resume` leaves out those with a line. The simulator knows one seed, 0."""
    settings, one, lines = settings or DoorSettings(), one or OneLevel(), []
    chosen = results.choose("method", methods, METHODS)
    ways = door_ways(episodes)
    for seed in seeds:
        for method in chosen:
            key = cell_key(method, seed, episodes, settings, one)
            again = method == "simulator" and seed != seeds[0]
            if not again and not (resume and results.holds(mazes.RESULTS, key)):
                lines.append(cell(key, ways, settings, one))
    return lines


def cell_key(method: str, seed: int, episodes: int, settings: DoorSettings, one: OneLevel) -> dict[str, Any]:
    """What a line is known by."""
    simulated, how = method == "simulator", asdict(settings)
    if simulated:
        lower = {name: value for name, value in asdict(mazes.MazePlanning()).items() if name not in mazes.UPPER}
        how = {"action_repeat": settings.action_repeat} | lower
    elif method == "one_level_critic":
        how = {name: value for name, value in how.items() if name not in UPPER} | asdict(one)
    return {
        "benchmark": "mazes",
        "task": TASK,
        "method": method,
        "settings": {"episodes": episodes} | how,
        "seed": 0 if simulated else seed,
        "frames": 0 if simulated else settings.frames,
    }


def cell(key: dict[str, Any], ways: list[Way], settings: DoorSettings, one: OneLevel) -> dict[str, Any]:
    """Play all ways by one method and write its line."""
    method = key["method"]
    simulated = method == "simulator"
    rooms, minutes = (None, 0.0) if simulated else learned_rooms(key["seed"], settings)
    critic = None
    if rooms is not None and method == "one_level_critic":
        critic, more = learned_critic(key["seed"], rooms, settings, one)
        minutes += more
    began, times, seconds, opened = time.perf_counter(), [], [], []
    made = mpc.make(ID, action_repeat=settings.action_repeat, privileged=True) if simulated else environment(settings)
    clock = mazes.clock_of(made)
    for way in ways:
        made.reset(way.seed)
        opened.append(is_open(made))
        if rooms is None:
            agent = told_agent(opened[-1], way, settings)
        elif critic is None:
            agent = make_agent(method, rooms, way, settings)
        else:
            agent = one_level_agent(rooms, critic, way, one)
        taken = mazes.play(made, agent, way, times)[0]
        seconds.append(None if taken is None else round(taken * made.spec.seconds_per_step, 3))
    made.close()
    reached = [value for value in seconds if value is not None]
    console.print(f"{TASK}, seed {key['seed']}, {method}: {len(reached)} of {len(ways)} goals reached", highlight=False)
    return results.write_line(
        mazes.RESULTS,
        {
            **key,
            "success_rate": len(reached) / len(ways),
            "seconds_to_goal": float(np.mean(reached)) if reached else None,
            "decision_ms_p50": float(np.median(times)),
            "decision_ms_mean": float(np.mean(times)),
            "seconds": seconds,
            "open": opened,
            "clock": clock,
            "learning_minutes": minutes,
            "minutes": round((time.perf_counter() - began) / 60, 2),
        },
    )


def environment(settings: DoorSettings) -> mpc.Environment:
    """Positions, velocities, and what is known of the door."""
    return mpc.make(ID, action_repeat=settings.action_repeat, observe=("observation", "door"))


def is_open(made: mpc.Environment) -> bool:
    return bool(made._env.unwrapped.open)  # type: ignore[attr-defined]


def watched(seed: int, settings: DoorSettings) -> worldmodels.Episodes:
    """Episodes of noise; their costs are not looked at."""
    made = environment(settings)
    agent = mpc.PinkAgent(made.spec, exponent=settings.exponent, length=64)
    episodes = mpc.collect(made, frames=settings.frames, seed=100_000 * seed, agent=agent, copies=16)
    assert isinstance(episodes, worldmodels.Episodes)
    made.close()
    return episodes


def learned_rooms(seed: int, settings: DoorSettings) -> tuple[Rooms, float]:
    """The lower level and the rooms counted above it, and the minutes that took; read where they were learned before."""
    folder = RUNS / f"{TASK}-{seed}-{digest(settings)}"
    maze, _ = door_maps()
    if (folder / "minutes").exists():
        model = worldmodels.load(folder / "model")
        with np.load(folder / "rooms.npz") as kept:
            parts = {name: jnp.asarray(kept[name]) for name in kept.files}
        return Rooms(model, stride=settings.stride, **parts), float((folder / "minutes").read_text())
    began = time.perf_counter()
    episodes = watched(seed, settings)
    untrained = worldmodels.JEPA(episodes.spec, latent=settings.latent, hidden=settings.hidden, seed=seed)
    training = worldmodels.TrainingSettings(batch=settings.batch)
    model = worldmodels.train(untrained, episodes, training, updates=settings.updates, seed=seed)
    rooms = count_rooms(model, episodes, cells(maze), settings.stride)
    minutes = (time.perf_counter() - began) / 60
    folder.mkdir(parents=True, exist_ok=True)
    worldmodels.save(model, folder / "model")
    np.savez(folder / "rooms.npz", **{name: getattr(rooms, name) for name in ("middles", "beside", "ways", "odds")})
    manifest.write_aside(folder / "minutes", f"{minutes:.2f}".encode())
    return rooms, minutes


def learned_critic(seed: int, rooms: Rooms, settings: DoorSettings, one: OneLevel) -> tuple[mpc.TemporalDistance, float]:
    """Steps from state to state on the lower level's latents, and the minutes that took; read where it was learned before."""
    folder = RUNS / f"{TASK}-{seed}-{digest(settings, one.distance_updates, one.distance_hidden)}"
    if (folder / "minutes").exists():
        return mpc.load_hierarchy(folder / "critic").distances[0], float((folder / "minutes").read_text())
    began = time.perf_counter()
    how = mpc.DistanceSettings(updates=one.distance_updates, batch=2 * settings.batch, hidden=one.distance_hidden)
    critic = mpc.learn_distance(rooms.lower, watched(seed, settings), how, seed=seed)
    minutes = (time.perf_counter() - began) / 60
    folder.mkdir(parents=True, exist_ok=True)
    mpc.save_hierarchy(mpc.Hierarchy(rooms.lower, (), (critic,)), folder / "critic")
    manifest.write_aside(folder / "minutes", f"{minutes:.2f}".encode())
    return critic, minutes


def digest(settings: DoorSettings, *more: int) -> str:
    """Names the folder of what was learned so."""
    said = json.dumps([asdict(settings), *more], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def door_maps() -> tuple[Maze, Maze]:
    """The maze with its door open, and with its door closed."""
    closed = maze_of(ID)
    made = mpc.make(ID)
    row, column = made._env.unwrapped.DOOR  # type: ignore[attr-defined]
    made.close()
    walls = closed.walls.copy()
    walls[row, column] = False
    return closed._replace(walls=walls), closed


def door_ways(episodes: int) -> list[Way]:
    """The first seeds at which the door is on the shortest way, and the way round is by a tenth the shorter one on average."""
    open_, closed = door_maps()
    (door,) = cells(open_)[~(cells(open_)[:, None] == cells(closed)).all(-1).any(-1)]
    require_positive(episodes=episodes)
    made, ways = mpc.make(ID), []
    chance = made._env.unwrapped.chance  # type: ignore[attr-defined]
    for seed in count(FIRST):
        seen = made.reset(seed)
        way = Way(seed, np.asarray(seen["achieved_goal"]), np.asarray(seen["desired_goal"]))
        through, round_ = (metres_between(maze, way.start, way.goal) for maze in (open_, closed))
        before = min((door + side for side in ((-1.0, 0.0), (1.0, 0.0))), key=lambda at: metres_between(closed, way.start, at))
        vain = metres_between(closed, way.start, before) + metres_between(closed, before, way.goal)
        if through < round_ and chance * through + (1 - chance) * vain >= 1.1 * round_:
            ways.append(way)
        if len(ways) == episodes:
            break
    made.close()
    return ways


def metres_between(maze: Maze, start: np.ndarray, goal: np.ndarray) -> float:
    """Along the corridors."""
    return float(look_up(jnp.asarray(distances_to(maze, goal)), jnp.asarray(maze.centre), jnp.asarray(start)))


def make_agent(method: str, rooms: Rooms, way: Way, settings: DoorSettings) -> mpc.HierarchicalAgent:
    """Who plays, towards the goal of `way`, whose room counts as having its middle there."""
    believed = likeliest(rooms) if method == "two_level_mean" else rooms
    goal = int(nearest(np.asarray(rooms.middles), way.goal))
    believed = replace(believed, middles=believed.middles.at[goal].set(jnp.asarray(way.goal)))
    cost = MovesToGoal(jnp.asarray(goal), jnp.asarray(moves_to(believed, goal), jnp.float32))
    upper = planners.CategoricalCEM(
        settings.moves,
        samples=settings.upper_samples,
        iterations=settings.upper_iterations,
        elites=settings.upper_samples // 12,
    )
    lower = mazes.searching(2 * settings.stride, settings.samples, settings.iterations)
    planner = mpc.HierarchicalPlanner((lower, upper), replan=(settings.replan,))
    return mpc.HierarchicalAgent(rooms.lower, cost, planner, futures=settings.futures, upper=(believed,), distances=(Metres(),))


def one_level_agent(rooms: Rooms, critic: mpc.TemporalDistance, way: Way, one: OneLevel) -> mpc.PlanningAgent:
    """Who plays by the time to the goal of `way`, at rest there, whatever is known of the door then."""
    known = jnp.array([[-1.0], [0.0], [1.0]])
    there = jnp.asarray(np.concatenate([way.goal, np.zeros(2)]), jnp.float32)
    cost = TimeWhateverTheDoor(critic, {"observation": jnp.tile(there, (len(known), 1)), "door": known})
    return mpc.PlanningAgent(rooms.lower, cost, mazes.searching(one.horizon, one.samples, one.iterations))


def told_agent(is_open: bool, way: Way, settings: DoorSettings) -> mpc.PlanningAgent:
    """One level on the true physics of a maze whose door is as it is, told the metres to go."""
    true = mpc.make(
        ID.replace("Door-", "DoorOpen-" if is_open else "DoorClosed-"), action_repeat=settings.action_repeat, privileged=True
    )
    agent = mazes.simulated_agent(true, door_maps()[not is_open], way, mazes.MazePlanning())
    true.close()
    return agent
