"""Every planner at a given amount of work, so that planners can be compared at equal model evaluations.

A model evaluation is one application of dynamics and cost to one latent. Work is counted in trajectories, of `horizon` model
evaluations each, and is the search's own: pricing and unrolling the plan that is returned is not counted. Derivatives count as
what they cost in forward passes:

- a gradient of a trajectory, 3 (Griewank & Walther 2008, section 4.5: at most 5);
- iLQR's quadratic model of a trajectory, one for every column of the dynamics' Jacobian and of the cost's Hessian, that is
  2 · (latent + action entries), beside one for the nominal plan, one to price it and one for each step length;
- a simulation of tree search, one where it is valued by the rest of the plan (an upper bound), 1 / horizon without.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import planners
from planners.names import planner_classes, planner_named

BACKWARD = 3  # forward passes in one gradient
ROUNDS = 4  # iterations of planners that refit a distribution
FEWEST, MOST = 32, 256  # candidates in one of them
COLOUR = {"exponent": 2.0, "spread": 0.5}  # the same noise for all that leave a choice, iCEM's
REFINING = 3  # gradient steps on the elites of CEMGradient
STEP_LENGTHS = 10  # of iLQR's line search


class Recipe(NamedTuple):
    """How a planner's work is set and counted; `size` is the number of latent and action entries.

    Attributes:
      settings: (trajectories, size) -> the planner's settings besides the horizon.
      trajectories: (planner, size) -> what one decision costs.
      derivatives: whether the dynamics must be differentiable.
      box, discrete: the actions it plans.
    """

    settings: Callable[[int, int], dict[str, Any]]
    trajectories: Callable[[Any, int], float]
    derivatives: bool = False
    box: bool = True
    discrete: bool = False


def _rounds(budget: int, size: int) -> dict[str, Any]:
    """`ROUNDS` iterations; fewer rather than with fewer than `FEWEST` candidates each, more rather than with over `MOST`."""
    iterations = max(1, min(ROUNDS, budget // FEWEST), budget // MOST)
    return {"samples": max(4, round(budget / iterations)), "iterations": iterations}


def _cem(budget: int, size: int) -> dict[str, Any]:
    settings = _rounds(budget, size)
    return {**settings, "elites": max(2, settings["samples"] // 8)}


def _icem(budget: int, size: int) -> dict[str, Any]:
    settings = _cem(budget, size)
    return {**settings, "keep": max(1, settings["elites"] // 4)}


def _mppi(budget: int, size: int) -> dict[str, Any]:
    return {**_rounds(budget, size), **COLOUR}


def _once(budget: int, size: int) -> dict[str, Any]:
    return {"samples": max(4, budget), "iterations": 1, **COLOUR}


def _gradient(budget: int, size: int) -> dict[str, Any]:
    """As many steps as starts, the larger the fewer there are: together they can cross the box."""
    starts = max(1, round(math.sqrt(budget / BACKWARD)))
    iterations = max(1, budget // (BACKWARD * starts))
    return {"starts": starts, "iterations": iterations, "learning_rate": min(0.3, max(0.1, 1 / iterations))}


def _hybrid(budget: int, size: int) -> dict[str, Any]:
    """An eighth of the candidates refined: (1 + (3 · 3 + 1) / 8) trajectories for each of them."""
    settings = _cem(round(budget / (1 + (BACKWARD * REFINING + 1) / 8)), size)
    return {**settings, "refined": max(1, settings["samples"] // 8), "steps": REFINING}


def _ilqr_pass(steps: int, size: int) -> int:
    return 2 + steps + 2 * size


def _ilqr(budget: int, size: int) -> dict[str, Any]:
    return {"iterations": max(1, budget // _ilqr_pass(STEP_LENGTHS, size)), "steps": STEP_LENGTHS}


def _tree(budget: int, size: int) -> dict[str, Any]:
    return {"simulations": max(1, budget // ROUNDS) * ROUNDS, "iterations": ROUNDS}


def _sampled(planner: Any, size: int) -> float:
    return planner.samples * planner.iterations


RECIPES = {
    "cem": Recipe(_cem, _sampled),
    "icem": Recipe(_icem, lambda planner, size: sum(planner.population)),
    "mppi": Recipe(_mppi, _sampled),
    "randomshooting": Recipe(_rounds, _sampled),
    "predictivesampling": Recipe(_once, _sampled),
    "gradient": Recipe(_gradient, lambda planner, size: BACKWARD * planner.starts * planner.iterations, derivatives=True),
    "cemgradient": Recipe(
        _hybrid,
        lambda planner, size: planner.iterations * (planner.samples + planner.refined * (BACKWARD * planner.steps + 1)),
        derivatives=True,
    ),
    "ilqr": Recipe(_ilqr, lambda planner, size: planner.iterations * _ilqr_pass(planner.steps, size), derivatives=True),
    "categoricalcem": Recipe(_cem, _sampled, box=False, discrete=True),
    "treesearch": Recipe(
        _tree,
        lambda planner, size: planner.simulations * (1 if planner.rollout else 1 / planner.horizon),
        discrete=True,
    ),
}
"""Planners by their names in lower case; a new one is compared once it has its entry."""


def recipe(method: str) -> Recipe:
    """The recipe of a planner; `PlannerError` where there is none."""
    if method not in RECIPES:
        known = ", ".join(sorted(RECIPES))
        raise planners.PlannerError(
            f"planner {method!r} has no entry in benchmarks/planner_budgets.py: add one to RECIPES. It has {known}."
        )
    return RECIPES[method]


def at_budget(method: str, *, horizon: int, trajectories: int, size: int) -> planners.Planner:
    """The planner whose decision costs about `trajectories`, or the least it can do."""
    return planner_named(method, horizon=horizon, **recipe(method).settings(trajectories, size))


def model_evaluations(planner: planners.Planner, size: int) -> int:
    """Applications of the model in one decision of `planner`, as the module's head counts them."""
    return round(planner.horizon * recipe(type(planner).__name__.lower()).trajectories(planner, size))


def obstacle_to(method: str, problem: planners.Problem) -> str | None:
    """Why a planner does not apply to a problem, in words; None where it does."""
    found, discrete = recipe(method), isinstance(problem.actions, planners.Discrete)
    if discrete and not found.discrete:
        return "plans no discrete actions"
    if not discrete and not found.box:
        return "plans discrete actions only"
    if found.derivatives and not problem.differentiable:
        return "needs derivatives, which a simulator does not have"
    return None


def methods() -> list[str]:
    """Every exported planner that has its recipe."""
    return [name for name in planner_classes() if name in RECIPES]
