"""A problem along one plan, to first order in the dynamics and second order in the cost.

    x_t = (latents of all M futures, their weights D_t),     x_{t+1} ≈ f + F·(δx, δu),     l_t ≈ l + (δx, δu)·g + ½ (δx, δu)·G·(δx, δu)

with actions u in half-ranges of the box. The futures are stacked into one state because they share the actions: the model
is then that of the mean over futures, and of any other risk by its weights on them. Since D_t is part of the state, the
gradient knows that an action can end the episode; only the curvature is taken at fixed D_t.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from planners import augmented_lagrangian
from planners.actions import Box
from planners.problem import Latent, Problem


class QuadraticModel(NamedTuple):
    """Derivatives along a plan; N entries of state, A of action."""

    dynamics: Float[Array, "H N N+A"]
    gradient: Float[Array, "H N+A"]
    hessian: Float[Array, "H N+A N+A"]  # positive semi-definite
    last_gradient: Float[Array, " N"]
    last_hessian: Float[Array, "N N"]


class Flat(NamedTuple):
    """A problem over flat states [N] = latents of all futures, then their weights; and flat actions in half-ranges."""

    problem: Problem
    unravel: Callable[[Array], Any]
    futures: int

    @classmethod
    def of(cls, problem: Problem, latent: Latent, horizon: int) -> tuple["Flat", Float[Array, " N"]]:
        """The flat problem, and its first state."""
        futures = problem.futures(horizon).shape[0]
        latents = jax.tree.map(lambda x: jnp.broadcast_to(x, (futures, *jnp.shape(x))), latent)
        flat, unravel = ravel_pytree(latents)
        return cls(problem, unravel, futures), jnp.concatenate([flat, jnp.ones(futures)])

    def split(self, state: Float[Array, " N"]) -> tuple[Latent, Float[Array, " M"]]:
        """The latents of the futures, each leaf [M, ...], and their weights."""
        return self.unravel(state[: -self.futures]), state[-self.futures :]

    def action(self, unit: Float[Array, " A"]) -> Float[Array, " A"]:
        box: Box = self.problem.actions  # type: ignore[assignment]
        return box.middle + box.half_range * unit

    def dynamics(self, state: Float[Array, " N"], unit: Float[Array, " A"], noise: Float[Array, "M ..."]) -> Float[Array, " N"]:
        latents, weights = self.split(state)
        action = self.action(unit)
        following = jax.vmap(self.problem.dynamics, in_axes=(0, None, 0))(latents, action, noise)
        going_on = jax.vmap(self.problem.continues, in_axes=(0, None))(latents, action)
        return jnp.concatenate([ravel_pytree(following)[0], weights * self.problem.discount * going_on])

    def costs(self, latents: Latent, action: Array, step: Array) -> Float[Array, " M"]:
        return jax.vmap(self.problem.cost, in_axes=(0, None, None))(latents, action, step)

    def residuals(self, latents: Latent, action: Array, step: Array) -> Any:
        """The cost's residuals [M, R]; None where the cost is no sum of squares."""
        return jax.vmap(self.problem.cost.residuals, in_axes=(0, None, None))(latents, action, step)

    def constraints(self, latents: Latent, action: Array, step: Array) -> Float[Array, "M C"]:
        if self.problem.constraints is None:
            return jnp.zeros((self.futures, 0))
        return jax.vmap(self.problem.constraints, in_axes=(0, None, None))(latents, action, step)


def expand(
    flat: Flat,
    states: Float[Array, "H+1 N"],
    units: Float[Array, "H A"],
    multipliers: Float[Array, "M H C"],
    penalty: float,
    risk: Float[Array, " M"],
) -> QuadraticModel:
    """The model along `states` and `units`; `risk` weighs the futures and sums to one.

    The Hessian is Gauss-Newton where `cost.residuals` gives r with cost = ½ Σ r², and for the constraints; elsewhere it is
    the exact one with its negative eigenvalues set to zero.
    """
    size = states.shape[1]

    def stage(vector, step, multipliers):
        latents, weights = flat.split(vector[:size])
        action = flat.action(vector[size:])
        costs = jnp.where(weights > 0, weights * flat.costs(latents, action, step), 0.0)
        constraints = jnp.where(weights[:, None] > 0, flat.constraints(latents, action, step), 0.0)
        return risk @ costs + augmented_lagrangian.penalty(constraints, multipliers, penalty).sum()

    def curvature(vector, step, multipliers):
        weights = risk * flat.split(vector[:size])[1]

        def at(vector):
            return flat.split(vector[:size])[0], flat.action(vector[size:]), step

        def violated(vector):
            constraints = jnp.where(weights[:, None] > 0, flat.constraints(*at(vector)), 0.0)
            return jnp.sqrt(penalty) * jnp.maximum(0.0, constraints + multipliers / penalty)

        def scaled_residuals(vector):
            return jnp.sqrt(weights)[:, None] * flat.residuals(*at(vector))

        if jax.eval_shape(lambda vector: flat.residuals(*at(vector)), vector) is None:
            own = positive(jax.hessian(lambda vector: weights @ flat.costs(*at(vector)))(vector))
        else:
            own = squared(jax.jacfwd(scaled_residuals)(vector))
        return own + squared(jax.jacfwd(violated)(vector))

    def last(state):
        latents, weights = flat.split(state)
        return risk @ jnp.where(weights > 0, weights * jax.vmap(flat.problem.terminal_cost)(latents), 0.0)

    def last_fixed(state):
        weights = risk * flat.split(states[-1])[1]
        return weights @ jax.vmap(flat.problem.terminal_cost)(flat.split(state)[0])

    vectors = jnp.concatenate([states[:-1], units], axis=1)
    noise = jnp.swapaxes(flat.problem.futures(units.shape[0]), 0, 1)
    stages = (vectors, jnp.arange(units.shape[0]), jnp.swapaxes(multipliers, 0, 1))
    return QuadraticModel(
        dynamics=jax.vmap(jax.jacfwd(lambda vector, noise: flat.dynamics(vector[:size], vector[size:], noise)))(vectors, noise),
        gradient=jax.vmap(jax.grad(stage))(*stages),
        hessian=jax.vmap(curvature)(*stages),
        last_gradient=jax.grad(last)(states[-1]),
        last_hessian=positive(jax.hessian(last_fixed)(states[-1])),
    )


def positive(matrix: Float[Array, "K K"]) -> Float[Array, "K K"]:
    """The nearest positive semi-definite matrix."""
    values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * jnp.maximum(values, 0.0)) @ vectors.T


def squared(jacobian: Float[Array, "*R K"]) -> Float[Array, "K K"]:
    """JᵀJ over all residuals."""
    flat = jacobian.reshape(-1, jacobian.shape[-1])
    return flat.T @ flat
