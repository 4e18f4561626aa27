"""Models on disk: saved with all it takes to build them again."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from worldmodels import checkpoint
from worldmodels.errors import CheckpointError
from worldmodels.jepa import JEPA
from worldmodels.spec import Spec

MODELS = {model.kind: model for model in (JEPA,)}


def describe(model: JEPA) -> dict[str, Any]:
    """Which model it is and its settings, as JSON: with the spec, enough for `build`."""
    return {"model": model.kind, **asdict(model.settings)}


def build(settings: dict[str, Any], spec: Spec) -> JEPA:
    """An untrained model from what `describe` wrote."""
    settings = dict(settings)
    kind = settings.pop("model", None)
    if kind not in MODELS:
        raise CheckpointError(f"model kind {kind!r} is not known to this version: expected one of {sorted(MODELS)}.")
    return MODELS[kind](spec, **settings)


def save(model: JEPA, folder: str | Path) -> None:
    """Write `model` to `folder` in one step; an older model there is replaced once the new one is complete."""
    checkpoint.save(folder, "model", model, settings=describe(model), spec=model.spec)


def load(folder: str | Path) -> JEPA:
    """The model saved in `folder`, bit for bit; needs nothing else. `CheckpointError` for damage, another kind or version."""
    return checkpoint.restore(folder, "model", lambda content: build(content.settings, content.spec))
