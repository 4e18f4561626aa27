"""Whether the futures that a model draws cover what happens."""

from typing import Any

import numpy as np

from worldmodels.diagnostics.look import Look

LEVELS = (0.5, 0.8, 0.9)
BINS = 10


def calibration(seen: Look) -> dict[str, Any] | None:
    """Of the readouts in the futures drawn from each window's first moment; None for a model without noise or readouts.

    `coverage`: for each level, the share of truths inside the central interval of that level, at each step; calibrated where it
    equals the level. `spread_over_error`: standard deviation of the futures over the error of their mean, at each step; 1 is
    calibrated, below 1 too sure (Fortin et al. 2014). `ranks`: how often the truth falls into each tenth of the drawn values, over
    all steps; flat is calibrated, a U too narrow, a hill too wide (Hamill 2001). Averages over quantities that vary.
    """
    if seen.noise.shape[-1] == 0 or seen.real.shape[-1] == 0:
        return None
    return covered(seen.predicted_readouts, seen.real[:, 1:])


def covered(drawn: np.ndarray, real: np.ndarray) -> dict[str, Any]:
    """The figures of `calibration` for drawn values [N, M, H, O] and the truth [N, H, O]."""
    varies = real.reshape(-1, real.shape[-1]).std(0) > 1e-6
    drawn, real = drawn[..., varies], real[..., varies]
    futures = drawn.shape[1]
    ends = {level: np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=1) for level in LEVELS}
    inside = {level: ((real >= low) & (real <= high)).mean((0, 2)) for level, (low, high) in ends.items()}
    variance = drawn.var(1, ddof=1) * (1 + 1 / futures)  # of a new future about the mean of these
    error = ((drawn.mean(1) - real) ** 2).mean(0)
    ratio = np.sqrt(variance.mean(0) / np.maximum(error, 1e-24)).mean(-1)
    below, level_with = (drawn < real[:, None]).mean(1), (drawn == real[:, None]).mean(1)
    rank = below + level_with / 2
    counts = np.histogram(rank, BINS, (0, 1 + 1e-9))[0]
    return {
        "futures": futures,
        "coverage": {str(level): values.tolist() for level, values in inside.items()},
        "spread_over_error": ratio.tolist(),
        "ranks": (counts / counts.sum()).tolist(),
    }
