"""Latent paths that move slowly, or straight ahead: terms to put beside another objective, which keeps them from collapsing."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from worldmodels.objectives.objective import Views, Weighted, flattened


def slowness(latents: Float[Array, "B T D"]) -> Float[Array, ""]:
    """Mean squared change in a step, over the variance: 2 where following latents have nothing in common."""
    return (jnp.diff(latents, axis=1) ** 2).mean() / (flattened(latents).var(0).mean() + 1e-6)


def curvature(latents: Float[Array, "B T D"]) -> Float[Array, ""]:
    """Mean of 1 − cosine between following steps, which is 0 on a straight path and 2 on one that turns back."""
    steps = jnp.diff(latents, axis=1)
    lengths = jnp.sqrt((steps**2).sum(-1) + 1e-8)
    cosine = (steps[:, :-1] * steps[:, 1:]).sum(-1) / (lengths[:, :-1] * lengths[:, 1:])
    return (1.0 - cosine).mean()


@dataclass(frozen=True)
class Smoothness(Weighted):
    """Slow features (Wiskott & Sejnowski 2002, section 2)."""

    smoothness: float = 0.1

    def terms(self, views: Views) -> dict[str, Float[Array, ""]]:
        return {"smoothness": slowness(views.latents)}


@dataclass(frozen=True)
class Straightening(Weighted):
    """Straight paths, along which a linear guess predicts (Hénaff, Goris & Simoncelli 2019). Needs windows of 2 steps or more."""

    straightening: float = 0.1

    def terms(self, views: Views) -> dict[str, Float[Array, ""]]:
        return {"straightening": curvature(views.latents)}
