"""Figures that tell a model one can plan with from one that only has a low loss."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def effective_rank(features: Float[Array, "N D"]) -> Float[Array, ""]:
    """exp of the entropy of the normalised singular values of the centred features: 1 collapsed, D at most (Roy & Vetterli 2007)."""
    singular = jnp.linalg.svd(features - features.mean(0), compute_uv=False)
    share = singular / jnp.maximum(singular.sum(), 1e-12)
    return jnp.exp(-(share * jnp.log(jnp.maximum(share, 1e-12))).sum())
