"""The compiled parts of a controller's decision. Agents come flat (`mpc.packing`), so that new weights and goals compile nothing."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from mpc.packing import Structure, unpack


class Percept(NamedTuple):
    """Where the world is, as observed and as predicted, and how far the two are apart."""

    observed: PyTree
    predicted: PyTree
    error: Float[Array, ""]
    change: Float[Array, ""]


@partial(jax.jit, static_argnums=1)
def fresh(leaves: list[Array], structure: Structure, observation: dict[str, Array]) -> PyTree:
    """The latent of a first observation."""
    return unpack(leaves, structure).model.start(observation)


@partial(jax.jit, static_argnums=1)
def perceive(leaves, structure: Structure, latent: PyTree, sent: Array, observation: dict[str, Array]) -> Percept:
    """One model step after `latent`, in which the action `sent` (environment units) was held."""
    model = unpack(leaves, structure).model
    action = model.spec.action.normalise(sent)
    observed = model.observe(latent, action, observation)
    predicted = ahead_of(model, latent, action)
    now, before, seen = (model.features(x) for x in (predicted, latent, observed))
    return Percept(observed, predicted, ((now - seen) ** 2).mean(), ((now - before) ** 2).mean())


def ahead_of(model: Any, latent: PyTree, action: Array) -> PyTree:
    """One step without noise."""
    return model.predict(latent, action, jnp.zeros((0,)))


@partial(jax.jit, static_argnums=1)
def ahead(leaves, structure: Structure, latent: PyTree, sent: Float[Array, "K A"]) -> PyTree:
    """The latent when the actions already sent will have had their effect."""
    model = unpack(leaves, structure).model
    return jax.lax.fori_loop(
        0, sent.shape[0], lambda i, latent: ahead_of(model, latent, model.spec.action.normalise(sent[i])), latent
    )


def _problem(agent: Any, rate: Array | None, previous: Array) -> Any:
    if rate is None:
        return agent.problem()
    return agent.problem(rate=rate, previous=agent.model.spec.action.normalise(previous))


@partial(jax.jit, static_argnums=1)
def cold(leaves, structure: Structure, rate: Array | None, previous: Array) -> Any:
    """The planner's state before any plan."""
    agent = unpack(leaves, structure)
    return agent.planner.init(_problem(agent, rate, previous))


@partial(jax.jit, static_argnums=1)
def begin(leaves, structure: Structure, latent, state, elapsed, rate, previous, seed, decision) -> Any:
    agent = unpack(leaves, structure)
    key = jax.random.fold_in(jax.random.key(seed), decision)
    return agent.planner.begin(_problem(agent, rate, previous), latent, state, elapsed=elapsed, key=key)


@partial(jax.jit, static_argnums=1)
def improve(leaves, structure: Structure, search, rate, previous) -> Any:
    agent = unpack(leaves, structure)
    return agent.planner.improve(_problem(agent, rate, previous), search)


@partial(jax.jit, static_argnums=1)
def finish(leaves, structure: Structure, search, rate, previous) -> Any:
    """The plan, its actions [H, A] in environment units, the planner's next state, and whether all of it is finite."""
    agent = unpack(leaves, structure)
    plan, state = agent.planner.finish(_problem(agent, rate, previous), search)
    inexact = [x for x in jax.tree.leaves((plan.cost, plan.actions, state)) if jnp.issubdtype(x.dtype, jnp.inexact)]
    sound = jnp.stack([jnp.isfinite(x).all() for x in inexact]).all()
    return plan, agent.model.spec.action.denormalise(plan.actions), state, sound


@partial(jax.jit, static_argnums=1)
def react(leaves, structure: Structure, latent: PyTree) -> Array:
    """The policy's action, in environment units."""
    agent = unpack(leaves, structure)
    return agent.model.spec.action.denormalise(agent.policy(agent.model.features(latent)).mean)
