"""Scaling of observed quantities, estimated from data and saved with the model."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

STEP = 1.0  # radians from one decision to the next, beyond which a turn is not followed


class Normaliser(nnx.Module):
    """Subtract the mean and divide by the standard deviation seen in the data; not trained by gradients."""

    def __init__(self, size: int):
        self.mean = nnx.Variable(jnp.zeros(size, jnp.float32))
        self.scale = nnx.Variable(jnp.ones(size, jnp.float32))

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        return (x - self.mean[...]) / self.scale[...]

    def inverse(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Back to physical units."""
        return x * self.scale[...] + self.mean[...]

    def fit(self, data: np.ndarray, *, floor: float = 1e-3) -> None:
        """Take mean and standard deviation over the leading axes of `data` [..., D]; constants keep scale 1."""
        flat = data.reshape(-1, data.shape[-1]).astype(np.float64)
        scale = flat.std(0)
        self.mean[...] = jnp.asarray(flat.mean(0), jnp.float32)
        self.scale[...] = jnp.asarray(np.where(scale < floor, 1.0, scale), jnp.float32)


def turns(data: np.ndarray) -> np.ndarray:
    """For each column of `data` [N, D], step after step, whether it moves further than a turn in small steps: in radians, an angle without end."""
    steps = np.abs(np.diff(data, axis=0))
    return (np.ptp(data, axis=0) > 2 * np.pi) & (np.quantile(steps, 0.99, axis=0) < STEP)
