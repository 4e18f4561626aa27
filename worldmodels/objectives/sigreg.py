"""Sketched isotropic Gaussian regularisation (Balestriero & LeCun 2025, LeJEPA, section 4)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from worldmodels.objectives.objective import RANK, SPREAD, Views, Weighted, flattened, squared_error

DIRECTIONS = 64  # drawn anew in every update, so that few see everything in time
KNOTS = 9
LIMIT = 5.0  # of the frequencies; the statistic is even, so those from 0 on are enough


def epps_pulley(samples: Float[Array, "N S"]) -> Float[Array, " S"]:
    """How far each column of samples is from a standard Gaussian: ∫ |φ_N(t) − exp(−t²/2)|² exp(−t²/2) dt, by trapezoids.

    φ_N is the empirical characteristic function (Epps & Pulley 1983). Not multiplied by N, so that the weight does not
    depend on the batch.
    """
    t = jnp.linspace(0.0, LIMIT, KNOTS)
    gaussian = jnp.exp(-(t**2) / 2)
    phase = samples[..., None] * t
    error = (jnp.cos(phase).mean(0) - gaussian) ** 2 + jnp.sin(phase).mean(0) ** 2
    return 2 * jnp.trapezoid(error * gaussian, t)


def sketched(embedding: Float[Array, "N D"], key: Array) -> Float[Array, ""]:
    """Mean statistic over random unit directions."""
    directions = jax.random.normal(key, (embedding.shape[-1], DIRECTIONS))
    directions = directions / jnp.linalg.norm(directions, axis=0)
    return epps_pulley(embedding @ directions).mean()


@dataclass(frozen=True)
class SIGReg(Weighted):
    """Latents that are predictable and look like an isotropic Gaussian from every direction; no expander, no teacher.

    Attributes:
      prediction: squared distance of predicted and encoded latents.
      gaussianity: distance of the latents' distribution from the standard Gaussian; 0 and they collapse.
    """

    prediction: float = 1.0
    gaussianity: float = 1.0
    guards: ClassVar = {SPREAD: "gaussianity", RANK: "gaussianity"}

    def terms(self, views: Views) -> dict[str, Float[Array, ""]]:
        return {
            "prediction": squared_error(views.predicted, views.targets),
            "gaussianity": sketched(flattened(views.latents), views.key),
        }
