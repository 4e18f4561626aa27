"""Inequality constraints for planners that follow derivatives: the augmented Lagrangian.

    L(a, λ) = J(a) + Σ_t Σ_i ψ(c_{t,i}, λ_{t,i}),    ψ(c, λ) = (max(0, λ + μ·c)² − λ²) / 2μ,    λ ← max(0, λ + μ·c)

with c = constraints(s_t, a_t, t), satisfied when <= 0, and multipliers λ >= 0 for every step and every future
(Powell 1969; Hestenes 1969; Nocedal & Wright 2006, section 17.4). Without constraints L = J, at no cost.

The multipliers approach the optimum from outside, where no plan is feasible. So the search may aim at c + margin <= 0, with a margin
that is twice what is still violated, and halves as long as nothing is.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planners.problem import Latent, Problem
from planners.pytree import pytree


class Lagrangian(NamedTuple):
    """One plan's figures over M futures."""

    value: Float[Array, ""]  # L, what is descended on
    cost: Float[Array, ""]  # J under the problem's risk
    violation: Float[Array, ""]  # largest constraint value above zero
    constraints: Float[Array, "M H C"]


@pytree
class Tightened:
    """Constraints with `margin`, in their own units, to spare."""

    constraints: Any
    margin: Float[Array, ""]

    def __call__(self, latent, action, step):
        return self.constraints(latent, action, step) + self.margin


def tightened(problem: Problem, margin: Float[Array, ""]) -> Problem:
    """The problem with `margin` to spare; itself where it has no constraints."""
    if problem.constraints is None:
        return problem
    return replace(problem, constraints=Tightened(problem.constraints, margin))


def loosened(violation: Float[Array, " *N"], margin: Float[Array, ""]) -> Float[Array, " *N"]:
    """The violation of the constraints themselves from that of the tightened ones; rounding counts against the plan."""
    return jnp.maximum(0.0, violation - 0.999 * margin)


def next_margin(margin: Float[Array, ""], violation: Float[Array, ""]) -> Float[Array, ""]:
    """Half the margin while nothing is violated, else twice what is."""
    proposed = jnp.where(violation > 0, jnp.maximum(margin, 2 * violation), margin / 2)
    return jnp.where(jnp.isfinite(proposed), proposed, margin)


def penalty(constraints: Float[Array, " *C"], multipliers: Float[Array, " *C"], weight: float) -> Float[Array, " *C"]:
    """ψ, entry by entry; `weight` is μ, in units of cost per squared unit of the constraint."""
    return (jnp.maximum(0.0, multipliers + weight * constraints) ** 2 - multipliers**2) / (2 * weight)


def updated(constraints: Float[Array, " *C"], multipliers: Float[Array, " *C"], weight: float) -> Float[Array, " *C"]:
    """λ after one iteration; a non-finite constraint leaves it as it was."""
    proposed = jnp.maximum(0.0, multipliers + weight * constraints)
    return jnp.where(jnp.isfinite(proposed), proposed, multipliers)


def no_multipliers(problem: Problem, latent: Latent, horizon: int) -> Float[Array, "M H C"]:
    """λ = 0 for every future, step and constraint; C = 0 where the problem has none."""
    futures = problem.futures(horizon).shape[0]
    if problem.constraints is None:
        return jnp.zeros((futures, horizon, 0))
    action = jax.ShapeDtypeStruct(problem.actions.shape, jnp.float32)
    count = jax.eval_shape(problem.constraints, latent, action, jax.ShapeDtypeStruct((), jnp.int32)).shape[0]
    return jnp.zeros((futures, horizon, count))


def lagrangian(
    problem: Problem, latent: Latent, actions: Float[Array, "H A"], multipliers: Float[Array, "M H C"], weight: float
) -> Lagrangian:
    """L, J and the constraints along one plan; differentiable in `actions`."""
    futures = problem.futures(actions.shape[0])
    if problem.constraints is None:
        costs, violations = jax.vmap(problem.score, in_axes=(None, None, 0))(latent, actions, futures)
        cost = problem.risk(costs)
        return Lagrangian(cost, cost, violations.max(), multipliers)
    costs, violations, constraints = jax.vmap(_constrained_score, in_axes=(None, None, None, 0))(
        problem, latent, actions, futures
    )
    cost = problem.risk(costs)
    value = cost + penalty(constraints, multipliers, weight).sum()
    return Lagrangian(value, cost, violations.max(), constraints)


def _constrained_score(problem: Problem, latent: Latent, actions: Array, noise: Array):
    """`Problem.score`, with every constraint value [H, C] beside it; those after the episode's end are zero."""

    def step(carry, inputs):
        latent, total, weight, violation = carry
        action, noise, t = inputs
        constraints = jnp.where(weight > 0, problem.constraints(latent, action, t), 0.0)  # type: ignore[misc]
        total, weight, violation = problem.accumulate(latent, action, t, total, weight, violation)
        return (problem.dynamics(latent, action, noise), total, weight, violation), constraints

    start = (latent, jnp.zeros(()), jnp.ones(()), jnp.zeros(()))
    inputs = (actions, noise, jnp.arange(actions.shape[0]))
    (latent, total, weight, violation), constraints = jax.lax.scan(step, start, inputs)
    return problem.conclude(latent, total, weight), violation, constraints
