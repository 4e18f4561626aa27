"""How a latent changes, given an action: one network a file, all called with latent and inputs side by side."""

from collections.abc import Callable
from typing import Any

from flax import nnx

from worldmodels.networks import MLP
from worldmodels.predictors.gated import Gated
from worldmodels.predictors.transformer import Transformer


def perceptron(latent: int, inputs: int, hidden: int, *, output_scale: float, rngs: nnx.Rngs) -> MLP:
    """The default: an MLP with two hidden layers."""
    return MLP(latent + inputs, (hidden, hidden), latent, output_scale=output_scale, rngs=rngs)


PREDICTORS: dict[str, Callable[..., Any]] = {"residual": perceptron, "gated": Gated, "transformer": Transformer}
"""Name -> what makes a network [*B, D + I] -> [*B, D] from `(latent, inputs, hidden, *, output_scale, rngs)`."""

__all__ = ["PREDICTORS", "Gated", "Transformer", "perceptron"]
