"""Consistency with the stopped encoding of what followed (Hansen et al. 2024, TD-MPC2, equation 3)."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from worldmodels.objectives.objective import Views, Weighted

DECAY = 0.5  # ρ: weight of each further step of a window relative to the one before


@dataclass(frozen=True)
class Consistency(Weighted):
    """For latents that are normalised (`norm="simplex"`), informed by the cost's gradient into the model.

    Attributes:
      prediction: squared distance of predicted latents to the encoding of what followed, without gradient into that.
    """

    prediction: float = 20.0

    def terms(self, views: Views) -> dict[str, Float[Array, ""]]:
        steps = ((views.predicted - views.slow[:, 1:]) ** 2).mean((0, 2))
        weights = DECAY ** jnp.arange(len(steps))
        return {"prediction": (steps * weights).sum() / weights.sum()}
