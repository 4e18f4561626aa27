"""Reconstruction, the generative baseline: latents are what observations can be drawn from (Hafner et al. 2019, PlaNet, section 3)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from worldmodels.encoders import Drawing
from worldmodels.networks import MLP
from worldmodels.objectives.objective import RANK, SPREAD, Views, Weighted, relative_error, squared_error


@dataclass(frozen=True)
class Reconstruction(Weighted):
    """A decoder as wide and deep as the encoder draws what was seen and what was predicted.

    What is predicted has to be what would have been encoded, as PlaNet's divergence of posterior and prior asks: plans reach further
    than the windows that are learned from. The gradient goes both ways; the decoder is what holds off a collapse, as far as it does: beside
    much noise it may not.

    Attributes:
      reconstruction: squared error of observations, normalised, decoded from their own latents; an image counts as all numbers together do.
      generation: of those that follow, decoded from predicted latents.
      consistency: error of predicted latents, relative to the spread of encoded ones.
    """

    reconstruction: float = 1.0
    generation: float = 1.0
    consistency: float = 1.0
    guards: ClassVar = {SPREAD: "reconstruction", RANK: "reconstruction"}

    def heads(self, model: Any, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        s, shapes = model.settings, dict(model.spec.observation)
        heads: dict[str, nnx.Module] = {
            f"{name}_decoder": Drawing(s.latent, shapes[name], rngs=rngs) for name in model.spec.images
        }
        if model.spec.size:
            heads["decoder"] = MLP(s.latent, (s.hidden, s.hidden), model.spec.size, rngs=rngs)
        return heads

    def terms(self, views: Views) -> dict[str, Float[Array, ""]]:
        return {
            "reconstruction": decoding_error(views, views.latents, 0),
            "generation": decoding_error(views, views.predicted, 1),
            "consistency": relative_error(views.predicted, views.targets),
        }


def decoding_error(views: Views, latents: Float[Array, "B K D"], after: int) -> Float[Array, ""]:
    """Error of what is decoded from latents of the moments `after` the first; of images in what sets them apart from the mean one."""
    error = jnp.zeros(())
    if "decoder" in views.heads:
        error += squared_error(views.heads["decoder"](latents), views.observations[:, after:])
    for name, frames in views.frames.items():
        pictures = frames.astype(jnp.float32) / 255.0
        apart = (pictures - pictures.mean((0, 1)))[:, after:]
        picture = views.heads[f"{name}_decoder"](latents)
        error += relative_error(*(jnp.reshape(x, (*x.shape[:2], -1)) for x in (picture, apart)))
    return error
