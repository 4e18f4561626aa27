"""Figures that tell a model one can plan with from one that only has a low loss."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def effective_rank(features: Float[Array, "N D"], *, floor: float = 0.0) -> Float[Array, ""]:
    """How many directions the features use: exp of the entropy of their normalised singular values (Roy & Vetterli 2007).

    The plain measure does not see scale: features that shrank to a point may still have a high rank. With `floor`, directions
    in which the standard deviation is below it count for nothing; 0 where none is left.
    """
    singular = jnp.linalg.svd(features - features.mean(0), compute_uv=False)
    singular = jnp.where(singular < floor * jnp.sqrt(features.shape[0]), 0.0, singular)
    share = singular / jnp.maximum(singular.sum(), 1e-12)
    rank = jnp.exp(-(share * jnp.log(jnp.maximum(share, 1e-12))).sum())
    return jnp.where(singular.sum() > 0, rank, 0.0)
