"""Planning problems whose least cost is known, for `sailplan bench planners`.

Two linear ones solved by Riccati and by convex optimisation, one with a trap in the way, one over discrete actions.
"""

import itertools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from planners import Box, Discrete, Problem


class Case(NamedTuple):
    """A problem, where it starts, how far to plan, and the least J there is."""

    problem: Problem
    latent: Any
    horizon: int
    optimum: float


def _problem(dynamics: Any, cost: Any, actions: Box | Discrete, terminal_cost: Any, constraints: Any = None) -> Problem:
    return Problem(dynamics, cost, actions, terminal_cost, constraints=constraints)


def _box(*limits: float) -> Box:
    return Box(-jnp.asarray(limits), jnp.asarray(limits))


# A point on a line, pushed: position in metres, velocity in metres per second, a fifth of a second a step.
STEP = 0.2
STATE = np.array([[1.0, STEP], [0.0, 1.0]])
CONTROL = np.array([STEP**2 / 2, STEP])
STATE_COST, EFFORT = np.array([1.0, 0.1]), 0.1
END_COST = np.array([10.0, 1.0])
WALL = 1.0
FORCE = 5.0  # newtons on a kilogram


def _push(latent, action, noise):
    return jnp.asarray(STATE, jnp.float32) @ latent + jnp.asarray(CONTROL, jnp.float32) * action[0]


def _to_origin(latent, action, step):
    return (jnp.asarray(STATE_COST, jnp.float32) * latent**2).sum() + EFFORT * action[0] ** 2


def _to_origin_end(latent):
    return (jnp.asarray(END_COST, jnp.float32) * latent**2).sum()


def linear_quadratic(horizon: int = 20) -> Case:
    """Bring the point to rest at the origin; no bound is active, so the optimum is Riccati's."""
    start = np.array([1.5, 0.0])
    value = np.diag(END_COST)
    for _ in range(horizon):
        gain = CONTROL @ value @ STATE / (EFFORT + CONTROL @ value @ CONTROL)
        value = np.diag(STATE_COST) + STATE.T @ value @ (STATE - np.outer(CONTROL, gain))
    problem = _problem(_push, _to_origin, _box(FORCE), _to_origin_end)
    return Case(problem, jnp.asarray(start, jnp.float32), horizon, float(start @ value @ start))


def _beyond(latent, action, step):
    return (latent[0] - 2.0) ** 2 + EFFORT * action[0] ** 2


def _beyond_end(latent):
    return 5 * (latent[0] - 2.0) ** 2


def _wall(latent, action, step):
    return _push(latent, action, None)[:1] - WALL


def wall(horizon: int = 20) -> Case:
    """The same point drawn to a goal at 2 m, behind a wall at 1 m: a quadratic programme, solved in float64."""
    after = [np.linalg.matrix_power(STATE, t) @ CONTROL for t in range(horizon)]
    position = np.array([[after[t - 1 - i][0] if i < t else 0.0 for i in range(horizon)] for t in range(horizon + 1)])
    weights = np.append(np.ones(horizon), 5.0)

    def cost(u):
        return weights @ (position @ u - 2) ** 2 + EFFORT * u @ u

    def slope(u):
        return 2 * position.T @ (weights * (position @ u - 2)) + 2 * EFFORT * u

    room = {"type": "ineq", "fun": lambda u: WALL - position[1:] @ u, "jac": lambda u: -position[1:]}
    settings = {"maxiter": 1000, "ftol": 1e-12}
    found = minimize(cost, np.zeros(horizon), jac=slope, bounds=[(-FORCE, FORCE)] * horizon, constraints=room, options=settings)
    problem = _problem(_push, _beyond, _box(FORCE), _beyond_end, constraints=_wall)
    return Case(problem, jnp.zeros(2), horizon, float(found.fun))


# A cup of three discs, open towards the start, between it and the goal. Metres.
DISCS = np.array([[1.0, 0.0], [0.8, 0.5], [0.8, -0.5]], np.float32)
RADIUS, SPEED = 0.35, 0.2
GOAL = np.array([2.0, 0.0], np.float32)


def _walk(latent, action, noise):
    return latent + SPEED * action


def _bruises(latent, action, step):
    distance = jnp.linalg.norm(latent - jnp.asarray(DISCS) + 1e-6, axis=-1)
    return 100 * (jnp.maximum(0.0, RADIUS - distance) ** 2).sum()


def _to_goal(latent):
    return _bruises(latent, None, None) + ((latent - jnp.asarray(GOAL)) ** 2).sum()


def obstacle(horizon: int = 20) -> Case:
    """Walk to the goal around a cup whose inside is a trap: 20 steps are plenty for the way round, whose cost is 0."""
    return Case(_problem(_walk, _bruises, _box(1.0, 1.0), _to_goal), jnp.zeros(2), horizon, 0.0)


# A grid with a key at the end of one passage and the door it opens at the end of another; 0 free, 1 wall.
GRID = np.array([[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 0, 1, 0], [0, 0, 0, 1, 0]])
SIDE = len(GRID)
KEY, DOOR = (4, 2), (4, 4)
MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])
TOLL, PRIZE = 0.05, 5.0  # a move onto every third square costs twice the toll


def _transitions() -> np.ndarray:
    """[2 · 25, 4]: the situation (has the key, row, column) after each move; walls and edges hold one back."""
    table = np.zeros((2 * SIDE * SIDE, len(MOVES)), np.int32)
    for has_key, row, column, move in itertools.product(range(2), range(SIDE), range(SIDE), range(len(MOVES))):
        aim = np.clip(np.array([row, column]) + MOVES[move], 0, SIDE - 1)
        r, c = (row, column) if GRID[tuple(aim)] else (int(aim[0]), int(aim[1]))
        table[(has_key * SIDE + row) * SIDE + column, move] = (max(has_key, (r, c) == KEY) * SIDE + r) * SIDE + c
    return table


def _way_left() -> np.ndarray:
    """[2 · 25]: moves from each situation to the open door; 99 where there is no way."""
    left = np.full(2 * SIDE * SIDE, 99)
    left[(SIDE + DOOR[0]) * SIDE + DOOR[1]] = 0
    for _ in range(2 * SIDE * SIDE):
        left = np.minimum(left, 1 + left[TRANSITIONS].min(1))
    return left


TRANSITIONS = _transitions()
TOLLS = (TOLL * (1 + (TRANSITIONS % 3 == 0))).astype(np.float32)
PRIZES = np.where(_way_left() == 0, -PRIZE, 0.1 * np.minimum(_way_left(), 30)).astype(np.float32)


def _move(situation, action, noise):
    return jnp.asarray(TRANSITIONS)[situation, action]


def _toll(situation, action, step):
    return jnp.asarray(TOLLS)[situation, action]


def _prize(situation):
    return jnp.asarray(PRIZES)[situation]


def puzzle(horizon: int = 10) -> Case:
    """Fetch the key, then leave by the door, every step at a toll: the optimum by dynamic programming over 50 situations.

    The way left is charged at the end, so that coming nearer counts, and the open door has a prize.
    """
    start = 2 * SIDE + 2  # row 2, column 2, without the key
    value = PRIZES.astype(np.float64)
    for _ in range(horizon):
        value = (TOLLS + value[TRANSITIONS]).min(1)
    return Case(_problem(_move, _toll, Discrete(len(MOVES)), _prize), jnp.asarray(start), horizon, float(value[start]))


CASES = {
    "linear-quadratic": linear_quadratic,
    "double-integrator-wall": wall,
    "obstacle-cup": obstacle,
    "key-and-door": puzzle,
}
