"""A small transformer predictor: parts of the latent, and the action, attend to each other."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from worldmodels.errors import SpecError

TOKENS = 8  # parts of the latent
HEADS = 4
BLOCKS = 2


class Block(nnx.Module):
    """Attention, then a perceptron, each on normalised tokens and added (Vaswani et al. 2017; normalised first as in Xiong et al. 2020)."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.first, self.second = nnx.LayerNorm(width, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)
        self.mixed = nnx.Linear(width, 3 * width, use_bias=False, rngs=rngs)
        self.joined = nnx.Linear(width, width, rngs=rngs)
        self.wide = nnx.Linear(width, 2 * width, rngs=rngs)
        self.narrow = nnx.Linear(2 * width, width, rngs=rngs)

    def __call__(self, x: Float[Array, "*B T W"]) -> Float[Array, "*B T W"]:
        split = self.mixed(self.first(x)).reshape(*x.shape[:-1], 3, HEADS, -1)
        query, key, value = (split[..., part, :, :] for part in range(3))
        weights = jax.nn.softmax(jnp.einsum("...qhc,...khc->...hqk", query, key) / jnp.sqrt(query.shape[-1]))
        seen = jnp.einsum("...hqk,...khc->...qhc", weights, value).reshape(x.shape)
        x = x + self.joined(seen)
        return x + self.narrow(jax.nn.silu(self.wide(self.second(x))))


class Transformer(nnx.Module):
    """Each token is an eighth of the latent; one more holds the action. Its width is an eighth of `hidden`, rounded up to whole heads."""

    def __init__(self, latent: int, inputs: int, hidden: int, *, output_scale: float, rngs: nnx.Rngs):
        if latent % TOKENS:
            raise SpecError(f"latent={latent} with predictor='transformer': expected a multiple of {TOKENS}.")
        self.latent = latent
        width = HEADS * -(-hidden // (TOKENS * HEADS))
        self.parts = nnx.Linear(latent // TOKENS, width, rngs=rngs)
        self.inputs = nnx.Linear(inputs, width, rngs=rngs)
        self.places = nnx.Param(0.02 * jax.random.normal(rngs.params(), (TOKENS + 1, width)))
        self.blocks = nnx.List(Block(width, rngs=rngs) for _ in range(BLOCKS))
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        scale = nnx.initializers.variance_scaling(output_scale, "fan_in", "truncated_normal")
        self.output = nnx.Linear(width, latent // TOKENS, kernel_init=scale, rngs=rngs)

    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B D"]:
        state, inputs = x[..., : self.latent], x[..., self.latent :]
        tokens = self.parts(state.reshape(*state.shape[:-1], TOKENS, -1))
        tokens = jnp.concatenate([tokens, self.inputs(inputs)[..., None, :]], -2) + self.places[...]
        for block in self.blocks:
            tokens = block(tokens)
        return self.output(self.norm(tokens[..., :TOKENS, :])).reshape(state.shape)
