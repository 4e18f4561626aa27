"""A gated recurrent predictor: the latent is the state of a gated unit, the action its input."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from worldmodels.networks import MLP

KEPT = 2.0  # added to the gate's logit: an untrained unit keeps seven eighths of its state


class Gated(nnx.Module):
    """change = g · (c − s): a gate g and a candidate c from one MLP (after Cho et al. 2014, equations 5 to 8, without reset gate).

    The candidate is not squashed, so that latents of any scale can be predicted.
    """

    def __init__(self, latent: int, inputs: int, hidden: int, *, output_scale: float, rngs: nnx.Rngs):
        self.latent = latent
        self.network = MLP(latent + inputs, (hidden, hidden), 2 * latent, output_scale=output_scale, rngs=rngs)

    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B D"]:
        output = self.network(x)
        gate, candidate = output[..., : self.latent], output[..., self.latent :]
        return jax.nn.sigmoid(gate - KEPT) * (candidate - x[..., : self.latent])
