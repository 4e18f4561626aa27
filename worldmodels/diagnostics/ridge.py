"""Linear regression with a little shrinkage, in float64: the probe and the baseline."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Linear:
    """y = (x − centre) @ weights + offset, over leading axes."""

    centre: np.ndarray
    weights: np.ndarray
    offset: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (x - self.centre) @ self.weights + self.offset


def ridge(x: np.ndarray, y: np.ndarray, *, shrinkage: float = 1e-4) -> Linear:
    """Least squares of y [N, O] on x [N, I], penalised by `shrinkage` times the variance of each input (Hoerl & Kennard 1970)."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    centre, offset = x.mean(0), y.mean(0)
    moved = x - centre
    penalty = shrinkage * np.diag(np.maximum(moved.var(0), 1e-9)) * len(x)
    return Linear(centre, np.linalg.solve(moved.T @ moved + penalty, moved.T @ (y - offset)), offset)


def r_squared(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Share of the variance of each column of `true` [N, O] that is explained; NaN where it does not vary."""
    variance = true.var(0)
    error = ((predicted - true) ** 2).mean(0)
    return np.where(variance > 1e-12, 1 - error / np.maximum(variance, 1e-12), np.nan)
