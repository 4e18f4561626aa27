"""Novelty: how seldom memory holds what a decision led to, while rewards are too rare to learn from."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from worldmodels.data.episode import Episode

NEAR = 0.1  # mean squared distance, in deviations, at which two states count as half the same


def novelty(states: Float[Array, "B L+1 D"]) -> Float[Array, "B L"]:
    """Of every state of a window but its first: its rarity among the first states of the other windows, standardised.

    Minus the logarithm of a density estimated from a batch with a heavy-tailed kernel, as the entropy of visited states is raised
    by rewarding the distance to the nearest of a batch (Liu & Abbeel 2021, "Behavior from the void", section 3).
    """
    reached, known = states[:, 1:], states[:, 0]
    distance = (reached**2).mean(-1)[..., None] + (known**2).mean(-1) - 2 * reached @ known.T / states.shape[-1]
    kernel = 1 / (1 + jnp.maximum(distance, 0.0) / NEAR)
    others = 1 - jnp.eye(len(states))[:, None]
    rarity = -jnp.log((kernel * others).mean(-1) + 1e-6)
    return (rarity - rarity.mean()) / (rarity.std() + 1e-3)


def costs_of(episodes: Sequence[Episode]) -> np.ndarray:
    """Every cost paid in `episodes`."""
    return np.concatenate([episode.costs for episode in episodes if episode.costs is not None])


def curiosity(episodes: Sequence[Episode], wanted: float) -> float:
    """What novelty is worth: as much as the costs' deviation falls short of `wanted`, for nothing else tells decisions apart then.

    Nothing where episodes end by themselves: when they do tells them apart too.
    """
    ended = any(episode.terminated for episode in episodes)
    return 0.0 if ended else max(0.0, wanted - float(costs_of(episodes).std()))
