"""One problem at several time scales: a `planners.Problem` a level, and what a level asks of the one below.

Level k chooses actions a^k in the space of its own latents s^k = lift(s^{k-1}), one for every `stride` steps of level k-1. The
states h_1, h_2 … that its plan leads to are subgoals of level k-1, which pays for missing them:

    J^{k-1} = Σ_t D_t · (cost(s_t, a_t, t) + [h_j is due at t] · distance(lift(s_t), h_j)) + D_H · distance(lift(s_H), h_next)

Its own terminal cost it no longer pays: what comes beyond its horizon is the upper level's to know. The top level pays all of its own.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from mpc.errors import HierarchyError
from planners import Cost, Planner, PlannerError, Problem, pytree, static
from planners.problem import as_pytree

Latent = PyTree[Array]


def squared_distance(reached: Latent, aimed: Latent) -> Float[Array, ""]:
    """Mean squared difference over all entries of two latents of one structure."""
    squares = jax.tree.map(lambda a, b: jnp.ravel(jnp.square(a - b)), reached, aimed)
    return jnp.concatenate(jax.tree.leaves(squares)).mean()


@pytree
class Level:
    """A level's own problem, and how it stands on the level below.

    Attributes:
      problem: what this level plans, over its own latents; actions, noise and risk are its own too.
      lift: latent of the level below -> latent of this level. The lowest level has none.
      distance: (latent reached, latent aimed at) -> scalar, both of this level: the subgoal cost of the level below.
      stride: steps of the level below in one step of this level.
      reach: a distance. A subgoal that the level below will miss by more is out of reach, and is replaced; none is unless given.
    """

    problem: Problem
    lift: Callable[[Latent], Latent] | Any = None
    distance: Callable[[Latent, Latent], Float[Array, ""]] | Any = squared_distance
    stride: int = static(default=1)
    reach: float = static(default=math.inf)

    def __post_init__(self):
        if not self.reach > 0:
            raise HierarchyError(f"reach={self.reach!r}: expected a positive distance, by which a subgoal may be missed.")
        for name in ("lift", "distance"):
            object.__setattr__(self, name, as_pytree(getattr(self, name)))
        if not isinstance(self.stride, int) or self.stride < 1:
            raise HierarchyError(f"stride={self.stride!r}: expected the steps of the level below in one step, an integer >= 1.")


@pytree
class HierarchicalProblem:
    """Levels, the lowest first; the lowest level's actions are what a plan consists of.

    Attributes:
      levels: the first without a `lift`, all others with one.
      example: any latent of the lowest level; only its shapes count.
    """

    levels: tuple[Level, ...]
    example: Latent

    def __post_init__(self):
        if not self.levels or not all(isinstance(level, Level) for level in self.levels):
            raise HierarchyError(f"levels={self.levels!r}: expected at least one mpc.Level, the lowest first.")
        lifts = [level.lift is not None for level in self.levels]
        if lifts != [False] + [True] * (len(lifts) - 1):
            raise HierarchyError(f"levels with a lift: {lifts}. Expected none at the lowest level and one at every other.")

    @property
    def lowest(self) -> Problem:
        return self.levels[0].problem

    @property
    def actions(self) -> Any:
        """What the lowest level may do."""
        return self.lowest.actions

    def lifted(self, latent: Latent) -> list[Latent]:
        """A latent of the lowest level as every level sees it, the lowest first."""
        latents = [latent]
        for level in self.levels[1:]:
            latents.append(level.lift(latents[-1]))
        return latents

    def steps(self, index: int) -> int:
        """Steps of the lowest level in one step of level `index`."""
        return 1 if index == 0 else self.levels[index].stride * self.steps(index - 1)

    def check(self, latent: Latent, horizon: int) -> None:
        """As `Problem.check`, of the lowest level; `fits` checks the others."""
        self.lowest.check(latent, horizon)

    def fits(self, planners: tuple[Planner, ...]) -> None:
        """Raise `HierarchyError` unless the levels fit each other and these planners, without computing anything."""
        if len(planners) != len(self.levels):
            raise HierarchyError(f"{len(planners)} planners for {len(self.levels)} levels: expected one each, lowest first.")
        for index, level in enumerate(self.levels[1:], 1):
            below = planners[index - 1].horizon
            if below % level.stride:
                raise HierarchyError(
                    f"level {index} has stride {level.stride}, the planner below it horizon {below}: expected a multiple of the "
                    f"stride, such as {max(1, round(below / level.stride)) * level.stride}, so that subgoals end the plan."
                )
        latent = self.example
        for index, (level, planner) in enumerate(zip(self.levels, planners, strict=True)):
            try:
                if index:
                    shapes = jax.eval_shape(level.lift, latent)
                    latent = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
                    apart = jax.eval_shape(level.distance, latent, latent)
                    if getattr(apart, "shape", None) != ():
                        raise HierarchyError(f"level {index}'s distance returned {apart}: expected one scalar.")
                level.problem.check(latent, planner.horizon)
            except (PlannerError, TypeError, ValueError) as error:
                if isinstance(error, HierarchyError):
                    raise
                raise HierarchyError(f"level {index} does not fit what is lifted from the level below: {error}") from error


@pytree
class Subgoals:
    """What the level above asks of a plan of H actions.

    Attributes:
      aims: [M, H+1, ...], latents of the level above: for each of its M futures and each step here, the subgoal to compare with.
      due: [H+1], whether that subgoal is due then; at the end one always is, unless there are none at all.
      number: [H+1], which state of the course above that subgoal is.
    """

    aims: Latent
    due: Float[Array, " H+1"]
    number: Int[Array, " H+1"]

    @classmethod
    def at(cls, states: Latent, age: Array, stride: int, horizon: int, known: Array) -> "Subgoals":
        """From states [M, N+1, ...] planned `age` steps (of the level below) ago, one every `stride` steps.

        A subgoal is due at the first step not before its time; the end of the plan aims at the next one.
        """
        last = jax.tree.leaves(states)[0].shape[1] - 1
        position = (age + jnp.arange(horizon + 1)) / stride
        passed = jnp.floor(position + 1e-4)
        due = (passed > jnp.floor((age - 1 + jnp.arange(horizon + 1)) / stride + 1e-4)).at[0].set(False).at[-1].set(True)
        which = passed.at[-1].set(jnp.ceil(position[-1] - 1e-4))
        which = jnp.clip(jnp.nan_to_num(which), 0, last).astype(jnp.int32)
        aims = jax.tree.map(lambda x: x[:, which], states)
        return cls(aims, jnp.where(known, due, False).astype(jnp.float32), which)

    def missed(self, level: Level, latent: Latent, step: Any) -> Float[Array, ""]:
        """Distance to the subgoal due at `step`, its mean over the futures; 0 where none is."""
        reached, aims = level.lift(latent), jax.tree.map(lambda x: x[:, step], self.aims)
        apart = jax.vmap(level.distance, in_axes=(None, 0))(reached, aims).mean()
        return jnp.where(self.due[step] > 0, apart, 0.0)


@pytree
class SubgoalCost:
    """A level's own running cost, and what it pays for subgoals that it misses on the way."""

    own: Cost
    level: Level
    subgoals: Subgoals

    def __call__(self, latent, action, step):
        return self.own(latent, action, step) + self.subgoals.missed(self.level, latent, step)

    def terms(self, latent, action, step):
        return {**self.own.terms(latent, action, step), "subgoal": self.subgoals.missed(self.level, latent, step)}

    def residuals(self, latent, action, step):
        return None


@pytree
class LastSubgoal:
    """What a level pays for missing the subgoal that its plan ends at."""

    level: Level
    subgoals: Subgoals

    def __call__(self, latent):
        return self.subgoals.missed(self.level, latent, -1)


def guided(problem: Problem, above: Level, subgoals: Subgoals) -> Problem:
    """`problem` as the level above wants it solved; see the module's head."""
    return replace(problem, cost=SubgoalCost(problem.cost, above, subgoals), terminal_cost=LastSubgoal(above, subgoals))
