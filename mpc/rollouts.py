"""What imagination is made of: rollouts of a policy in a model, where they begin, and what they cost from each step on."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from mpc.costs import OnModel, TaskCost, no_action
from mpc.policy import Policy
from mpc.random_agent import random_action

FUTURES = 4
"""That the rollouts of an update share, where it divides their number."""
GOES_ON = 0.75  # probability that a rollout which may go on where the last one ended does


def costs_to_go(costs: Float[Array, "B L"], beyond: Float[Array, "B L"], discount: float, trace: float) -> Float[Array, "B L"]:
    """λ-returns, in costs: what is paid from each step on, the critic believed a little at each later one (Hafner et al. 2020, equation 6).

    `beyond` is the critic's cost to go from the state that each step leads to.
    """

    def step(after, inputs):
        paid, believed = inputs
        total = paid + discount * ((1 - trace) * believed + trace * after)
        return total, total

    _, totals = jax.lax.scan(step, beyond[:, -1], (costs.T, beyond.T), reverse=True)
    return totals.T


@jax.jit
def cheapest_first(model: Any, cost: TaskCost, latents: PyTree) -> PyTree:
    """The latents [N, ...] in the order of what it costs to be there and do nothing."""
    at = OnModel(model, cost)
    paid = jax.lax.map(lambda latent: at(latent, no_action(model), jnp.zeros((), jnp.int32)), latents, batch_size=1024)
    order = jnp.argsort(paid)
    return jax.tree.map(lambda x: x[order], latents)


def drawn(count: int, among: int, *, key: Array) -> Int[Array, " count"]:
    """Places among latents in that order: every second pair anywhere, the others with probabilities of one over their ranks.

    Pairs, since `continued` and `rollouts` tell even places from odd ones: both kinds are among each of theirs. A cost that hardly any
    of the data meet is met so, and its neighbourhood learned outwards (ranks as of Schaul et al. 2016, "Prioritized experience replay",
    section 3.3; starts as of Florensa et al. 2017, "Reverse curriculum generation").
    """
    share = jax.random.uniform(key, (count,))
    anywhere, ranked = among * share, (among + 1.0) ** share - 1
    places = jnp.where(jnp.arange(count) // 2 % 2 == 0, anywhere, ranked)
    return jnp.minimum(places.astype(jnp.int32), among - 1)


def continued(ends: Any, fresh: Any, *, key: Array) -> Any:
    """Where rollouts start: those that `rollouts` begins with an action at random at a fresh latent, the others mostly where they ended.

    What the policy leads to after long, data without its reward do not show; begun anew now and then, rollouts do not drift off.
    """
    batch = jax.tree.leaves(fresh)[0].shape[0]
    goes_on = (jnp.arange(batch) % 2 == 1) & jax.random.bernoulli(key, GOES_ON, (batch,))
    for leaf in jax.tree.leaves(ends):
        goes_on &= jnp.isfinite(leaf.reshape(batch, -1)).all(1)

    def chosen(end, start):
        return jnp.where(goes_on.reshape(-1, *[1] * (start.ndim - 1)), end, start)

    return jax.tree.map(chosen, ends, fresh)


def rollouts(model: Any, cost: OnModel, policy: Policy, starts: Any, length: int, errors: Any, *, key: Array):
    """Features [B, L+1, D], normalised actions [B, L, A] and costs [B, L] of the policy's samples in the model's imagination.

    Behind them the latents [B, ...] that these came to. Each rollout has one of `errors` [M, ...] that is added to all that is predicted in it.

    Every second rollout starts with an action at random, so that the critic knows more than what the policy does anyway
    (exploring starts: Sutton & Barto 2018, section 5.3). A few share each future: drawing one for each would copy the weights of
    its member of an ensemble.
    """
    batch = jax.tree.leaves(starts)[0].shape[0]
    futures = math.gcd(batch, FUTURES)
    future_key, error_key, key = jax.random.split(key, 3)
    noise = taking_turns(model, futures, length, key=future_key)
    which = jax.random.randint(error_key, (batch,), 0, jax.tree.leaves(errors)[0].shape[0])

    def one(latent, number, error, key, future):
        first_key, key = jax.random.split(key)
        random = random_action(model.spec.action, first_key)

        def step(latent, inputs):
            t, noise, key = inputs
            features = model.features(latent)
            action = jnp.where((t == 0) & (number % 2 == 0), random, policy(features).sample(key=key))
            paid = cost(latent, action, t)
            following = jax.tree.map(erring, model.predict(latent, action, noise), error)
            return following, (features, action, paid)

        inputs = (jnp.arange(length), future, jax.random.split(key, length))
        remade = jax.checkpoint(step)  # on the way back: kept, steps take sixteen times the memory, and no less time
        last, (features, actions, costs) = jax.lax.scan(remade, latent, inputs)
        return jnp.concatenate([features, model.features(last)[None]]), actions, costs, last

    sharing = jax.vmap(one, in_axes=(0, 0, 0, 0, None))
    chosen = jax.tree.map(lambda x: x[which], errors)
    starts, numbers, chosen, keys = shared((starts, jnp.arange(batch), chosen, jax.random.split(key, batch)), futures)
    made = jax.vmap(sharing)(starts, numbers, chosen, keys, noise)
    return jax.tree.map(lambda x: x.reshape(batch, *x.shape[2:]), made)


def taking_turns(model: Any, futures: int, length: int, *, key: Array) -> Float[Array, "M L Z"]:
    """Noise in which the members of an ensemble take turns step by step, so that no rollout is led on by what one of them has wrong."""
    noise = model.draw_noise(futures * length, 1, key=key)
    noise = jnp.broadcast_to(noise, (futures * length, *noise.shape[1:]))  # a deterministic model draws one
    return noise.reshape(futures, length, *noise.shape[2:])


def shared(tree: Any, futures: int) -> Any:
    """Arrays [B, ...] as [futures, B / futures, ...]."""
    return jax.tree.map(lambda x: x.reshape(futures, -1, *x.shape[1:]), tree)


def erring(predicted: Array, error: Array) -> Array:
    """With the error added, where it is of real numbers."""
    return predicted + error if jnp.issubdtype(predicted.dtype, jnp.floating) else predicted
