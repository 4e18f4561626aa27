"""How a representation is spread: what collapse looks like before any task is tried."""

import jax.numpy as jnp
import numpy as np
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


def spread(features: np.ndarray) -> dict[str, object]:
    """Of features [N, D]: effective rank, standard deviation of each component (largest first), and how correlated they are.

    `correlation` is the root mean square of the correlations between different components that move at all; 0 where they
    are independent, 1 where they say the same. `covariance` is the same of covariances, in squared features.
    """
    deviations = features.std(0)
    moving = features[:, deviations > 1e-6 * max(float(deviations.max(initial=0)), 1e-12)]
    apart = ~np.eye(moving.shape[1], dtype=bool)
    several = moving.shape[1] > 1
    covariance = np.atleast_2d(np.cov(moving, rowvar=False))[apart] if several else np.zeros(1)
    correlation = np.atleast_2d(np.corrcoef(moving, rowvar=False))[apart] if several else np.zeros(1)
    return {
        "effective_rank": float(effective_rank(jnp.asarray(features))),
        "size": features.shape[1],
        "deviations": np.sort(deviations)[::-1].tolist(),
        "correlation": float(np.sqrt((correlation**2).mean())),
        "covariance": float(np.sqrt((covariance**2).mean())),
    }
