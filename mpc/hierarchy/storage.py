"""A whole hierarchy in one folder: the models of all levels, and how far states are apart on each."""

from pathlib import Path
from typing import Any, NamedTuple

import jax

import worldmodels
from mpc.errors import HierarchyError
from mpc.hierarchy.agent import check_levels
from mpc.temporal_distance import TemporalDistance
from worldmodels import JEPA, Abstraction, CheckpointError, checkpoint, manifest
from worldmodels.spec import Spec


class Hierarchy(NamedTuple):
    """What is learned of a hierarchy.

    Attributes:
      model: of the lowest level.
      upper: the models above, each made by `worldmodels.abstract` on the one before.
      distances: in time, on the features of each level, the lowest first; none, or one a level.
    """

    model: JEPA
    upper: tuple[Abstraction, ...] = ()
    distances: tuple[TemporalDistance, ...] = ()

    def check(self) -> None:
        """Raise `HierarchyError` unless each level was made on the one before, and the distances are between their features."""
        check_levels(self.model, self.upper)
        sizes = [_features(level) for level in (self.model, *self.upper)]
        given = [distance.features for distance in self.distances]
        if given and given != sizes:
            raise HierarchyError(
                f"distances between {given} features, the levels have {sizes}: expected one learned on each level, the lowest first, or none."
            )


def save_hierarchy(hierarchy: Hierarchy, folder: str | Path) -> None:
    """Write all levels to `folder` in one step; an older hierarchy there is replaced once the new one is complete.

    Raises `HierarchyError` for levels that were not made on each other; nothing is written then.
    """
    hierarchy.check()
    models = (hierarchy.model, *(above.model for above in hierarchy.upper))
    settings = {
        "levels": [{"model": worldmodels.describe(model), "spec": model.spec.to_json()} for model in models],
        "strides": [above.stride for above in hierarchy.upper],
        "distances": [distance.sizes for distance in hierarchy.distances],
    }
    tree = (models, hierarchy.distances)
    checkpoint.save(folder, "hierarchy", tree, settings=settings, spec=hierarchy.model.spec)


def load_hierarchy(folder: str | Path) -> Hierarchy:
    """The hierarchy saved in `folder`, bit for bit; `CheckpointError` for damage, another kind or version."""
    strides = manifest.read(folder, "hierarchy").settings["strides"]
    models, distances = checkpoint.restore(folder, "hierarchy", _built)
    upper, below = [], models[0]
    for model, stride in zip(models[1:], strides, strict=True):
        below = Abstraction(below, model, stride)
        upper.append(below)
    hierarchy = Hierarchy(models[0], tuple(upper), distances)
    try:
        hierarchy.check()
    except HierarchyError as error:
        raise CheckpointError(f"{folder} holds levels that do not fit each other: {error}") from error
    return hierarchy


def _features(model: Any) -> int:
    """How many features a model's latent has."""
    return jax.eval_shape(lambda observation: model.features(model.start(observation)), model.spec.blank).shape[-1]


def _built(content: manifest.Manifest) -> tuple[tuple[Any, ...], tuple[TemporalDistance, ...]]:
    """Untrained levels and distances."""
    levels, distances = content.settings["levels"], content.settings["distances"]
    models = tuple(worldmodels.build(level["model"], Spec.from_json(level["spec"])) for level in levels)
    return models, tuple(TemporalDistance(**sizes) for sizes in distances)
