"""Goals that the data never came near, where no model knows what it says."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from mpc.errors import GoalWarning

REACH = 4.0  # standard deviations of the training data


def far_from_data(model: Any, wanted: Mapping[str, Any]) -> float:
    """How far a goal observation is from the mean of what `model` learned from: of its components the largest, in standard deviations.

    0 for models that do not normalise, and for what is not a number (images).
    """
    normaliser, flat = getattr(model, "normaliser", None), np.asarray(model.spec.flatten(wanted))
    return 0.0 if normaliser is None or not flat.size else float(np.abs(np.asarray(normaliser(flat))).max())


def goals_of(cost: Any) -> Iterator[Mapping[str, Any]]:
    """The goal observations in a cost and in the parts that it combines."""
    if isinstance(getattr(cost, "goal", None), Mapping):
        yield cost.goal
    for part in getattr(cost, "parts", {}).values():
        yield from goals_of(part)


def warn_of_far_goals(model: Any, cost: Any) -> None:
    """A `GoalWarning` for each goal of `cost` that is further than `REACH` from the data; silent inside `jit`."""
    for wanted in goals_of(cost):
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((wanted, model))):
            return
        away = far_from_data(model, wanted)
        if away > REACH:
            warnings.warn(
                f"the goal is {away:.1f} standard deviations from what the data show; beyond {REACH:.0f} no level knows the way. "
                "Choose a nearer goal, or collect data there.",
                GoalWarning,
                stacklevel=4,
            )
