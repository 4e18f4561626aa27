"""The multilayer perceptron every head and predictor is made of."""

from collections.abc import Sequence

import jax
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
            x = jax.nn.silu(norm(layer(x)))
        return self.output(x)
