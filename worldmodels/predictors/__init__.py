"""How a latent changes, given an action: one network a file, all called with latent and inputs side by side."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from worldmodels.networks import MLP
from worldmodels.predictors.gated import Gated
from worldmodels.predictors.transformer import Transformer


def perceptron(latent: int, inputs: int, hidden: int, *, output_scale: float, rngs: nnx.Rngs) -> MLP:
    """The default: an MLP with two hidden layers."""
    return MLP(latent + inputs, (hidden, hidden), latent, output_scale=output_scale, rngs=rngs)


PREDICTORS: dict[str, Callable[..., Any]] = {"residual": perceptron, "gated": Gated, "transformer": Transformer}
"""Name -> what makes a network [*B, D + I] -> [*B, D] from `(latent, inputs, hidden, *, output_scale, rngs)`."""


def stacked(members: Sequence[nnx.Module]) -> Any:
    """Networks of one shape as one whose arrays have a leading axis of members."""
    graphs, states = zip(*(nnx.split(member) for member in members), strict=True)
    return nnx.merge(graphs[0], jax.tree.map(lambda *x: jnp.stack(x), *states))


__all__ = ["PREDICTORS", "Gated", "Transformer", "perceptron", "stacked"]
