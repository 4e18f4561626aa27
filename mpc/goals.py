"""Goals that do not suit a model, or that its data never came near, where it does not know what it says."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from mpc.errors import CostError, GoalWarning
from worldmodels.diagnostics.trials import component_names
from worldmodels.errors import SpecError

REACH = 0.25  # standard deviations of the training data beyond the range of what they show


class Seeking:
    """What task costs inherit whose `goal` is an observation."""

    goal: dict[str, Array]


class Far(NamedTuple):
    """How a goal lies outside of the data: by so many standard deviations, and in words what of it lies furthest out."""

    away: float
    words: str


def far_from_data(model: Any, wanted: Mapping[str, Any]) -> Far | None:
    """How far a goal observation is outside the range of what `model` learned from; None for one that is not, give or take `REACH`.

    Of its components the one furthest out counts; whether they were ever seen together is not looked at. None too for models that do
    not normalise (simulators), for what is not a number (images), and inside `jit`.
    """
    normaliser = getattr(model, "normaliser", None)
    if normaliser is None or not model.spec.vectors:
        return None
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((dict(wanted), normaliser))):
        return None
    flat = np.asarray(model.spec.flatten(wanted))
    outside = np.asarray(normaliser.outside(flat))
    worst = int(outside.argmax())
    if outside[worst] <= REACH:
        return None
    low, high = (float(edge[...][worst]) for edge in (normaliser.low, normaliser.high))
    name = component_names(model.spec)[worst]
    return Far(float(outside[worst]), f"{name}={flat[worst]:.3g}, where the data show {low:.3g} to {high:.3g}")


def within_reach(model: Any, wanted: dict[str, Any], whose: str = "the goal") -> dict[str, Any]:
    """The goal, or the nearest observation within what the data reached, with a `GoalWarning` that tells the distance.

    Raises `CostError`, beginning with `whose`, for a goal that does not suit the model.
    """
    try:
        model.spec.check_observation(wanted)
    except SpecError as error:
        raise CostError(f"{whose} does not suit the model: {error}") from error
    far = far_from_data(model, wanted)
    if far is None:
        return wanted
    warnings.warn(
        f"{whose} is out of the data's reach by {far.away:.1f} standard deviations ({far.words}): "
        "the nearest within is sought instead.",
        GoalWarning,
        stacklevel=4,
    )
    normaliser = model.normaliser
    near = jnp.clip(model.spec.flatten(wanted), normaliser.low[...], normaliser.high[...])
    return {**wanted, **model.spec.unflatten(near)}


def brought_near(model: Any, cost: Any, whose: str = "the goal") -> Any:
    """`cost` with its goals `within_reach`, those of the costs that it combines too; itself where all are."""
    if isinstance(cost, Seeking):
        near = within_reach(model, cost.goal, whose)
        return cost if near is cost.goal else replace(cost, goal=near)  # type: ignore[type-var]
    parts = getattr(cost, "parts", None)
    if not isinstance(parts, Mapping):
        return cost
    near = {name: brought_near(model, part, whose) for name, part in parts.items()}
    return cost if all(near[name] is parts[name] for name in parts) else replace(cost, parts=near)
