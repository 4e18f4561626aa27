"""Barlow Twins: the cross-correlation of two views as the identity (Zbontar et al. 2021, equation 1)."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from worldmodels.objectives.objective import RANK, SPREAD, Views, Weighted, flattened, squared_error, standardised
from worldmodels.objectives.vicreg import variance


def cross_correlation(one: Float[Array, "N D"], other: Float[Array, "N D"]) -> Float[Array, "D D"]:
    """Correlation over the batch of each component of one view with each of the other."""
    return standardised(one).T @ standardised(other) / len(one)


def agreement(correlation: Float[Array, "D D"]) -> Float[Array, ""]:
    """Mean of (1 − C_ii)²: the invariance term, over D."""
    return ((1.0 - jnp.diag(correlation)) ** 2).mean()


def redundancy(correlation: Float[Array, "D D"]) -> Float[Array, ""]:
    """Sum of C_ij² off the diagonal, over D."""
    return ((correlation**2).sum() - (jnp.diag(correlation) ** 2).sum()) / len(correlation)


@dataclass(frozen=True)
class BarlowTwins(Weighted):
    """The two views are the predicted and the encoded latents, through the expander.

    Correlations see no scale, and planning needs one: VICReg's hinge holds it on the latents that are predicted.

    Attributes:
      prediction: squared distance of predicted and encoded latents, over the whole open-loop rollout.
      variance: each component of the latents has a standard deviation of at least 1.
      invariance: predicted and encoded components correlate.
      redundancy: different components do not; the paper's λ.
    """

    prediction: float = 1.0
    variance: float = 1.0
    invariance: float = 1.0
    redundancy: float = 0.02
    guards: ClassVar = {SPREAD: "variance", RANK: "redundancy"}

    def terms(self, views: Views) -> dict[str, Float[Array, ""]]:
        expander = views.model.expander
        correlation = cross_correlation(flattened(expander(views.predicted)), flattened(expander(views.targets)))
        return {
            "prediction": squared_error(views.predicted, views.targets),
            "variance": variance(flattened(views.targets)),
            "invariance": agreement(correlation),
            "redundancy": redundancy(correlation),
        }
