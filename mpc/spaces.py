"""Gymnasium spaces as a `Spec` sees them, and raw observations as named arrays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from mpc.errors import UnsupportedEnvironmentError
from worldmodels.errors import SpecError
from worldmodels.spec import ContinuousAction, DiscreteAction

CATEGORIES = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class Field(NamedTuple):
    """One observed quantity: where it lies in the raw observation and how it becomes an array."""

    name: str
    path: tuple[Any, ...]
    shape: tuple[int, ...]
    convert: Callable[[Any], np.ndarray]

    def read(self, observation: Any) -> np.ndarray:
        for part in self.path:
            observation = observation[part]
        return self.convert(observation)


def observation_fields(space: spaces.Space, environment: str) -> tuple[Field, ...]:
    """The named arrays of a space, nested names joined by "."; a space without names is called "observation".

    Boxes become float32, images (uint8 of rank 3) stay uint8, categories become one-hot vectors.
    """
    fields = tuple(_fields(space, (), environment))
    if not fields:
        raise UnsupportedEnvironmentError(f"{environment}: it shows nothing, its observation space is {space}.")
    return fields


def _fields(space: spaces.Space, path: tuple[Any, ...], environment: str) -> list[Field]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        children = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        return [field for name, child in children for field in _fields(child, (*path, name), environment)]
    name = ".".join(str(part) for part in path) or "observation"
    if isinstance(space, spaces.Box):
        image = space.dtype == np.uint8 and len(space.shape) == 3
        if 0 in space.shape or (len(space.shape) == 3 and not image):
            raise UnsupportedEnvironmentError(
                f"{environment}: observation {name!r} is {space}. Expected at least one number, and pictures of uint8. "
                "Wrap the environment (gymnasium.wrappers.TransformObservation) and register the result."
            )
        dtype = np.uint8 if image else np.float32
        return [Field(name, path, space.shape, lambda value: np.array(value, dtype))]
    if isinstance(space, CATEGORIES):
        return [Field(name, path, (spaces.flatdim(space),), lambda value: _one_hot(space, value))]
    raise UnsupportedEnvironmentError(
        f"{environment}: observation {name!r} is a {type(space).__name__}. Expected Box, Dict, Tuple, Discrete, MultiDiscrete or "
        "MultiBinary. Wrap the environment (gymnasium.wrappers.TransformObservation) and register the result."
    )


def _one_hot(space: spaces.Space, value: Any) -> np.ndarray:
    if not space.contains(value):
        raise ValueError(f"{value!r} is not in {space}")
    return np.asarray(spaces.flatten(space, value), np.float32)


def action_spec(space: spaces.Space, environment: str) -> ContinuousAction | DiscreteAction:
    """The space as a `Spec` names it. `UnsupportedEnvironmentError` for other kinds, infinite or inverted bounds."""
    if isinstance(space, spaces.Discrete):
        return DiscreteAction(int(space.n))
    if not isinstance(space, spaces.Box) or space.dtype.kind != "f" or not space.low.size:
        raise UnsupportedEnvironmentError(
            f"{environment}: the action space is {space}. Expected a Box of floats or Discrete. "
            "Wrap the environment (gymnasium.wrappers.TransformAction) and register the result."
        )
    try:
        return ContinuousAction(tuple(space.low.ravel().tolist()), tuple(space.high.ravel().tolist()))
    except SpecError as error:
        raise UnsupportedEnvironmentError(f"{environment}: {error}") from error


def blocked(action: ContinuousAction | DiscreteAction, block: int, environment: str) -> ContinuousAction | DiscreteAction:
    """`block` actions side by side."""
    if block == 1:
        return action
    if isinstance(action, DiscreteAction):
        raise UnsupportedEnvironmentError(f"{environment}: blocks of {block} integers. Expected block=1 for discrete actions.")
    return ContinuousAction(action.low * block, action.high * block)


def native_action(space: spaces.Space, action: Any) -> Any:
    """A checked action as the environment wants it: dtype and shape of its space, clipped to the exact bounds."""
    if isinstance(space, spaces.Discrete):
        return int(action) + int(space.start)
    assert isinstance(space, spaces.Box)
    return np.clip(np.asarray(action, space.dtype).reshape(space.shape), space.low, space.high)
