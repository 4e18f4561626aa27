"""Scaling of observed quantities, estimated from data and saved with the model."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

LARGE = float(np.finfo(np.float32).max)


class Normaliser(nnx.Module):
    """Subtract the mean and divide by the standard deviation seen in the data; not trained by gradients.

    `low` and `high` are the least and the most that was seen; nothing is outside of them before `fit`.
    """

    def __init__(self, size: int):
        self.mean = nnx.Variable(jnp.zeros(size, jnp.float32))
        self.scale = nnx.Variable(jnp.ones(size, jnp.float32))
        self.low = nnx.Variable(jnp.full(size, -LARGE, jnp.float32))
        self.high = nnx.Variable(jnp.full(size, LARGE, jnp.float32))

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        return (x - self.mean[...]) / self.scale[...]

    def inverse(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Back to physical units."""
        return x * self.scale[...] + self.mean[...]

    def outside(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Standard deviations from x to the range of what was seen; zeros within."""
        beyond = jnp.maximum(self.low[...] - x, x - self.high[...])
        return jnp.maximum(beyond, 0.0) / self.scale[...]

    def fit(self, data: np.ndarray, *, floor: float = 1e-3) -> None:
        """Take mean, standard deviation and range over the leading axes of `data` [..., D]; constants keep scale 1."""
        flat = data.reshape(-1, data.shape[-1]).astype(np.float64)
        scale = flat.std(0)
        self.mean[...] = jnp.asarray(flat.mean(0), jnp.float32)
        self.scale[...] = jnp.asarray(np.where(scale < floor, 1.0, scale), jnp.float32)
        self.low[...], self.high[...] = (jnp.asarray(edge, jnp.float32) for edge in (flat.min(0), flat.max(0)))
