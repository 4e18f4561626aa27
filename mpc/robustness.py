"""Robustness in imagination: a policy is to work for models that err as this one does, to whichever side.

A model errs where it says that a body moves which is stuck, and it does so for ever; a policy that learns in it alone counts on that.
Disagreement does not tell where members err alike. So each rollout has an error of its own, of those that the model made in the data,
added to every step (as simulators are varied from rollout to rollout by Peng et al. 2018, "Sim-to-real transfer of robotic control with
dynamics randomization"; here what varies is measured).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from mpc.rollouts import FUTURES, shared, taking_turns
from worldmodels.data.episode import Episode
from worldmodels.data.windows import normalised

ERRORS = 4_000  # moments of the data that are looked at
USUAL = 2.0  # medians


def usual_errors(model: Any, episodes: Sequence[Episode], latents: PyTree, share: float, *, key: Array) -> PyTree:
    """`share` of what the model had wrong one step ahead [N, ...] in moments drawn from `episodes`, whose latents, one after the other, are given.

    Each component is held to twice its median size: an error about a collision would throw a balanced pole.
    """
    sent = np.concatenate([normalised(episode.actions, model.spec) for episode in episodes])
    earlier = np.repeat(np.arange(len(episodes)), [len(each) for each in episodes])  # each has a latent more than decisions
    which, key = jax.random.split(key)
    decision = np.asarray(jax.random.randint(which, (ERRORS,), 0, len(sent)))
    at = decision + earlier[decision]
    before, after = (jax.tree.map(lambda x, at=at: x[at], latents) for at in (at, at + 1))
    return _errors(model, before, jnp.asarray(sent[decision]), after, share, key)


@jax.jit
def _errors(model: Any, before: PyTree, actions: Array, after: PyTree, share: float, key: Array) -> PyTree:
    noise = taking_turns(model, FUTURES, 1, key=key)[:, 0]
    before, actions = shared((before, actions), FUTURES)
    predicted = jax.vmap(jax.vmap(model.predict, (0, 0, None)))(before, actions, noise)

    def usual(seen, said):
        error = seen - said.reshape(seen.shape)
        error = jnp.where(jnp.isfinite(error), error, 0)
        size = USUAL * jnp.median(jnp.abs(error), axis=0)
        return share * jnp.clip(error, -size, size)

    return jax.tree.map(usual, after, predicted)
