"""Goals that the data never came near, where no model knows what it says."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

from mpc.errors import GoalWarning
from worldmodels.diagnostics.trials import component_names

REACH = 0.25  # standard deviations of the training data beyond the range of what they show


class Far(NamedTuple):
    """How a goal lies outside of the data: by so many standard deviations, and in words what of it lies furthest out."""

    away: float
    words: str


def far_from_data(model: Any, wanted: Mapping[str, Any]) -> Far | None:
    """How far a goal observation is outside the range of what `model` learned from; None for one that is not, give or take `REACH`.

    Of its components the one furthest out counts. None too for models that do not normalise, and for what is not a number (images).
    """
    normaliser, flat = getattr(model, "normaliser", None), np.asarray(model.spec.flatten(wanted))
    if normaliser is None or not flat.size:
        return None
    outside = np.asarray(normaliser.outside(flat))
    worst = int(outside.argmax())
    if outside[worst] <= REACH:
        return None
    low, high = (float(edge[...][worst]) for edge in (normaliser.low, normaliser.high))
    name = component_names(model.spec)[worst]
    return Far(float(outside[worst]), f"{name}={flat[worst]:.3g}, where the data show {low:.3g} to {high:.3g}")


def goals_of(cost: Any) -> Iterator[Mapping[str, Any]]:
    """The goal observations in a cost and in the parts that it combines."""
    if isinstance(getattr(cost, "goal", None), Mapping):
        yield cost.goal
    for part in getattr(cost, "parts", {}).values():
        yield from goals_of(part)


def warn_of_far_goals(model: Any, cost: Any) -> None:
    """A `GoalWarning` for each goal of `cost` that is outside of the data; silent inside `jit`."""
    for wanted in goals_of(cost):
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((wanted, model))):
            return
        far = far_from_data(model, wanted)
        if far is not None:
            warnings.warn(
                f"the goal is out of the data's reach by {far.away:.1f} standard deviations ({far.words}): no level knows the way. "
                "Choose a nearer goal, or collect data there.",
                GoalWarning,
                stacklevel=4,
            )
