"""Contrastive prediction, a baseline (van den Oord, Li & Vinyals 2018, equation 4)."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from worldmodels.objectives.objective import RANK, SPREAD, Views, Weighted, relative_error

TEMPERATURE = 0.1


def contrast(predicted: Float[Array, "B D"], target: Float[Array, "B D"]) -> Float[Array, ""]:
    """Cross-entropy of telling the own target from those of the rest of the batch, by cosine similarity."""
    one, other = (x / jnp.sqrt((x**2).sum(-1, keepdims=True) + 1e-8) for x in (predicted, target))
    return optax.softmax_cross_entropy_with_integer_labels(one @ other.T / TEMPERATURE, jnp.arange(len(one))).mean()


@dataclass(frozen=True)
class InfoNCE(Weighted):
    """Pull prediction and target together, push the other windows of the batch away, through the expander.

    Attributes:
      prediction: relative error of predicted latents; the contrast alone would not bring them to the encoded ones.
      contrast: at each step ahead; its negatives are the other windows at that step.
    """

    prediction: float = 1.0
    contrast: float = 1.0
    guards: ClassVar = {SPREAD: "contrast", RANK: "contrast"}

    def terms(self, views: Views) -> dict[str, Float[Array, ""]]:
        said, seen = views.model.expander(views.predicted), views.model.expander(views.targets)
        steps = [contrast(said[:, step], seen[:, step]) for step in range(said.shape[1])]
        return {"prediction": relative_error(views.predicted, views.targets), "contrast": jnp.stack(steps).mean()}
