"""The protocol every planner follows, and the loop that runs one."""

from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from planners.errors import PlannerError, SettingError
from planners.plan import Plan
from planners.problem import Latent, Problem

State = Any
Search = Any


@runtime_checkable
class Planner(Protocol):
    """A search for actions that can be stopped after any iteration. Settings are frozen and hashable.

    `State` lives between decisions (the warm start), `Search` within one. Both are pytrees.
    """

    @property
    def horizon(self) -> int:
        """Actions in a plan."""
        ...

    @property
    def iterations(self) -> int:
        """How often `plan` calls `improve`."""
        ...

    def init(self, problem: Problem) -> State:
        """A cold start. Raises `PlannerError` where the problem does not suit the planner."""
        ...

    def begin(self, problem: Problem, latent: Latent, state: State, *, elapsed: Any = 1.0, key: Array) -> Search:
        """Start a search at `latent` from the last plan, shifted by `elapsed` model steps (a float, any sign)."""
        ...

    def improve(self, problem: Problem, search: Search) -> Search:
        """One iteration. The best plan so far never gets worse."""
        ...

    def finish(self, problem: Problem, search: Search) -> tuple[Plan, State]:
        """The best plan so far, and the warm start for the next decision."""
        ...


def plan(
    planner: Planner, problem: Problem, latent: Latent, state: State, *, elapsed: Any = 1.0, key: Array
) -> tuple[Plan, State]:
    """Search with all of the planner's iterations in one compiled call.

    Compiles once per planner and per structure of `problem`; new weights, goals, noise or latents do not compile again.
    Batch over environments with `jax.vmap` over `latent`, `state` and `key`.
    """
    return _plan(planner, problem, latent, state, jnp.asarray(elapsed, jnp.float32), key)


@partial(jax.jit, static_argnums=0)
def _plan(planner, problem, latent, state, elapsed, key):
    if isinstance(planner, type) or not isinstance(planner, Planner):
        raise SettingError(f"planner={planner!r}: expected a planner with its settings, such as planners.CEM(horizon=10).")
    if problem is None:
        raise PlannerError("problem=None: expected planners.Problem(dynamics, cost, actions).")
    problem.check(latent, planner.horizon)
    search = planner.begin(problem, latent, state, elapsed=elapsed, key=key)
    search = jax.lax.fori_loop(0, planner.iterations, lambda _, search: planner.improve(problem, search), search)
    return planner.finish(problem, search)
