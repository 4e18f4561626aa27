"""Which observations to believe."""

import math
from typing import Any, NamedTuple

import numpy as np

from worldmodels.normaliser import Normaliser
from worldmodels.spec import Spec

MEMORY = 0.02  # share of a new error in the running mean of usual ones
FAR = 50.0  # standard deviations of the training data beyond which no sensor reading is believed
LEARNED = 20  # errors seen before any is called unusual


class Seen(NamedTuple):
    """What the watch remembers: the last readable observation, flat, how often it repeated, and the usual prediction error."""

    last: np.ndarray | None = None
    same: int = 0
    usual: float = 0.0
    count: int = 0


class ObservationWatch:
    """Checks each observation for shape, numbers, standing still, and against what the model predicted. Never raises."""

    def __init__(self, spec: Spec, *, frozen_after: int, surprise: float, normaliser: Normaliser | None = None):
        self.spec, self.frozen_after, self.surprise = spec, frozen_after, surprise
        self.lowest = np.full(spec.size, np.finfo(np.float32).min)
        self.highest = -self.lowest
        if normaliser is not None:
            centre, scale = np.asarray(normaliser.mean[...]), np.asarray(normaliser.scale[...])
            self.lowest, self.highest = centre - FAR * scale, centre + FAR * scale

    def read(self, seen: Seen, observation: Any) -> tuple[np.ndarray | None, str | None, Seen]:
        """The observation, flat, as float32 [size]; or None and what is wrong with it."""
        arrays = []
        try:
            for name, _ in self.spec.observation:
                arrays.append(np.asarray(observation[name]))
        except Exception:
            return None, "observation unreadable", seen
        for array, (name, shape) in zip(arrays, self.spec.observation, strict=True):
            if array.dtype.kind not in "fiub":
                return None, f"observation {name}: not numbers", seen
            if array.shape != shape:
                return None, f"observation {name}: shape {array.shape}", seen
        with np.errstate(over="ignore"):
            flat = np.concatenate([array.ravel() for array in arrays]).astype(np.float32, copy=False)
        if not ((flat >= self.lowest) & (flat <= self.highest)).all():
            return None, self._strange(flat), seen
        same = seen.same + 1 if seen.last is not None and (flat == seen.last).all() else 0
        return flat, None, Seen(flat, same, seen.usual, seen.count)

    def arrays(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """An observation by name again."""
        parts, start = {}, 0
        for name, shape in self.spec.observation:
            count = int(np.prod(shape, dtype=int))
            parts[name] = flat[start : start + count].reshape(shape)
            start += count
        return parts

    def _strange(self, flat: np.ndarray) -> str:
        bad = [name for name, value in self.arrays(flat).items() if not np.isfinite(value).all()]
        return f"observation {bad[0]}: not finite" if bad else "observation out of distribution"

    def doubt(self, seen: Seen, error: float, change: float) -> tuple[str | None, Seen]:
        """What speaks against the observation last read.

        Args:
          error: mean squared distance of its features to the predicted ones.
          change: mean squared distance that the model predicted them to move.
        """
        if seen.same >= self.frozen_after - 1 and change > 1e-6 and error > 0.1 * change:
            return "observation frozen", seen
        if not math.isfinite(error):
            return "prediction not finite", seen
        if seen.count >= LEARNED and error > self.surprise * max(seen.usual, 1e-9):
            return "observation out of distribution", seen
        usual = error if seen.count == 0 else (1 - MEMORY) * seen.usual + MEMORY * error
        return None, Seen(seen.last, seen.same, usual, seen.count + 1)
