"""The compiled parts of a controller's decision. Agents come flat (`mpc.packing`), so that new weights and goals compile nothing."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from mpc.mixed import judged
from mpc.packing import Structure, unpack


class Percept(NamedTuple):
    """Where the world is, as observed and as predicted; `scores` [2] is how far the two are apart, and how far it moved."""

    observed: PyTree
    predicted: PyTree
    scores: Float[Array, "2"]


class Found(NamedTuple):
    """A finished search: the plan, its actions in environment units, the planner's next state, and whether all are finite."""

    plan: Any
    actions: Float[Array, "H A"]
    state: Any
    sound: Array


@partial(jax.jit, static_argnums=1)
def fresh(leaves: list[Array], structure: Structure, observation: dict[str, Array]) -> PyTree:
    """The latent of a first observation."""
    return unpack(leaves, structure).model.start(observation)


def _perceive(model: Any, latent: PyTree, sent: Array, observation: dict[str, Array]) -> Percept:
    action = model.spec.action.normalise(sent)
    observed = model.observe(latent, action, observation)
    predicted = _ahead(model, latent, action)
    now, before, seen = (model.features(x) for x in (predicted, latent, observed))
    return Percept(observed, predicted, jnp.stack([((now - seen) ** 2).mean(), ((now - before) ** 2).mean()]))


def _ahead(model: Any, latent: PyTree, action: Array) -> PyTree:
    """One step; of a model that knows several futures, always in the same one."""
    return model.predict(latent, action, model.draw_noise(1, 1, key=jax.random.key(0))[0, 0])


def _react(agent: Any, latent: PyTree, coming: Array) -> Array:
    latent = _through(agent.model, latent, coming)
    return agent.model.spec.action.denormalise(agent.policy(agent.model.features(latent)).mean)


@partial(jax.jit, static_argnums=1)
def perceive(leaves, structure: Structure, latent: PyTree, given: Float[Array, " G"]) -> Percept:
    """One model step after `latent`; `given` is the observation, flat, and the actions on their way: one array is one transfer."""
    model = unpack(leaves, structure).model
    observation, sent = _given(model.spec, given)
    return _perceive(model, latent, sent[0], observation)


@partial(jax.jit, static_argnums=1)
def reflex(leaves, structure: Structure, latent: PyTree, given: Float[Array, " G"]) -> Percept:
    """`perceive` and `react` in one: the scores are followed by the actions if observed and if predicted, [2 + 2A]."""
    agent = unpack(leaves, structure)
    observation, sent = _given(agent.model.spec, given)
    percept = _perceive(agent.model, latent, sent[0], observation)
    both = jax.tree.map(lambda *latents: jnp.stack(latents), percept.observed, percept.predicted)
    actions = jax.vmap(partial(_react, agent), (0, None))(both, sent[1:])
    return percept._replace(scores=jnp.concatenate([percept.scores, actions.ravel()]))


def _given(spec: Any, given: Float[Array, " G"]) -> tuple[dict[str, Array], Float[Array, "K A"]]:
    """The observation, and the actions sent (environment units), oldest first: the first was held until now."""
    return spec.unflatten(given[: spec.size]), given[spec.size :].reshape(-1, *spec.action.shape)


@partial(jax.jit, static_argnums=1)
def react(leaves, structure: Structure, latent: PyTree, coming: Array) -> Array:
    """The policy's action, in environment units, for when it will have its effect."""
    return _react(unpack(leaves, structure), latent, coming)


@partial(jax.jit, static_argnums=1)
def judge(leaves, structure: Structure, latent: PyTree, coming: Array, tolerance, seed, number) -> Float[Array, " A+1"]:
    """The policy's action, in environment units, and behind it whether the critic finds nothing clearly better (`mpc.MixedAgent`)."""
    agent = unpack(leaves, structure)
    key = jax.random.fold_in(jax.random.key(seed), number)
    action, _, agreed = judged(agent, _through(agent.model, latent, coming), tolerance, key)
    return jnp.append(agent.model.spec.action.denormalise(action), agreed)


def _through(model: Any, latent: PyTree, coming: Float[Array, "K A"]) -> PyTree:
    """The latent when the actions that are on their way have had their effect."""
    step = lambda latent, action: (_ahead(model, latent, model.spec.action.normalise(action)), None)  # noqa: E731
    return jax.lax.scan(step, latent, coming)[0]


def _problem(agent: Any, rate: Array | None, previous: Array) -> Any:
    if rate is None:
        return agent.problem()
    return agent.problem(rate=rate, previous=agent.model.spec.action.normalise(previous))


def _cold(leaves, structure: Structure, rate: Array | None, previous: Array) -> Any:
    agent = unpack(leaves, structure)
    return agent.planner.init(_problem(agent, rate, previous))


def _begin(leaves, structure: Structure, latent, coming, state, elapsed, rate, previous, seed, number) -> Any:
    agent = unpack(leaves, structure)
    key = jax.random.fold_in(jax.random.key(seed), number)
    latent = _through(agent.model, latent, coming)
    return agent.planner.begin(_problem(agent, rate, previous), latent, state, elapsed=elapsed, key=key)


def _improve(leaves, structure: Structure, search, rate, previous) -> Any:
    agent = unpack(leaves, structure)
    return agent.planner.improve(_problem(agent, rate, previous), search)


def _finish(leaves, structure: Structure, search, rate, previous) -> Found:
    agent = unpack(leaves, structure)
    plan, state = agent.planner.finish(_problem(agent, rate, previous), search)
    inexact = [x for x in jax.tree.leaves((plan.cost, plan.actions, state)) if jnp.issubdtype(x.dtype, jnp.inexact)]
    sound = jnp.stack([jnp.isfinite(x).all() for x in inexact]).all()
    return Found(plan, agent.model.spec.action.denormalise(plan.actions), state, sound)


cold, begin, improve, finish = (jax.jit(function, static_argnums=1) for function in (_cold, _begin, _improve, _finish))


@jax.jit
def finite(leaves: list[Array]) -> Array:
    """Whether every parameter is."""
    return jnp.stack([jnp.isfinite(x).all() for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)]).all()


# Of N robots, one leading axis each.


@partial(jax.jit, static_argnums=1)
def begin_latents(leaves, structure: Structure, observations: dict[str, Array]) -> PyTree:
    """The latents of first observations."""
    return jax.vmap(unpack(leaves, structure).model.start)(observations)


@partial(jax.jit, static_argnums=1)
def perceive_all(leaves, structure: Structure, latents: PyTree, sent: Array, observations: dict[str, Array]):
    """The latents as if each had just begun, and the percepts, of N robots."""
    model = unpack(leaves, structure).model
    return jax.vmap(model.start)(observations), jax.vmap(partial(_perceive, model))(latents, sent, observations)


@jax.jit
def where(flags: Array, yes: PyTree, no: PyTree) -> PyTree:
    """For each robot the one or the other, by `flags` [N]."""
    return jax.tree.map(lambda a, b: jnp.where(flags.reshape(-1, *[1] * (a.ndim - 1)), a, b), yes, no)


@jax.jit
def choose(choice: Array, old: PyTree, new: PyTree, observed: PyTree, predicted: PyTree) -> PyTree:
    """For each robot the latent that `choice` [N] names: 0 old, 1 new, 2 observed, 3 predicted."""

    def pick(*options):
        options = jnp.stack(options)
        return options[choice, jnp.arange(choice.shape[0])]

    return jax.tree.map(pick, old, new, observed, predicted)


@partial(jax.jit, static_argnums=1)
def react_all(leaves, structure: Structure, latents: PyTree, coming: Float[Array, "N K A"]) -> Array:
    """The policy's actions [N, A]."""
    return jax.vmap(partial(_react, unpack(leaves, structure)))(latents, coming)


def _over_robots(function, axes):
    return jax.jit(
        lambda leaves, structure, *rest: jax.vmap(partial(function, leaves, structure), in_axes=axes)(*rest), static_argnums=1
    )


cold_all = _over_robots(_cold, (None, 0))
begin_all = _over_robots(_begin, (0, 0, 0, 0, None, 0, None, 0))
improve_all = _over_robots(_improve, (0, None, 0))
finish_all = _over_robots(_finish, (0, None, 0))
