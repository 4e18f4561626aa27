"""Which observations to believe."""

from typing import Any

import numpy as np

from worldmodels.normaliser import Normaliser
from worldmodels.spec import Spec

MEMORY = 0.02  # share of a new error in the running mean of usual ones
FAR = 50.0  # standard deviations of the training data beyond which no sensor reading is believed
LEARNED = 20  # errors seen before any is called unusual


class ObservationWatch:
    """Checks each observation for shape, numbers, standing still, and against what the model predicted. Never raises."""

    def __init__(self, spec: Spec, *, frozen_after: int, surprise: float, normaliser: Normaliser | None = None):
        self.spec, self.frozen_after, self.surprise = spec, frozen_after, surprise
        self.centre = None if normaliser is None else np.asarray(normaliser.mean[...])
        self.scale = None if normaliser is None else np.asarray(normaliser.scale[...])
        self.reset()

    def reset(self) -> None:
        """Forget the last observations; what errors are usual stays unknown until it is seen again."""
        self.last: dict[str, np.ndarray] | None = None
        self.same = 0
        self.usual = 0.0
        self.seen = 0

    def read(self, observation: Any) -> tuple[dict[str, np.ndarray] | None, str | None]:
        """The observation as float32 arrays, or None and what is wrong with it."""
        try:
            arrays = {name: np.asarray(observation[name]) for name, _ in self.spec.observation}
        except Exception as error:
            return None, f"observation unreadable ({type(error).__name__})"
        for name, shape in self.spec.observation:
            if arrays[name].dtype.kind not in "fiub":
                return None, f"observation {name}: dtype {arrays[name].dtype}"
            if arrays[name].shape != shape:
                return None, f"observation {name}: shape {arrays[name].shape}"
            with np.errstate(over="ignore"):
                arrays[name] = arrays[name].astype(np.float32)
            if not np.isfinite(arrays[name]).all():
                return None, f"observation {name}: not finite"
        if self.centre is not None and self.scale is not None:
            flat = np.concatenate([arrays[name].ravel() for name, _ in self.spec.observation])
            if (np.abs(flat - self.centre) > FAR * self.scale).any():
                return None, "observation out of distribution"
        still = self.last is not None and all(np.array_equal(arrays[name], self.last[name]) for name in arrays)
        self.same = self.same + 1 if still else 0
        self.last = arrays
        return arrays, None

    def doubt(self, error: float, change: float) -> str | None:
        """What speaks against the observation last read.

        Args:
          error: mean squared distance of its features to the predicted ones.
          change: mean squared distance that the model predicted them to move.
        """
        if self.same >= self.frozen_after - 1 and change > 1e-6 and error > 0.1 * change:
            return "observation frozen"
        if not np.isfinite(error):
            return "prediction not finite"
        if self.seen >= LEARNED and error > self.surprise * max(self.usual, 1e-9):
            return "observation out of distribution"
        self.usual = error if self.seen == 0 else (1 - MEMORY) * self.usual + MEMORY * error
        self.seen += 1
        return None
