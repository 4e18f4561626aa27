"""Which observations to believe."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from worldmodels.normaliser import Normaliser
from worldmodels.spec import Spec

MEMORY = 0.02  # share of a new error in the running mean of usual ones
FAR = 50.0  # standard deviations of the training data beyond which no sensor reading is believed
LEARNED = 20  # errors seen before any is called unusual


class Seen(NamedTuple):
    """What the watch remembers: the last readable observation, how often it repeated, and the usual prediction error."""

    last: dict[str, np.ndarray] | None = None
    same: int = 0
    usual: float = 0.0
    count: int = 0


class ObservationWatch:
    """Checks each observation for shape, numbers, standing still, and against what the model predicted. Never raises."""

    def __init__(self, spec: Spec, *, frozen_after: int, surprise: float, normaliser: Normaliser | None = None):
        self.spec, self.frozen_after, self.surprise = spec, frozen_after, surprise
        self.reach: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # lowest and highest believable reading by name
        if normaliser is not None:
            centre, scale = np.asarray(normaliser.mean[...]), np.asarray(normaliser.scale[...])
            lowest, highest = (spec.unflatten(jnp.asarray(centre + sign * FAR * scale)) for sign in (-1, 1))
            self.reach = {name: (np.asarray(lowest[name]), np.asarray(highest[name])) for name in spec.names}

    def read(self, seen: Seen, observation: Any) -> tuple[dict[str, np.ndarray] | None, str | None, Seen]:
        """The observation as float32 arrays, or None and what is wrong with it."""
        arrays = {}
        try:
            for name, _ in self.spec.observation:
                arrays[name] = np.asarray(observation[name])
        except Exception:
            return None, "observation unreadable", seen
        for name, shape in self.spec.observation:
            array = arrays[name]
            if array.dtype.kind not in "fiub":
                return None, f"observation {name}: not numbers", seen
            if array.shape != shape:
                return None, f"observation {name}: shape {array.shape}", seen
            if array.dtype != np.float32:
                with np.errstate(over="ignore"):
                    array = array.astype(np.float32)
            if not np.isfinite(array).all():
                return None, f"observation {name}: not finite", seen
            if self.reach and ((array < self.reach[name][0]) | (array > self.reach[name][1])).any():
                return None, "observation out of distribution", seen
            arrays[name] = array.copy()  # whoever owns it may write over it
        last = seen.last
        still = last is not None and all(np.array_equal(arrays[name], last[name]) for name in arrays)
        return arrays, None, seen._replace(last=arrays, same=seen.same + 1 if still else 0)

    def doubt(self, seen: Seen, error: float, change: float) -> tuple[str | None, Seen]:
        """What speaks against the observation last read.

        Args:
          error: mean squared distance of its features to the predicted ones.
          change: mean squared distance that the model predicted them to move.
        """
        if seen.same >= self.frozen_after - 1 and change > 1e-6 and error > 0.1 * change:
            return "observation frozen", seen
        if not np.isfinite(error):
            return "prediction not finite", seen
        if seen.count >= LEARNED and error > self.surprise * max(seen.usual, 1e-9):
            return "observation out of distribution", seen
        usual = error if seen.count == 0 else (1 - MEMORY) * seen.usual + MEMORY * error
        return None, seen._replace(usual=usual, count=seen.count + 1)
