"""Subgoals that the level below finds out of reach: what takes their place, and what the level above learns from it.

A level plans through a model that may be wrong: through a wall that it does not know of, or faster than the level below can go. The
plan of the level below shows it, since its search has come as near to the subgoal due next as it could: where that is not within
`Level.reach`, the state that it does come to takes the subgoal's place. The step of the upper model that led there is remembered for
the rest of the episode, as leading to that state, and the upper level plans anew at the next decision, knowing it.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from mpc.hierarchy.problem import Level, Subgoals
from planners import Problem, pytree

Latent = PyTree[Array]
REMEMBERED = 8  # steps of a level; the oldest is forgotten first


@pytree
class Legs:
    """Steps of a level that did not lead where its model said.

    Attributes:
      starts, aims: [K, ...], where a step began and where the model said it would end.
      reached: [K, ...], how far the level below comes in that time.
      count: how many there ever were.
    """

    starts: Latent
    aims: Latent
    reached: Latent
    count: Int[Array, ""]

    @classmethod
    def none(cls, latent: Latent) -> "Legs":
        """An empty memory of steps between latents shaped as `latent`."""
        empty = jax.tree.map(lambda x: jnp.zeros((REMEMBERED, *x.shape), x.dtype), latent)
        return cls(empty, empty, empty, jnp.zeros((), jnp.int32))

    def and_one(self, start: Latent, aim: Latent, reached: Latent) -> "Legs":
        place = self.count % REMEMBERED
        put = lambda old, new: jax.tree.map(lambda old, new: old.at[place].set(new), old, new)  # noqa: E731
        return Legs(put(self.starts, start), put(self.aims, aim), put(self.reached, reached), self.count + 1)


@pytree
class Corrected:
    """A level's dynamics, except that a step which begins and ends within reach of a remembered one leads where that led."""

    own: Any
    level: Level
    legs: Legs

    def __call__(self, latent, action, noise):
        following = self.own(latent, action, noise)

        def same(start, aim):
            return (self.level.distance(latent, start) <= self.level.reach) & (
                self.level.distance(following, aim) <= self.level.reach
            )

        alike = jax.vmap(same)(self.legs.starts, self.legs.aims) & (jnp.arange(REMEMBERED) < self.legs.count)
        which = jnp.argmax(alike)
        return jax.tree.map(lambda new, led: jnp.where(alike.any(), led[which], new), following, self.legs.reached)


def corrected(problem: Problem, level: Level, legs: Legs | None) -> Problem:
    """The problem of `level`, of which some steps are known to lead elsewhere."""
    return problem if legs is None else replace(problem, dynamics=Corrected(problem.dynamics, level, legs))


def within_reach(
    level: Level, subgoals: Subgoals, below: Latent, states: Latent, legs: Legs
) -> tuple[Latent, Legs, Bool[Array, ""]]:
    """Replace the subgoal due next, where the plan below comes near it in none of the futures.

    Args:
      level: the level that asks, whose `reach` says what is near.
      subgoals: what it asks.
      below: [H+1, ...], latents along the plan of the level below.
      states: [M, N+1, ...], the course of `level`.
      legs: what it remembers.

    Returns:
      `states` and `legs` as they are from now on, and whether the subgoal was replaced.
    """
    step = jnp.argmax(subgoals.due)
    reached = level.lift(jax.tree.map(lambda x: x[step], below))
    apart = jax.vmap(level.distance, in_axes=(None, 0))(reached, jax.tree.map(lambda x: x[:, step], subgoals.aims))
    future, number = jnp.argmin(apart), subgoals.number[step]
    missed = (subgoals.due[step] > 0) & (apart.min() > level.reach)
    start, aim = (jax.tree.map(lambda x, at=at: x[future, at], states) for at in (jnp.maximum(number - 1, 0), number))
    placed = jax.tree.map(lambda x, new: x.at[:, number].set(new), states, reached)
    new, old = (placed, legs.and_one(start, aim, reached)), (states, legs)
    states, legs = jax.tree.map(lambda new, old: jnp.where(missed, new, old), new, old)
    return states, legs, missed
