"""The four quantities that training without contrast has to hold together, measured alike whatever the objective, and the alarm.

LeCun 2022, section 4.5: s_x and s_y carry as much information as they can, s_y is predictable from s_x, z carries little.
"""

import warnings
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from worldmodels.diagnostics import effective_rank
from worldmodels.errors import CollapseError
from worldmodels.norms import FLOORS
from worldmodels.objectives.objective import RANK, SPREAD, Objective, Views, relative_error

COLLAPSED = 1.5  # directions; fewer are none to plan with
SHARE = 0.75  # of the observations' own rank, where that asks for less: a world of one dimension needs no more
OnCollapse = Literal["warn", "stop", "ignore"]


class CollapseWarning(UserWarning):
    """A representation that says nothing about what was observed."""


class Recipe(NamedTuple):
    """What a probe of the data shows of the model.

    Attributes:
      information_x: in the first moment's latents, nats: see `gaussian_information`.
      information_y: in the latents that are predicted, as the target is encoded.
      prediction_error: share of their variance that prediction leaves unexplained.
      information_z: in the latent variable, nats a step; 0 for a deterministic model.
      effective_rank: directions that the first moment's latents use.
      spread: their mean standard deviation.
      observed_rank: directions that the first moment's observations use; of pictures alone, as many as there are latents.
    """

    information_x: Array
    information_y: Array
    prediction_error: Array
    information_z: Array
    effective_rank: Array
    spread: Array
    observed_rank: Array


def gaussian_information(features: Float[Array, "N D"], *, floor: float) -> Float[Array, ""]:
    """½ log det(I + Σ / floor²), nats: what Gaussian features of this covariance tell through noise of deviation `floor`.

    An upper bound for features of any shape (Cover & Thomas 2006, theorem 8.6.5); the coding rate of Yu et al. 2020.
    """
    centred = features - features.mean(0)
    scaled = centred / (floor * jnp.sqrt(len(features)))
    smaller = scaled @ scaled.T if len(features) < features.shape[1] else scaled.T @ scaled
    return 0.5 * jnp.linalg.slogdet(jnp.eye(len(smaller)) + smaller)[1]


def recipe(views: Views) -> Recipe:
    """The four quantities, and how the latents are spread."""
    floor = FLOORS[views.model.settings.norm]
    first, following, seen = views.latents[:, 0], views.slow[:, -1], views.observations[:, 0]
    return Recipe(
        information_x=gaussian_information(first, floor=floor),
        information_y=gaussian_information(following, floor=floor),
        prediction_error=relative_error(views.predicted, views.slow[:, 1:]),
        information_z=views.information_z,
        effective_rank=effective_rank(first, floor=floor),
        spread=first.std(0).mean(),
        observed_rank=effective_rank(seen) if seen.size else jnp.asarray(float(first.shape[-1])),
    )


def collapsed(found: Recipe, norm: str) -> bool:
    """Whether the latents use hardly a direction, or hardly differ: on average by less than counts as lost (`norms.FLOORS`)."""
    several = float(found.effective_rank) >= min(COLLAPSED, SHARE * float(found.observed_rank))
    return not (several and float(found.spread) >= FLOORS[norm])


def _lowering(objective: Objective) -> str:
    """The advice to lower the weight that draws latents together, where there is one."""
    return next((f", or lower {name!r}" for name in ("prediction", "consistency") if name in objective.weights), "")


def sound_alarm(found: Recipe, objective: Objective, norm: str, updates: int, reaction: OnCollapse) -> None:
    """Warn with `CollapseWarning`, or raise `CollapseError`, and say which weight to raise."""
    if reaction == "ignore":
        return
    healthy = 10 * FLOORS[norm]
    lost = SPREAD if float(found.spread) < healthy / 2 else RANK
    name = objective.guards.get(lost) or next(iter(objective.guards.values()), None)
    remedy = (
        "This objective has no term against it: train with cost_gradient above 0, or with --objective vicreg."
        if name is None
        else f"Raise the weight {name!r} (now {objective.weights[name]:g}){_lowering(objective)}."
    )
    said = (
        f"the representation collapsed by update {updates}: its effective rank is {float(found.effective_rank):.1f}, "
        f"the mean spread of its components {float(found.spread):.2g}. {remedy}"
    )
    if reaction == "stop":
        raise CollapseError(said)
    warnings.warn(said, CollapseWarning, stacklevel=3)
