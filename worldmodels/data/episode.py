"""Episodes in memory: what collection records, storage keeps and training reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from worldmodels.errors import DataError
from worldmodels.spec import DiscreteAction, Spec


@dataclass(frozen=True)
class Episode:
    """One episode of T decisions, as numpy arrays.

    Attributes:
      observations: name -> [T+1, *shape]; one more than there are actions.
      actions: [T, A] in environment units, or integers [T].
      costs: [T], negative reward summed over the action repeat; None where no reward was recorded.
      terminated: the environment ended (no future beyond the last observation).
      truncated: the clock ran out (the future goes on, unseen).
      seed: what the environment was reset with.
    """

    observations: dict[str, np.ndarray]
    actions: np.ndarray
    costs: np.ndarray | None
    terminated: bool
    truncated: bool
    seed: int

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def total_return(self) -> float:
        """Sum of rewards; NaN without rewards."""
        return float("nan") if self.costs is None else -float(self.costs.sum())

    def check(self, spec: Spec, name: str = "episode") -> None:
        """Raise `DataError`, naming the episode and the field, unless every array fits `spec` and is finite."""
        length = len(self.actions)
        if length < 1:
            raise DataError(f"{name}: it has no action. Expected at least one decision.")
        if set(self.observations) != set(spec.names):
            raise DataError(f"{name}: observations {sorted(self.observations)}, expected {sorted(spec.names)}.")
        expected = {f"observations[{n}]": (self.observations[n], (length + 1, *shape)) for n, shape in spec.observation}
        expected["actions"] = (self.actions, (length, *spec.action.shape))
        if self.costs is not None:
            expected["costs"] = (self.costs, (length,))
        for field, (array, shape) in expected.items():
            if array.ndim == 4 and array.shape[1:] == shape[1:] and len(array) < shape[0]:
                raise DataError(f"{name}: {field} has {len(array)} frames, expected {shape[0]}: frames are missing.")
            if array.shape != shape:
                raise DataError(f"{name}: {field} has shape {array.shape}, expected {shape}.")
            if array.dtype.kind not in "fiub":
                raise DataError(f"{name}: {field} has dtype {array.dtype}, expected numbers.")
            if array.ndim == 4 and array.dtype != np.uint8:
                raise DataError(f"{name}: {field} has dtype {array.dtype}, expected frames of uint8, 0 to 255.")
            finite = _finite(array)
            if not finite.all():
                what = "a number too large for float32" if np.isfinite(array).all() else "a NaN or an infinity"
                raise DataError(f"{name}: {field} holds {what}, first at step {int(np.argmin(finite))}.")
        for field in spec.images:
            flat = _is_flat(self.observations[field])
            if flat.any():
                raise DataError(
                    f"{name}: observations[{field}] frame {int(np.argmax(flat))} is of one colour (black, most likely): "
                    f"{int(flat.sum())} of {len(flat)} are. Was the renderer lost while recording?"
                )
        if isinstance(spec.action, DiscreteAction):
            if self.actions.dtype.kind not in "iu":
                raise DataError(f"{name}: actions have dtype {self.actions.dtype}, expected integers.")
            outside = (self.actions < 0) | (self.actions >= spec.action.n)
        else:
            low, high = np.asarray(spec.action.low), np.asarray(spec.action.high)
            slack = 1e-4 * (high - low)
            outside = ((self.actions < low - slack) | (self.actions > high + slack)).any(-1)
        if outside.any():
            raise DataError(f"{name}: actions leave {spec.action}, first at step {int(np.argmax(outside))}.")


@dataclass(frozen=True)
class Episodes(Sequence):
    """Episodes of one environment, in memory. A `Dataset` on disk has the same interface."""

    spec: Spec
    episodes: tuple[Episode, ...]

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index):
        return self.episodes[index]

    def __iter__(self) -> Iterator[Episode]:
        return iter(self.episodes)

    @property
    def decisions(self) -> int:
        return sum(len(episode) for episode in self)

    @property
    def frames(self) -> int:
        """Environment steps before action repeat, as published tables count them."""
        return self.decisions * self.spec.action_repeat


def _is_flat(frames: np.ndarray) -> np.ndarray:
    """Whether each frame [T, height, width, channels] shows one colour only."""
    return (frames == frames[:, :1, :1]).reshape(len(frames), -1).all(-1)


def _finite(array: np.ndarray) -> np.ndarray:
    """Whether each row is finite as it is stored, which is in float32 at most."""
    with np.errstate(over="ignore"):
        stored = array.astype(np.float32) if array.dtype == np.float64 else array
    return np.asarray(np.isfinite(stored).reshape(len(array), -1).all(-1))
