"""Compilation of Mode-2 into Mode-1: a policy trained on what planning found (LeCun 2022, section 3.1.3).

Planner-labelled states, then rounds of DAgger (Ross, Gordon & Bagnell 2011): let the policy act, let the planner say
what it would have done in the states the policy met, train on everything so far.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from mpc.agent import AgentState, PlanningAgent
from mpc.collection import collect
from mpc.environment import Environment
from mpc.evaluation import longest
from mpc.policy import Categorical, Policy, PolicyAgent
from worldmodels.data.episode import Episode


@dataclass(frozen=True)
class DistillationSettings:
    """How to compile.

    Attributes:
      episodes: acted by the planner for the first round, and by the policy in each further round.
      rounds: rounds of DAgger after the first fit.
      updates: of the policy after each round.
      batch: labelled states an update.
      learning_rate: of Adam.
    """

    episodes: int = 5
    rounds: int = 3
    updates: int = 2_000
    batch: int = 256
    learning_rate: float = 1e-3
    hidden: int = 128


class Labels(NamedTuple):
    """What the planner would do: normalised actions (integers where discrete) beside the features they answer."""

    features: Float[Array, "N D"]
    actions: Array


class DistillationProgress(NamedTuple):
    """One report: after each round's fit."""

    round: int
    rounds: int
    states: int
    loss: float
    policy_return: float  # mean return of the episodes the policy acted in this round, NaN in the first


@jax.jit
def _label(agent: PlanningAgent, observations: dict[str, Array], actions: Array, key: Array) -> Labels:
    """The planner's answer at each state of E recorded episodes [E, T, ...], warm-started along each as if it had acted."""

    def episode(observations, actions, key):
        first = jax.tree.map(lambda x: x[0], observations)

        def step(state: AgentState, inputs):
            observation, action, key = inputs
            _, state = agent.act(state, observation, key=key)
            label = state.previous_action
            state = AgentState(state.latent, action, state.search, state.decisions)
            return state, (agent.model.features(state.latent), label)

        keys = jax.random.split(key, actions.shape[0])
        return jax.lax.scan(step, agent.reset(first), (observations, actions, keys))[1]

    features, labels = jax.vmap(episode)(observations, actions, jax.random.split(key, actions.shape[0]))
    flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
    return Labels(flat(features), flat(labels))


def label(agent: PlanningAgent, episodes: Sequence[Episode], *, key: Array) -> Labels:
    """Planner labels for every decision of recorded episodes.

    Episodes of about one length are labelled in one compiled call: the shorter ones stand still at their end, to the longest of
    those that have as many binary digits, and what was said there is left out.
    """
    spec = agent.model.spec
    groups: dict[int, list[Episode]] = {}
    for episode in episodes:
        groups.setdefault(len(episode).bit_length(), []).append(episode)
    parts = []
    for _, alike in sorted(groups.items()):
        lengths = np.array([len(episode) for episode in alike])
        rows = np.minimum(np.arange(lengths.max()), lengths[:, None] - 1)
        observations = {
            name: np.stack([e.observations[name][row] for e, row in zip(alike, rows, strict=True)]) for name in spec.names
        }
        actions = spec.action.normalise(np.stack([e.actions[row] for e, row in zip(alike, rows, strict=True)]))
        key, subkey = jax.random.split(key)
        real = np.flatnonzero((np.arange(lengths.max()) < lengths[:, None]).ravel())
        parts.append(jax.tree.map(lambda x, real=real: x[real], _label(agent, observations, actions, subkey)))
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)


def imitation_loss(policy: Policy, labels: Labels) -> Float[Array, ""]:
    """Squared error of the mean and, for the scale, Gaussian likelihood around it; cross-entropy where discrete."""
    said = jax.vmap(policy)(labels.features)
    if isinstance(said, Categorical):
        return -jax.vmap(lambda d, a: d.log_prob(a))(said, labels.actions).mean()
    error = (said.mean - labels.actions) ** 2
    scale_loss = jax.lax.stop_gradient(error) / (2 * said.scale**2) + jnp.log(said.scale)
    return error.mean() + 0.01 * scale_loss.mean()


@partial(jax.jit, static_argnames=("settings", "count"))
def _fit(policy: Policy, labels: Labels, used: Array, key: Array, *, settings: DistillationSettings, count: int):
    graph, params, rest = nnx.split(policy, nnx.Param, ...)
    schedule = optax.cosine_decay_schedule(settings.learning_rate, count)
    optimizer = optax.adam(schedule)

    def update(carry, key):
        params, state = carry
        chosen = jax.random.randint(key, (settings.batch,), 0, used)
        batch = jax.tree.map(lambda x: x[chosen], labels)
        loss, gradients = jax.value_and_grad(lambda p: imitation_loss(nnx.merge(graph, p, rest), batch))(params)
        step, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, step), state), loss

    (params, _), losses = jax.lax.scan(update, (params, optimizer.init(params)), jax.random.split(key, count))
    return nnx.merge(graph, params, rest), losses[-count // 10 :].mean()


def fit(policy: Policy, labels: Labels, settings: DistillationSettings, *, key: Array) -> tuple[Policy, float]:
    """The policy after `settings.updates` updates on the labels, and its last loss. Growing labels rarely compile again."""
    used = len(labels.features)
    capacity = 1 << (used - 1).bit_length()
    padded = jax.tree.map(lambda x: jnp.pad(x, [(0, capacity - used)] + [(0, 0)] * (x.ndim - 1)), labels)
    policy, loss = _fit(policy, padded, jnp.asarray(used, jnp.int32), key, settings=settings, count=settings.updates)
    return policy, float(loss)


def compiled(
    agent: PlanningAgent,
    episodes: Sequence[Episode],
    settings: DistillationSettings | None = None,
    *,
    seed: int = 0,
    states: int = 20_000,
) -> Policy:
    """`agent` as a policy, from what it would do now in the states of recorded episodes; nothing is acted.

    The newest whole episodes are labelled, as many as have up to `states` decisions, and at least one.
    """
    settings = settings or DistillationSettings()
    totals = np.cumsum([len(episode) for episode in reversed(episodes)])
    newest = max(1, int(np.searchsorted(totals, states, side="right")))
    label_key, fit_key = jax.random.split(jax.random.key(seed))
    labels = label(agent, episodes[-newest:], key=label_key)
    policy = Policy(labels.features.shape[-1], agent.model.spec, seed=seed, hidden=settings.hidden)
    return fit(policy, labels, settings, key=fit_key)[0]


def distil(
    agent: PlanningAgent,
    environment: Environment,
    settings: DistillationSettings | None = None,
    *,
    seed: int = 0,
    episodes: Sequence[Episode] = (),
    progress: Callable[[DistillationProgress], None] | None = None,
) -> Policy:
    """Compile `agent` into a policy on `environment`; `episodes` already recorded are labelled too.

    Environment seeds are seed, seed+1, …; nothing of the environment but its observations is used.
    """
    settings = settings or DistillationSettings()
    key, subkey = jax.random.split(jax.random.key(seed))
    whole: dict[str, Any] = {"episodes": settings.episodes, "copies": settings.episodes, "longest": longest(environment)}
    acted = collect(environment, seed=seed, agent=agent, **whole)
    labels = label(agent, [*episodes, *acted], key=subkey)
    policy = Policy(labels.features.shape[-1], agent.model.spec, seed=seed, hidden=settings.hidden)
    policy_return = float("nan")
    for round_ in range(settings.rounds + 1):
        key, fit_key, label_key = jax.random.split(key, 3)
        policy, loss = fit(policy, labels, settings, key=fit_key)
        if progress is not None:
            progress(DistillationProgress(round_, settings.rounds, len(labels.features), loss, policy_return))
        if round_ == settings.rounds:
            break
        seed += settings.episodes
        visited = collect(environment, seed=seed, agent=PolicyAgent(agent.model, policy), **whole)
        policy_return = float(np.mean([episode.total_return for episode in visited]))
        labels = jax.tree.map(lambda *xs: jnp.concatenate(xs), labels, label(agent, visited, key=label_key))
    return policy


__all__ = ["DistillationProgress", "DistillationSettings", "Labels", "compiled", "distil", "fit", "imitation_loss", "label"]
