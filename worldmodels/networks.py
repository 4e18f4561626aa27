"""The multilayer perceptron every head and predictor is made of."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class MLP(nnx.Module):
    """Linear, LayerNorm, SiLU for each hidden width, then a linear output; unbatched or batched on leading axes."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, *, rngs: nnx.Rngs, output_scale: float = 1.0):
        widths = (inputs, *hidden)
        self.layers = nnx.List(nnx.Linear(a, b, rngs=rngs) for a, b in zip(widths, widths[1:], strict=False))
        self.norms = nnx.List(nnx.LayerNorm(width, rngs=rngs) for width in hidden)
        scale = nnx.initializers.variance_scaling(output_scale, "fan_in", "truncated_normal")
        self.output = nnx.Linear(widths[-1], outputs, kernel_init=scale, rngs=rngs)

    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = silu(normalised(layer, norm, x))
        return self.output(x)


def normalised(layer: nnx.Linear, norm: nnx.LayerNorm, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
    """norm(layer(x)), with the mean over outputs taken out of the weights, once for all x, instead of out of every output."""
    kernel, bias = layer.kernel[...], layer.bias[...]  # type: ignore[index]
    centred = x @ (kernel - kernel.mean(-1, keepdims=True)) + (bias - bias.mean())
    variance = jnp.square(centred).mean(-1, keepdims=True)
    return centred * (jax.lax.rsqrt(variance + norm.epsilon) * norm.scale[...]) + norm.bias[...]  # type: ignore[index]


def silu(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """x · σ(x) through tanh, which a CPU computes in vectors without a division."""
    half = 0.5 * x
    return half + half * jnp.tanh(half)
