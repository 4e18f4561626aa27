"""`sailplan bench mazes`: goals across the PointMazes of gymnasium-robotics (extra `mazes`), by one level and by two.

All methods of a (maze, seed) share what was learned, and play the same episodes: the environment's first seeds at which the way
through the maze is at least half of the longest. Every cell is a line of benchmarks/results/mazes.jsonl, written as it ends.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import mpc
import planners
from benchmarks import results
from benchmarks.maze_learning import MazeLearning, environment, learned
from benchmarks.maze_map import Maze, Way, distances_to, gym_id, list_ways, look_up, maze_of

RESULTS = results.RESULTS / "mazes.jsonl"
REACHED = 0.45  # metres, the environment's own
TASKS = ("PointMaze_UMaze-v3", "PointMaze_Medium-v3", "PointMaze_Large-v3")
METHODS = ("one_level", "one_level_critic", "two_level", "simulator")
UPPER = ("upper_horizon", "upper_samples", "upper_iterations", "replan", "leaps", "reach")  # one level does not have them
FOREVER = 1_000  # decisions, where the environment sets no limit
console = Console(markup=False)


@dataclass(frozen=True)
class MazePlanning:
    """The same for every maze. Two levels together predict no more steps a decision than one level does.

    Attributes:
      horizon, samples, iterations: of one level. The lower of two looks two strides ahead, half as far.
      upper_horizon, upper_samples, upper_iterations: of the upper level, which plans anew every `replan` decisions.
      leaps: weight of the steps that an upper prediction covers beyond its stride: as many as there are strides to save them in.
      reach: decisions by which a subgoal may be missed before it is replaced; None replaces none.
    """

    horizon: int = 20
    samples: int = 128
    iterations: int = 3
    upper_horizon: int = 8
    upper_samples: int = 128
    upper_iterations: int = 4
    replan: int = 4
    leaps: float = 8.0
    reach: float | None = None


def bench_mazes(
    tasks: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    episodes: int,
    *,
    resume: bool,
    learning: MazeLearning | None = None,
    planning: MazePlanning | None = None,
) -> list[dict[str, Any]]:
    """Measure every cell, seed by seed and task by task; `resume` leaves out those with a line. The simulator knows one seed, 0."""
    learning, planning, lines = learning or MazeLearning(), planning or MazePlanning(), []
    chosen = results.choose("method", methods, METHODS)
    for seed in seeds:
        for task in tasks or TASKS:
            ways = list_ways(task, episodes)
            for method in chosen:
                key = cell_key(task, method, seed, episodes, learning, planning)
                again = method == "simulator" and seed != seeds[0]
                if not again and not (resume and results.holds(RESULTS, key)):
                    lines.append(cell(key, ways, learning, planning))
    return lines


def cell_key(
    task: str, method: str, seed: int, episodes: int, learning: MazeLearning, planning: MazePlanning
) -> dict[str, Any]:
    """What a line is known by."""
    simulated = method == "simulator"
    data = {"action_repeat": learning.action_repeat} if simulated else asdict(learning)
    how = {name: value for name, value in asdict(planning).items() if method == "two_level" or name not in UPPER}
    return {
        "benchmark": "mazes",
        "task": task,
        "method": method,
        "settings": {"episodes": episodes} | data | how,
        "seed": 0 if simulated else seed,
        "frames": 0 if simulated else learning.frames,
    }


def cell(key: dict[str, Any], ways: list[Way], learning: MazeLearning, planning: MazePlanning) -> dict[str, Any]:
    """Play all ways by one method and write its line."""
    task, method, seed = key["task"], key["method"], key["seed"]
    simulated = method == "simulator"
    hierarchy, minutes = (None, 0.0) if simulated else learned(task, seed, learning)
    began, times = time.perf_counter(), []
    made = (
        mpc.make(gym_id(task), action_repeat=learning.action_repeat, privileged=True)
        if simulated
        else environment(task, learning.action_repeat)
    )
    seconds, clock = [], clock_of(made)
    for way in ways:
        agent = (
            simulated_agent(made, maze_of(task), way, planning)
            if hierarchy is None
            else make_agent(method, hierarchy, way, planning)
        )
        taken = play(made, agent, way, times)[0]
        seconds.append(None if taken is None else round(taken * made.spec.seconds_per_step, 3))
    made.close()
    reached = [value for value in seconds if value is not None]
    console.print(f"{task}, seed {seed}, {method}: {len(reached)} of {len(ways)} goals reached", highlight=False)
    return results.write_line(
        RESULTS,
        {
            **key,
            "success_rate": len(reached) / len(ways),
            "seconds_to_goal": float(np.mean(reached)) if reached else None,
            "decision_ms_p50": float(np.median(times)),
            "decision_ms_mean": float(np.mean(times)),
            "seconds": seconds,
            "clock": clock,
            "learning_minutes": minutes,
            "minutes": round((time.perf_counter() - began) / 60, 2),
        },
    )


def clock_of(made: mpc.Environment) -> float:
    """Seconds until an episode ends."""
    return round((made.decisions_per_episode or FOREVER) * made.spec.seconds_per_step, 3)


def searching(horizon: int, samples: int, iterations: int) -> planners.ICEM:
    """The search for actions, of one level and of the lower of two."""
    return planners.ICEM(horizon, samples=samples, iterations=iterations, elites=max(4, samples // 8), keep=4)


def make_agent(method: str, hierarchy: mpc.Hierarchy, way: Way, planning: MazePlanning) -> mpc.PlanningAgent:
    """Who plays, towards the goal of `way`, at rest there."""
    shown = {"observation": jnp.asarray(np.concatenate([way.goal, np.zeros(2)]), jnp.float32)}
    if method == "one_level":
        return mpc.PlanningAgent(
            hierarchy.model, mpc.goal(shown), searching(planning.horizon, planning.samples, planning.iterations)
        )
    if method == "one_level_critic":
        cost = mpc.TimeToGoal(hierarchy.distances[0], shown)
        return mpc.PlanningAgent(hierarchy.model, cost, searching(planning.horizon, planning.samples, planning.iterations))
    upper = planners.CategoricalCEM(
        planning.upper_horizon,
        samples=planning.upper_samples,
        iterations=planning.upper_iterations,
        elites=planning.upper_samples // 12,
    )
    lower = searching(2 * hierarchy.upper[0].stride, planning.samples, planning.iterations)
    planner = mpc.HierarchicalPlanner((lower, upper), replan=(planning.replan,))
    critic = hierarchy.distances[1]
    leaps = mpc.Leaps(critic, hierarchy.upper[0].stride)
    cost = mpc.combine(task=(1.0, mpc.TimeToGoal(critic, shown)), leaps=(planning.leaps, leaps))
    reach = () if planning.reach is None else (planning.reach,)
    return mpc.HierarchicalAgent(
        hierarchy.model, cost, planner, upper=hierarchy.upper, distances=hierarchy.distances[1:], reach=reach
    )


def corridor(readout, action, step, distances, centre):
    """Metres to go, along the corridors of the true map."""
    return look_up(distances, centre, readout["qpos"])


def simulated_agent(made: mpc.Environment, maze: Maze, way: Way, planning: MazePlanning) -> mpc.PlanningAgent:
    """The ceiling: one level on the true physics, that is told how far it is from everywhere to the goal."""
    cost = mpc.cost(corridor, distances=distances_to(maze, way.goal), centre=maze.centre)
    return mpc.PlanningAgent(mpc.simulator(made), cost, searching(planning.horizon, planning.samples, planning.iterations))


def play(
    made: mpc.Environment, agent: mpc.PlanningAgent, way: Way, times: list[float]
) -> tuple[int | None, list[np.ndarray], list[Any]]:
    """Decisions to the goal (None where the clock ran out), and positions [2] and agent states along the way.

    Milliseconds of all decisions but the first are added to `times`.
    """
    observation = made.reset(way.seed)
    state = agent.reset(observation)
    places, states = [], []
    for step in range(made.decisions_per_episode or FOREVER):
        places.append(position(observation))
        began = time.perf_counter()
        decision, state = agent.act(state, observation, key=jax.random.fold_in(jax.random.key(way.seed), step))
        action = np.asarray(decision.action)
        times.extend([1e3 * (time.perf_counter() - began)] if step else [])
        states.append(state)
        transition = made.step(action)
        observation = transition.observation
        if np.linalg.norm(position(observation) - way.goal) <= REACHED:
            return step + 1, [*places, position(observation)], states
        if transition.terminated or transition.truncated:
            break
    return None, places, states


def position(observation: dict[str, np.ndarray]) -> np.ndarray:
    """[2], metres, of what a robot or a privileged planner observes."""
    return observation["observation"][:2] if "observation" in observation else observation["state"][1:3]
