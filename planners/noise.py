"""Noise along the horizon, white or coloured."""

from functools import lru_cache

import jax
import numpy as np
from jaxtyping import Array, Float


@lru_cache(maxsize=64)
def _colouring(horizon: int, exponent: float) -> np.ndarray:
    frequency = np.fft.rfftfreq(horizon)
    frequency[0] = frequency[1] if horizon > 1 else 1.0
    amplitude = frequency ** (-exponent / 2)
    white = np.eye(horizon)
    coloured = np.fft.irfft(np.fft.rfft(white, axis=0) * amplitude[:, None], n=horizon, axis=0)
    return (coloured / np.sqrt((coloured**2).sum(1, keepdims=True))).astype(np.float32)


def _normal(count: int, key: Array) -> Float[Array, " N"]:
    """Standard normal numbers, cut at 5 standard deviations.

    Drawn flat, in a loop of two, which XLA cannot fuse with what comes after: a fifth of the time on a CPU, where it does not
    vectorise the inverse error function inside a fusion of three dimensions.
    """

    def half(key):
        return jax.random.truncated_normal(key, -5.0, 5.0, ((count + 1) // 2,))

    return jax.lax.map(half, jax.random.split(key)).reshape(-1)[:count]


def coloured_noise(count: int, horizon: int, size: int, exponent: float, *, key: Array) -> Float[Array, "N H A"]:
    """Standard normal noise whose power falls as 1 / frequency^exponent along the horizon.

    0 is white, 1 pink, 2 brown; unit variance at every step (Timmer & König 1995; Pinneri et al. 2020, section 3.1).
    """
    white = _normal(count * horizon * size, key)
    if exponent == 0:
        return white.reshape(count, horizon, size)
    coloured = white.reshape(count * size, horizon) @ _colouring(horizon, float(exponent)).T
    return coloured.reshape(count, size, horizon).swapaxes(1, 2)
