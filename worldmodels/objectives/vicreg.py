"""Variance, invariance and covariance regularisation (Bardes, Ponce & LeCun 2022, VICReg, section 4)."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from worldmodels.objectives.objective import RANK, SPREAD, Views, Weighted, flattened, squared_error


def variance(embedding: Float[Array, "N D"]) -> Float[Array, ""]:
    """Mean hinge on each component's standard deviation: zero once all exceed 1 (equation 1)."""
    return jnp.maximum(0.0, 1.0 - jnp.sqrt(embedding.var(0) + 1e-4)).mean()


def covariance(embedding: Float[Array, "N D"]) -> Float[Array, ""]:
    """Sum of squared off-diagonal covariances over D (equation 3)."""
    count, size = embedding.shape
    centred = embedding - embedding.mean(0)
    matrix = centred.T @ centred / (count - 1)
    return ((matrix**2).sum() - (jnp.diag(matrix) ** 2).sum()) / size


@dataclass(frozen=True)
class VICReg(Weighted):
    """Weights of the terms. With `variance` and `covariance` at 0 the representation collapses.

    Attributes:
      prediction: squared distance of predicted and encoded latents, over the whole open-loop rollout.
      invariance: the same after the expander.
      variance: on the latents, so that prediction errors are in units of their spread, and on the expanded latents.
      covariance: on the expanded latents alone, so that the representation itself need not be linear.
    """

    prediction: float = 1.0
    invariance: float = 0.2
    variance: float = 1.0
    covariance: float = 0.04
    guards: ClassVar = {SPREAD: "variance", RANK: "covariance"}

    def terms(self, views: Views) -> dict[str, Float[Array, ""]]:
        expanded = views.model.expander(views.targets)
        flat = flattened(expanded)
        return {
            "prediction": squared_error(views.predicted, views.targets),
            "invariance": squared_error(views.model.expander(views.predicted), expanded),
            "variance": (variance(flattened(views.targets)) + variance(flat)) / 2,
            "covariance": covariance(flat),
        }
