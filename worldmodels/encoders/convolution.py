"""A small convolutional network for images."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

from worldmodels.errors import SpecError

LAYERS = ((32, 4, 4), (32, 3, 2), (32, 3, 2))  # channels, pixels of the kernel's side, and of its stride
SMALLEST = math.prod(stride for _, _, stride in LAYERS)  # pixels, so that something is left


class Convolution(nnx.Module):
    """Strided convolutions with SiLU, then a linear layer with LayerNorm.

    The first takes patches that do not overlap: on a CPU an update costs less than half of what it does with one more halving layer.
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, *, rngs: nnx.Rngs):
        height, width, channels = shape
        if min(height, width) < SMALLEST:
            raise SpecError(f"an image of shape {shape}: expected at least {SMALLEST} × {SMALLEST} pixels.")
        self.layers = nnx.List()
        for more, side, stride in LAYERS:
            self.layers.append(nnx.Conv(channels, more, (side, side), strides=stride, rngs=rngs))
            height, width, channels = -(-height // stride), -(-width // stride), more
        self.output = nnx.Linear(height * width * channels, outputs, rngs=rngs)
        self.norm = nnx.LayerNorm(outputs, rngs=rngs)

    def __call__(self, image: UInt8[Array, "*B H W C"]) -> Float[Array, "*B O"]:
        batch, shape = image.shape[:-3], image.shape[-3:]
        x = jnp.reshape(image, (-1, *shape)).astype(jnp.float32) / 255.0 - 0.5
        for layer in self.layers:
            x = jax.nn.silu(layer(x))
        return self.norm(self.output(x.reshape(*batch, -1)))
