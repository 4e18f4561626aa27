"""Candidate plans from the problem's `proposal`, a policy rolled through the dynamics."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from planners.actions import Box
from planners.problem import Latent, Problem


def rollouts(problem: Problem, latent: Latent, count: int, horizon: int, *, key: Array) -> Array:
    """`count` plans [N, H, A] (integers [N, H] where actions are discrete) that the proposal would follow.

    The first takes the proposal's mode at every step, the others sample; all see the first future. Actions are clipped
    into the box before the dynamics see them, and the plans keep the rate limit.
    """
    actions = problem.actions
    noise = problem.futures(horizon)[0]

    def follow(index, key):
        def step(latent, inputs):
            key, noise = inputs
            distribution = problem.proposal(latent)  # type: ignore[misc]
            action = jnp.where(index == 0, mode(problem, distribution), distribution.sample(key=key))
            if isinstance(actions, Box):
                action = jnp.clip(action, actions.low, actions.high)
            return problem.dynamics(latent, action, noise), action

        sequence = jax.lax.scan(step, latent, (jax.random.split(key, horizon), noise))[1]
        return actions.project(sequence) if isinstance(actions, Box) else sequence

    return jax.vmap(follow)(jnp.arange(count), jax.random.split(key, count))


def mode(problem: Problem, distribution) -> Array:
    """The mean of a continuous proposal, the likeliest action of a discrete one."""
    if isinstance(problem.actions, Box):
        return distribution.mean
    return jnp.argmax(distribution.logits, -1).astype(jnp.int32)
