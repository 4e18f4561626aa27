"""Shifting the last plan in time, so that it starts where the world is now."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def shift(sequence: Float[Array, "H *A"], elapsed: Float[Array, ""]) -> Float[Array, "H *A"]:
    """`sequence` as seen `elapsed` model steps later: entry t is the old one at t + elapsed.

    Fractions interpolate linearly, or round to the nearest entry where entries are integers; beyond the end the last entry
    is held, so any number of skipped steps is fine. Time that went backwards (`elapsed` < 0) or that is not finite leaves
    the plan where it was.
    """
    horizon = sequence.shape[0]
    elapsed = jnp.where(jnp.isfinite(elapsed), jnp.maximum(elapsed, 0.0), 0.0)
    position = jnp.clip(jnp.arange(horizon) + elapsed, 0, horizon - 1)
    if jnp.issubdtype(sequence.dtype, jnp.integer):
        return sequence[jnp.floor(position + 0.5).astype(jnp.int32)]
    below = jnp.floor(position).astype(jnp.int32)
    above = jnp.minimum(below + 1, horizon - 1)
    fraction = (position - below).reshape(-1, *([1] * (sequence.ndim - 1)))
    return jnp.where(fraction > 0, (1 - fraction) * sequence[below] + fraction * sequence[above], sequence[below])
