"""What an environment shows and accepts: the static part that data, models and agents must agree on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from worldmodels.errors import SpecError

IMAGE_RANK = 3


@dataclass(frozen=True)
class ContinuousAction:
    """A box of actions in the environment's own units; models and planners see [-1, 1]. Without any in action-free data."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self):
        low, high = np.asarray(self.low), np.asarray(self.high)
        if low.shape != high.shape or low.ndim != 1:
            raise SpecError(f"action bounds low={self.low}, high={self.high}: expected two vectors of one length.")
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            raise SpecError(
                f"action bounds low={self.low}, high={self.high}: expected finite numbers with low < high. "
                "Wrap the environment (gymnasium.wrappers.RescaleAction or ClipAction) to give it finite bounds."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.low),)

    @property
    def within(self) -> tuple[np.ndarray, np.ndarray]:
        """The bounds as float32, rounded inwards where float32 does not hold them."""
        low, high = (np.asarray(bound, np.float64) for bound in (self.low, self.high))
        near_low, near_high = low.astype(np.float32), high.astype(np.float32)
        inner_low = np.where(near_low < low, np.nextafter(near_low, np.float32(np.inf)), near_low)
        return inner_low, np.where(near_high > high, np.nextafter(near_high, np.float32(-np.inf)), near_high)

    def normalise(self, action: Any) -> Any:
        """Environment units to [-1, 1]; numpy in, numpy out, JAX in, JAX out."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        return (action - low) / (high - low) * 2 - 1

    def denormalise(self, action: Any) -> Any:
        """[-1, 1] to environment units."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        return low + (action + 1) / 2 * (high - low)


@dataclass(frozen=True)
class DiscreteAction:
    """Integer actions 0 … n−1, the same everywhere."""

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    def normalise(self, action: Any) -> Any:
        return action

    def denormalise(self, action: Any) -> Any:
        return action


@dataclass(frozen=True)
class Spec:
    """Spaces, names and time of one environment as Sailplan sees it. Hashable, so static under `jit`.

    Attributes:
      environment: the id it was made from.
      observation: name and shape of each observed quantity, in a fixed order; all float32 (images uint8).
      action: `ContinuousAction` or `DiscreteAction`.
      action_repeat: environment steps (frames) a decision lasts.
      action_block: actions in a decision, one after the other, side by side in `action`.
      seconds_per_step: duration of one model step (one decision), in seconds.
      units: physical unit of each observed quantity, "" where unknown.
    """

    environment: str
    observation: tuple[tuple[str, tuple[int, ...]], ...]
    action: ContinuousAction | DiscreteAction
    action_repeat: int = 1
    seconds_per_step: float = 1.0
    units: tuple[tuple[str, str], ...] = ()
    action_block: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.observation)

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the quantities of rank 3: height, width and channels."""
        return tuple(name for name, shape in self.observation if len(shape) == IMAGE_RANK)

    @property
    def vectors(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Name and shape of all that is no image."""
        return tuple((name, shape) for name, shape in self.observation if len(shape) != IMAGE_RANK)

    @property
    def size(self) -> int:
        """Length of the flattened observation."""
        return int(sum(np.prod(shape, dtype=int) for _, shape in self.vectors))

    @property
    def blank(self) -> dict[str, np.ndarray]:
        """An observation of zeros, images as bytes: for shapes and rehearsals."""
        return {name: np.zeros(shape, self.dtype(name)) for name, shape in self.observation}

    def dtype(self, name: str) -> type:
        """What an observed quantity is stored as: bytes for images, float32 for all else."""
        return np.uint8 if name in self.images else np.float32

    def flatten(self, observation: Mapping[str, Any]) -> Array:
        """Named quantities but images, each [..., *shape], side by side as [..., size]."""
        parts = [jnp.zeros((*np.shape(observation[name])[:-IMAGE_RANK], 0), jnp.float32) for name in self.images[:1]]
        for name, shape in self.vectors:
            value = jnp.asarray(observation[name], jnp.float32)
            parts.append(value.reshape(*value.shape[: value.ndim - len(shape)], -1))
        return jnp.concatenate(parts, axis=-1)

    def unflatten(self, flat: Array) -> dict[str, Array]:
        """The inverse of `flatten`."""
        parts, start = {}, 0
        for name, shape in self.vectors:
            count = int(np.prod(shape, dtype=int))
            parts[name] = flat[..., start : start + count].reshape(*flat.shape[:-1], *shape)
            start += count
        return parts

    def check_observation(self, observation: Mapping[str, Any], *, batch: tuple[int, ...] = ()) -> None:
        """Raise `SpecError` for a missing or extra name, a wrong shape, or a value that is not finite."""
        if not isinstance(observation, Mapping) or set(observation) != set(self.names):
            given = sorted(observation) if isinstance(observation, Mapping) else type(observation).__name__
            raise SpecError(f"observation {given}: expected a mapping with the names {sorted(self.names)}.")
        for name, shape in self.observation:
            value = observation[name]
            if np.shape(value) != (*batch, *shape):
                raise SpecError(f"observation[{name!r}] has shape {np.shape(value)}: expected {(*batch, *shape)}.")
            if isinstance(value, Tracer):
                continue
            array = np.asarray(value)
            if array.dtype.kind not in "fiub":
                raise SpecError(f"observation[{name!r}] has dtype {array.dtype}: expected numbers.")
            if not np.isfinite(array).all():
                raise SpecError(f"observation[{name!r}] holds a NaN or an infinity: expected finite numbers. Check the sensor.")

    def check_action(self, action: Any, *, batch: tuple[int, ...] = ()) -> None:
        """Raise `SpecError` for an action (environment units) of the wrong shape, dtype or range."""
        array = np.asarray(action)
        if array.shape != (*batch, *self.action.shape):
            raise SpecError(f"action has shape {array.shape}: expected {(*batch, *self.action.shape)}.")
        if isinstance(self.action, DiscreteAction):
            if array.dtype.kind not in "iu" or (array < 0).any() or (array >= self.action.n).any():
                raise SpecError(f"action {array} of dtype {array.dtype}: expected integers from 0 to {self.action.n - 1}.")
            return
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise SpecError(f"action {array} of dtype {array.dtype}: expected finite numbers.")
        low, high = np.asarray(self.action.low), np.asarray(self.action.high)
        slack = 1e-5 * (high - low) + np.spacing(np.maximum(abs(low), abs(high)).astype(np.float32))
        if (array < low - slack).any() or (array > high + slack).any():
            raise SpecError(f"action {array}: expected values between {self.action.low} and {self.action.high}.")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, for a manifest."""
        return {**asdict(self), "action_kind": type(self.action).__name__}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Spec":
        """From a manifest; `SpecError` names a missing field."""
        try:
            kinds = {"ContinuousAction": ContinuousAction, "DiscreteAction": DiscreteAction}
            action = {key: tuple(value) if isinstance(value, list) else value for key, value in data["action"].items()}
            return cls(
                environment=data["environment"],
                observation=tuple((name, tuple(shape)) for name, shape in data["observation"]),
                action=kinds[data["action_kind"]](**action),
                action_repeat=data["action_repeat"],
                seconds_per_step=data["seconds_per_step"],
                units=tuple((name, unit) for name, unit in data["units"]),
                action_block=data.get("action_block", 1),
            )
        except SpecError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise SpecError(f"the manifest's spec cannot be read ({error!r}). Was it written by this version?") from error
