"""Reconstruction, the generative baseline: latents are what observations can be drawn from (Hafner et al. 2019, PlaNet, section 3)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Float

from worldmodels.networks import MLP
from worldmodels.objectives.objective import RANK, SPREAD, Views, Weighted, relative_error, squared_error


@dataclass(frozen=True)
class Reconstruction(Weighted):
    """A decoder as wide and deep as the encoder draws what was seen and what was predicted.

    What is predicted has to be what would have been encoded, as PlaNet's divergence of posterior and prior asks: plans reach further
    than the windows that are learned from. The gradient goes both ways; the decoder holds off a collapse.

    Attributes:
      reconstruction: squared error of observations, normalised, decoded from their own latents.
      generation: of those that follow, decoded from predicted latents.
      consistency: error of predicted latents, relative to the spread of encoded ones.
    """

    reconstruction: float = 1.0
    generation: float = 1.0
    consistency: float = 1.0
    guards: ClassVar = {SPREAD: "reconstruction", RANK: "reconstruction"}

    def heads(self, model: Any, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        s = model.settings
        return {"decoder": MLP(s.latent, (s.hidden, s.hidden), model.spec.size, rngs=rngs)}

    def terms(self, views: Views) -> dict[str, Float[Array, ""]]:
        decoder = views.heads["decoder"]
        return {
            "reconstruction": squared_error(decoder(views.latents), views.observations),
            "generation": squared_error(decoder(views.predicted), views.observations[:, 1:]),
            "consistency": relative_error(views.predicted, views.targets),
        }
