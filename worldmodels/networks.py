"""The multilayer perceptron every head and predictor is made of."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class MLP(nnx.Module):
    """Linear, LayerNorm, SiLU for each hidden width, then a linear output; unbatched or batched on leading axes.

    Attributes:
      centred: whether the mean over outputs was taken out of the weights for good, by `frozen`.
    """

    centred = False

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, *, rngs: nnx.Rngs, output_scale: float = 1.0):
        widths = (inputs, *hidden)
        self.layers = nnx.List(nnx.Linear(a, b, rngs=rngs) for a, b in zip(widths, widths[1:], strict=False))
        self.norms = nnx.List(nnx.LayerNorm(width, rngs=rngs) for width in hidden)
        scale = nnx.initializers.variance_scaling(output_scale, "fan_in", "truncated_normal")
        self.output = nnx.Linear(widths[-1], outputs, kernel_init=scale, rngs=rngs)

    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = silu(normalised(*(parameters(layer) if self.centred else centred(layer)), norm, x))
        return self.output(x)


def trained(modules: Any) -> Any:
    """What is trained of a module, or of several."""
    return nnx.split(modules, nnx.Param, ...)[1]


def frozen(tree: Any) -> Any:
    """`tree` with the weights of every `MLP` in it centred once and for all, for those who apply it to one vector at a time."""

    def once(node: Any) -> Any:
        if not isinstance(node, MLP) or node.centred:
            return node
        mlp = jax.tree.map(lambda leaf: leaf, node)
        for layer in mlp.layers:
            layer.kernel[...], layer.bias[...] = centred(layer)
        mlp.centred = True
        return mlp

    return jax.tree.map(once, tree, is_leaf=lambda node: isinstance(node, MLP))


def parameters(layer: nnx.Linear) -> tuple[Array, Array]:
    """Kernel [..., I, O] and bias [..., O]."""
    return layer.kernel[...], layer.bias[...]  # type: ignore[index]


def centred(layer: nnx.Linear) -> tuple[Array, Array]:
    """Kernel and bias less their mean over the outputs."""
    kernel, bias = parameters(layer)
    return kernel - kernel.mean(-1, keepdims=True), bias - bias.mean(-1, keepdims=True)


def normalised(
    kernel: Float[Array, "I O"], bias: Float[Array, " O"], norm: nnx.LayerNorm, x: Float[Array, "*B I"]
) -> Float[Array, "*B O"]:
    """norm(x @ kernel + bias) of centred weights: the mean comes out of them, once for all x, instead of out of every output."""
    values = x @ kernel + bias
    variance = jnp.square(values).mean(-1, keepdims=True)
    return values * (jax.lax.rsqrt(variance + norm.epsilon) * norm.scale[...]) + norm.bias[...]  # type: ignore[index]


def silu(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """x · σ(x) through tanh, which a CPU computes in vectors without a division."""
    half = 0.5 * x
    return half + half * jnp.tanh(half)
