"""Prediction of a slow teacher's encoding (Grill et al. 2020, BYOL, section 3; in latent space as Assran et al. 2023, I-JEPA)."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Array, Float

from worldmodels.objectives.objective import Views, Weighted, relative_error


@dataclass(frozen=True)
class Teacher(Weighted):
    """The target is what an exponential moving average of the model encodes; it gets no gradient.

    Nothing in the loss forbids a collapse. What holds it off is that the predictor learns faster than the teacher moves.

    Attributes:
      prediction: error relative to the spread of the teacher's latents.
    """

    prediction: float = 1.0
    momentum: ClassVar[float | None] = 0.99

    def terms(self, views: Views) -> dict[str, Float[Array, ""]]:
        return {"prediction": relative_error(views.predicted, views.slow[:, 1:])}
