"""A small convolutional network for images."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

from worldmodels.errors import SpecError

CHANNELS = (16, 32, 32, 32)  # each layer halves height and width
SMALLEST = 16  # pixels, so that four halvings leave something


class Convolution(nnx.Module):
    """Strided 3 × 3 convolutions with SiLU, then a linear layer with LayerNorm."""

    def __init__(self, shape: tuple[int, ...], outputs: int, *, rngs: nnx.Rngs):
        height, width, channels = shape
        if min(height, width) < SMALLEST:
            raise SpecError(f"an image of shape {shape}: expected at least {SMALLEST} × {SMALLEST} pixels.")
        widths = (channels, *CHANNELS)
        self.layers = nnx.List(nnx.Conv(a, b, (3, 3), strides=2, rngs=rngs) for a, b in zip(widths, widths[1:], strict=False))
        halved = -(-height // SMALLEST) * -(-width // SMALLEST)
        self.output = nnx.Linear(halved * CHANNELS[-1], outputs, rngs=rngs)
        self.norm = nnx.LayerNorm(outputs, rngs=rngs)

    def __call__(self, image: UInt8[Array, "*B H W C"]) -> Float[Array, "*B O"]:
        batch, shape = image.shape[:-3], image.shape[-3:]
        x = jnp.reshape(image, (-1, *shape)).astype(jnp.float32) / 255.0 - 0.5
        for layer in self.layers:
            x = jax.nn.silu(layer(x))
        return self.norm(self.output(x.reshape(*batch, -1)))
