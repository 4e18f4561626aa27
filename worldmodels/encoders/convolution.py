"""A small convolutional network for images, and one that draws them."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

from worldmodels.errors import SpecError

LAYERS = ((32, 4, 4), (32, 3, 2), (32, 3, 2))  # channels, pixels of the kernel's side, and of its stride
DARK = 1e-3  # spread of pixels, of 1, that counts as none
SMALLEST = math.prod(stride for _, _, stride in LAYERS)  # pixels, so that something is left


class Convolution(nnx.Module):
    """Strided convolutions with SiLU, then a linear layer with LayerNorm.

    What sets an image apart from the data's mean one is seen, in units of how far pixels stray from it: a thin body before a large
    background is as plain as a large one. Each layer is a product of matrices: XLA's own convolutions take many times as long on
    a CPU inside of a loop (jax-ml/jax, issue 12868).
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, *, name: str, rngs: nnx.Rngs):
        height, width, channels = shape
        self.mean, self.scale = nnx.Variable(jnp.full(shape, 0.5)), nnx.Variable(jnp.ones(()))
        if min(height, width) < SMALLEST:
            hint = " Its channels seem to come first: convert frames that have them last (numpy.moveaxis(frames, 1, -1))."
            raise SpecError(
                f"observation[{name!r}] has shape {shape}: expected (height, width, channels), at least {SMALLEST} × {SMALLEST} pixels."
                + (hint if height < SMALLEST <= min(width, channels) else "")
            )
        self.layers = nnx.List()
        for more, side, stride in LAYERS:
            self.layers.append(nnx.Linear(side**2 * channels, more, rngs=rngs))
            height, width, channels = -(-height // stride), -(-width // stride), more
        self.output = nnx.Linear(height * width * channels, outputs, rngs=rngs)
        self.norm = nnx.LayerNorm(outputs, rngs=rngs)

    def fit(self, images: UInt8[Array, "N H W C"]) -> None:
        """Take the mean and the spread of these images for those of the data."""
        values = images.astype(jnp.float32) / 255.0
        self.mean[...] = values.mean(0)
        self.scale[...] = jnp.sqrt(values.var(0).mean() + DARK**2)

    def __call__(self, image: UInt8[Array, "*B H W C"]) -> Float[Array, "*B O"]:
        batch, shape = image.shape[:-3], image.shape[-3:]
        x = (jnp.reshape(image, (-1, *shape)).astype(jnp.float32) / 255.0 - self.mean[...]) / self.scale[...]
        for layer, (_, side, stride) in zip(self.layers, LAYERS, strict=True):
            x = jax.nn.silu(layer(patches(x, side, stride)))
        return self.norm(self.output(x.reshape(*batch, -1)))


class Drawing(nnx.Module):
    """An image from a vector, by the strides of `Convolution` backwards: each point becomes a patch (Shi et al. 2016)."""

    def __init__(self, inputs: int, shape: tuple[int, ...], *, rngs: nnx.Rngs):
        self.shape = shape
        self.corner = tuple(-(-side // SMALLEST) for side in shape[:2])
        channels = LAYERS[-1][0]
        self.input = nnx.Linear(inputs, math.prod(self.corner) * channels, rngs=rngs)
        self.layers = nnx.List()
        for fewer, (_, _, stride) in zip((*(layer[0] for layer in LAYERS[-2::-1]), shape[-1]), LAYERS[::-1], strict=True):
            self.layers.append(nnx.Linear(channels, stride**2 * fewer, rngs=rngs))
            channels = fewer

    def __call__(self, vector: Float[Array, "*B I"]) -> Float[Array, "*B H W C"]:
        x = jnp.reshape(self.input(vector), (-1, *self.corner, LAYERS[-1][0]))
        for layer, (_, _, stride) in zip(self.layers, LAYERS[::-1], strict=True):
            x = spread_out(layer(jax.nn.silu(x)), stride)
        height, width, _ = self.shape
        return jnp.reshape(x[:, :height, :width], (*vector.shape[:-1], *self.shape))


def patches(x: Float[Array, "N H W C"], side: int, stride: int) -> Float[Array, "N H2 W2 P"]:
    """What a convolution of that kernel sees at each point, with zeros around the image as "SAME" puts them."""
    height, width = (-(-size // stride) for size in x.shape[1:3])
    more = [max((n - 1) * stride + side - size, 0) for n, size in zip((height, width), x.shape[1:3], strict=True)]
    x = jnp.pad(x, ((0, 0), *((pad // 2, pad - pad // 2) for pad in more), (0, 0)))
    if side == stride:
        parts = jnp.reshape(x, (-1, height, side, width, side, x.shape[-1]))
        return jnp.reshape(jnp.transpose(parts, (0, 1, 3, 2, 4, 5)), (len(x), height, width, -1))
    rows = [x[:, i : i + (height - 1) * stride + 1 : stride] for i in range(side)]
    return jnp.concatenate([row[:, :, j : j + (width - 1) * stride + 1 : stride] for row in rows for j in range(side)], -1)


def spread_out(x: Float[Array, "N H W I"], stride: int) -> Float[Array, "N H2 W2 C"]:
    """Every point as a patch of stride × stride points, with as many channels fewer."""
    count, height, width, _ = x.shape
    patches = jnp.reshape(x, (count, height, width, stride, stride, -1))
    return jnp.reshape(jnp.transpose(patches, (0, 1, 3, 2, 4, 5)), (count, height * stride, width * stride, -1))
