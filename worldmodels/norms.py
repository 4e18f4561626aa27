"""What latents are normalised by, by name: nothing, or a fixed function without weights."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from worldmodels.errors import SpecError

GROUP = 8


def none(x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """As it is."""
    return x


def layer(x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """Mean 0 and variance 1 over the components of each latent (Ba, Kiros & Hinton 2016)."""
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-6)


def simplex(x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """Softmax over each group of 8 components: SimNorm (Hansen et al. 2024, section 3.1)."""
    grouped = jnp.reshape(x, (*x.shape[:-1], -1, GROUP))
    return jax.nn.softmax(grouped).reshape(x.shape)


NORMS = {"none": none, "layer": layer, "simplex": simplex}
FLOORS = {"none": 0.1, "layer": 0.1, "simplex": 0.03}
"""Standard deviation below which a direction of the latents counts as lost: a tenth of what a healthy one has."""


def check_norm(name: str, latent: int) -> None:
    """Raise `SpecError` for a norm that is not there, or does not fit the size of the latent."""
    if name not in NORMS:
        raise SpecError(f"norm={name!r}: expected one of {', '.join(NORMS)}.")
    if name == "simplex" and latent % GROUP:
        raise SpecError(f"latent={latent} with norm='simplex': expected a multiple of {GROUP}.")
