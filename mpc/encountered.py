"""The latents that recorded episodes come to, as an agent that lived them would have held them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from mpc.costs import no_action
from worldmodels.data.episode import Episode
from worldmodels.data.windows import normalised

ABREAST = 32  # episodes
STRETCH = 32  # observations of each


def encountered(model: Any, episodes: Sequence[Episode]) -> PyTree:
    """The latents [N, ...] of all N observations of `episodes`, one episode after the other.

    A memory runs along each episode, so that what one observation does not show (a velocity, the action before) is known. Episodes
    go abreast and in stretches: little memory for pictures, and one compiled program.
    """
    stretch = min(STRETCH, max(len(episode) for episode in episodes) + 1)
    found: list[Any] = []
    for first in range(0, len(episodes), ABREAST):
        group = episodes[first : first + ABREAST]
        latents = _of_group(model, group, min(ABREAST, len(episodes)), stretch)
        found.append(jax.tree.map(partial(_in_a_row, lengths=[len(episode) + 1 for episode in group]), latents))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)


def _of_group(model: Any, group: Sequence[Episode], lanes: int, stretch: int) -> PyTree:
    """The latents [lanes, time, ...] of some episodes, and of what fills lanes and time up."""
    time = -(-(max(len(episode) for episode in group) + 1) // stretch) * stretch
    observed = {name: _abreast([each.observations[name] for each in group], lanes, time) for name in model.spec.names}
    middle = np.asarray(no_action(model))[None]  # before the first observation nothing was done
    sent = [np.concatenate([middle, normalised(each.actions, model.spec)]) for each in group]
    actions, latents, pieces = _abreast(sent, lanes, time), None, []
    for at in range(0, time, stretch):
        part = slice(at, at + stretch)
        seen = {name: values[:, part] for name, values in observed.items()}
        latents, piece = _lived(model, latents, actions[:, part], seen)
        pieces.append(jax.tree.map(np.asarray, piece))
    return jax.tree.map(lambda *parts: np.concatenate(parts, 1), *pieces)


def _in_a_row(values: np.ndarray, lengths: list[int]) -> np.ndarray:
    """What belongs to the episodes, one after the other."""
    return np.concatenate([values[lane, :length] for lane, length in enumerate(lengths)])


def _abreast(values: list[np.ndarray], lanes: int, time: int) -> np.ndarray:
    """[lanes, time, ...], each filled up with its last entry, the lanes with the first."""
    values = values + values[:1] * (lanes - len(values))
    return np.stack([np.concatenate([each, np.repeat(each[-1:], time - len(each), 0)]) for each in values])


@jax.jit
def _lived(model: Any, latents: Any, actions: Array, observations: dict[str, Array]) -> tuple[Any, Any]:
    """The latents [E, ...] after T more observations [E, T, ...], each after its action, and all of them; None as `latents` begins."""

    def one(latent, actions, observations):
        def step(latent, seen):
            latent = model.observe(latent, *seen)
            return latent, latent

        if latent is not None:
            return jax.lax.scan(step, latent, (actions, observations))
        begun = model.start(jax.tree.map(lambda x: x[0], observations))
        last, rest = jax.lax.scan(step, begun, jax.tree.map(lambda x: x[1:], (actions, observations)))
        return last, jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), begun, rest)

    return jax.vmap(one)(latents, actions, observations)
