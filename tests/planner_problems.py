"""Problems of known optimum, and an independent way to price a plan."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from planners import Box, Discrete, Problem
from planners.actions import require_box


class Case(NamedTuple):
    """A problem, where it starts, how far to plan, and the least J there is."""

    problem: Problem
    latent: Any
    horizon: int
    optimum: float


def reference_cost(problem: Problem, latent, actions, future: int = 0) -> float:
    """J of one plan in one future, step by step in Python: the definition, written out."""
    total, weight = 0.0, 1.0
    noise = problem.futures(len(actions))[future]
    for t, action in enumerate(actions):
        total += weight * float(problem.cost(latent, action, jnp.asarray(t)))
        weight *= float(problem.discount) * float(problem.continues(latent, action))
        if weight == 0:
            return total
        latent = problem.dynamics(latent, action, noise[t])
    return total + weight * float(problem.terminal_cost(latent))


def do_nothing(case: Case) -> float:
    """J of the middle of the box, the cold start."""
    box = require_box(case.problem.actions, "do_nothing")
    middle = jnp.broadcast_to(box.middle, (case.horizon, *box.shape))
    return reference_cost(case.problem, case.latent, middle)


# Linear dynamics, quadratic cost: a double integrator. The optimum is Riccati's.
STATE = np.array([[1.0, 0.2], [0.0, 1.0]], np.float32)
CONTROL = np.array([[0.02], [0.2]], np.float32)
STATE_COST = np.diag([1.0, 0.1]).astype(np.float32)
CONTROL_COST = np.array([[0.3]], np.float32)
FINAL_COST = np.diag([5.0, 1.0]).astype(np.float32)


def _linear(latent, action, noise):
    return STATE @ latent + CONTROL @ action


def _quadratic(latent, action, step):
    return latent @ STATE_COST @ latent + action @ CONTROL_COST @ action


def _quadratic_end(latent):
    return latent @ FINAL_COST @ latent


def linear_quadratic(start=(1.0, 0.0), horizon: int = 10, discount: float = 1.0, **box) -> Case:
    problem = Problem(_linear, _quadratic, Box([-3.0], [3.0], **box), _quadratic_end, discount=jnp.float32(discount))
    return Case(problem, jnp.asarray(start, jnp.float32), horizon, riccati(start, horizon, discount))


def riccati(start, horizon: int, discount: float = 1.0) -> float:
    """The least cost of `linear_quadratic` where no bound is active: backward recursion in float64."""
    a, b, q, r = (matrix.astype(np.float64) for matrix in (STATE, CONTROL, STATE_COST, CONTROL_COST))
    value = FINAL_COST.astype(np.float64)
    for _ in range(horizon):
        value = discount * value
        gain = np.linalg.solve(r + b.T @ value @ b, b.T @ value @ a)
        value = q + a.T @ value @ (a - b @ gain)
    start = np.asarray(start, np.float64)
    return float(start @ value @ start)


def _drift(latent, action, noise):
    return latent + 0.3 * action


def _free(latent, action, step):
    return jnp.zeros(())


def _two_wells(latent):
    near, far = (latent[0] + 0.5) ** 2 + 0.3, (latent[0] - 1.0) ** 2
    return jnp.minimum(near, far)


def multi_modal() -> Case:
    """The nearer well holds a local optimum of 0.3; the farther one holds 0."""
    return Case(Problem(_drift, _free, Box([-1.0], [1.0]), _two_wells), jnp.zeros(1), 5, 0.0)


def _far_away(latent, action, step):
    return (latent[0] - 2.0) ** 2


def _far_away_end(latent):
    return (latent[0] - 2.0) ** 2


def _wall(passable, latent, action, step):
    return jnp.where(passable, _drift(latent, action, None) - 1.0, 1.0 + action**2)


def constrained(possible: bool = True) -> Case:
    """The goal lies behind a wall at 1: full speed up to it, then stand. Positions 0, 0.3, 0.6, 0.9, 1, 1, 1.

    Where it is not `possible` no action satisfies the constraint, and doing nothing violates it least, by 1.
    """
    wall = jax.tree_util.Partial(_wall, jnp.asarray(possible))
    problem = Problem(_drift, _far_away, Box([-1.0], [1.0]), _far_away_end, constraints=wall)
    positions = np.array([0.0, 0.3, 0.6, 0.9, 1.0, 1.0, 1.0])
    return Case(problem, jnp.zeros(1), 6, float(((positions - 2) ** 2).sum()) if possible else float("nan"))


def _pocket(edge, latent, action, noise):
    return jnp.where(action > edge, jnp.nan, latent + action)


def _towards_pocket(latent, action, step):
    return (action[0] - 0.8) ** 2 + 0.0 * latent[0]


def nan_pocket(edge: float = 0.5) -> Case:
    """Actions above the edge break the model; the cost falls towards them, so the best finite plan is 0.5 throughout."""
    dynamics = jax.tree_util.Partial(_pocket, jnp.float32(edge))
    return Case(Problem(dynamics, _towards_pocket, Box([-1.0], [1.0])), jnp.zeros(1), 4, 4 * 0.3**2)


def all_nan() -> Case:
    """Every action breaks the model."""
    return nan_pocket(edge=-2.0)._replace(optimum=float("nan"))


def _unstable(latent, action, noise):
    return 1.3 * latent + 0.5 * action


def _reward_for_living(latent, action, step):
    return -jnp.ones(())


def _alive(latent, action):
    return jax.nn.sigmoid(40 * (1.0 - jnp.abs(latent[0])))


def terminating() -> Case:
    """A reward of 1 a step while |position| < 1, like CartPole-v1; doing nothing falls over at step 3."""
    problem = Problem(_unstable, _reward_for_living, Box([-1.0], [1.0]), continues=_alive)
    return Case(problem, jnp.full((1,), 0.5), 12, -12.0)


def _noisy(latent, action, noise):
    return latent + action + noise


def _distance(latent, action, step):
    return jnp.abs(latent[0] - 1.0)


def _distance_end(latent):
    return jnp.abs(latent[0] - 1.0)


def noisy(risk, futures: int = 4, horizon: int = 3) -> Case:
    """One integrator, pushed by a different noise in each future."""
    noise = jax.random.normal(jax.random.key(7), (futures, horizon, 1)) * 0.3
    problem = Problem(_noisy, _distance, Box([-1.0], [1.0]), _distance_end, noise=noise, risk=risk)
    return Case(problem, jnp.zeros(1), horizon, float("nan"))


# A discrete puzzle: 5 rooms, 3 doors each, a toll on every door, and a prize that the cheapest first door leads away from.
ROOMS = np.array([[1, 2, 0], [0, 3, 1], [4, 2, 0], [3, 1, 4], [2, 4, 4]])
TOLLS = np.array([[0.1, 0.6, 0.3], [0.2, 0.9, 0.2], [0.4, 0.5, 0.1], [0.2, 0.8, 0.7], [0.3, 0.6, 0.5]], np.float32)
PRIZES = np.array([0.0, 0.0, 0.0, 0.0, -2.0], np.float32)


def _next_room(room, door, noise):
    return jnp.asarray(ROOMS)[room, door]


def _toll(room, door, step):
    return jnp.asarray(TOLLS)[room, door]


def _prize(room):
    return jnp.asarray(PRIZES)[room]


def puzzle(horizon: int = 4) -> Case:
    problem = Problem(_next_room, _toll, Discrete(3), _prize)
    latent = jnp.zeros((), jnp.int32)
    return Case(problem, latent, horizon, brute_force(horizon))


def brute_force(horizon: int) -> float:
    """The cheapest of all 3^H ways through the rooms."""

    def price(doors):
        room, total = 0, 0.0
        for door in doors:
            total, room = total + TOLLS[room, door], ROOMS[room, door]
        return total + PRIZES[room]

    return float(min(price(doors) for doors in itertools.product(range(3), repeat=horizon)))
