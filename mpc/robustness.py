"""How a policy fares in a model that errs as it erred on its data.

A policy that learned in a model has made use of what the model has wrong, and what it is expected to cost does not tell. Errors happening to
it tell more: a gait that they upset did not work outside either.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from mpc.costs import OnModel, TaskCost
from mpc.policy import Policy
from mpc.rollouts import FUTURES, erring, taking_turns
from worldmodels.data.episode import Episode
from worldmodels.data.windows import normalised

ERRORS = 4_000  # moments of the data that are looked at
SHARE = 0.5  # of an error that happens, since it happens anywhere and not where it was made
USUAL = 2.0
ROLLOUTS, STEPS = 128, 200
SETTLING = 50  # steps that do not count, since rollouts start where the data do


def model_errors(model: Any, episodes: Sequence[Episode], latents: PyTree, *, key: Array) -> PyTree:
    """What the model had wrong one step ahead [N, ...], in moments drawn from `episodes`, whose latents, one after the other, are given."""
    sent = np.concatenate([normalised(episode.actions, model.spec) for episode in episodes])
    earlier = np.repeat(
        np.arange(len(episodes)), [len(episode) for episode in episodes]
    )  # each of which has a latent more than decisions
    which, key = jax.random.split(key)
    decision = np.asarray(jax.random.randint(which, (ERRORS,), 0, len(sent)))
    at = decision + earlier[decision]
    before, after = (jax.tree.map(lambda x, at=at: jnp.asarray(x)[at], latents) for at in (at, at + 1))
    return _errors(model, before, jnp.asarray(sent[decision]), after, key)


@jax.jit
def _errors(model: Any, before: PyTree, actions: Array, after: PyTree, key: Array) -> PyTree:
    noise = taking_turns(model, FUTURES, 1, key=key)[:, 0]
    before, actions = jax.tree.map(_shared, (before, actions))
    predicted = jax.vmap(jax.vmap(model.predict, (0, 0, None)))(before, actions, noise)
    return jax.tree.map(lambda is_, said: _usual(is_ - said.reshape(is_.shape)), after, predicted)


def _usual(errors: Array) -> Array:
    """Errors [N, ...], each component held to `USUAL` times its median size: a collision's would throw a balanced pole."""
    size = USUAL * jnp.median(jnp.abs(errors), axis=0)
    return jnp.clip(errors, -size, size)


@jax.jit
def cost_despite(model: Any, cost: TaskCost, policy: Policy, starts: PyTree, errors: PyTree, *, key: Array) -> Float[Array, ""]:
    """What a step costs on average that the policy's mean takes, from `starts` [N, ...] on, while errors [M, ...] drawn anew each step happen to it."""
    pick, turn, key = jax.random.split(key, 3)
    at = OnModel(model, cost)
    chosen = jax.random.randint(pick, (ROLLOUTS,), 0, jax.tree.leaves(starts)[0].shape[0])
    latents = jax.tree.map(lambda x: _shared(x[chosen]), starts)

    def moved(latent, noise, which):
        action = policy(model.features(latent)).mean
        following = model.predict(latent, action, noise)
        return erring(following, jax.tree.map(lambda x: SHARE * x[which], errors)), at(latent, action, jnp.zeros((), jnp.int32))

    def step(latents, inputs):
        noise, key = inputs
        which = jax.random.randint(key, (FUTURES, ROLLOUTS // FUTURES), 0, ERRORS)
        return jax.vmap(jax.vmap(moved, (0, None, 0)))(latents, noise, which)

    noise = jnp.moveaxis(taking_turns(model, FUTURES, STEPS, key=turn), 1, 0)
    _, paid = jax.lax.scan(step, latents, (noise, jax.random.split(key, STEPS)))
    return paid[SETTLING:].mean()


def _shared(x: Array) -> Array:
    """[N, ...] as [futures, N / futures, ...]."""
    return x.reshape(FUTURES, -1, *x.shape[1:])
