"""One compiled update of world model, critic and policy on windows drawn from memory; `mpc.learning.losses` says by what."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from mpc.critic import Continuation, Critic
from mpc.distillation import Labels
from mpc.learning.losses import model_losses, open_loop, policy_loss
from mpc.learning.settings import LearnerSettings
from mpc.policy import Policy
from worldmodels.data.windows import Buffer, Window
from worldmodels.jepa import JEPA
from worldmodels.networks import trained
from worldmodels.spec import Spec

SURPRISED = 1024  # windows that surprise is measured on


class Learner(NamedTuple):
    """All that learning carries on; a pytree, saved and restored bit for bit."""

    model: JEPA
    critic: Critic
    target: Critic
    continuation: Continuation
    policy: Policy
    optimizers: Any
    spread: Float[Array, ""]  # between the 5th and 95th percentile of costs to go, running
    updates: Array


def new_learner(spec: Spec, settings: LearnerSettings, *, seed: int = 0) -> Learner:
    """Untrained networks and fresh optimisers."""
    s = settings
    model = JEPA(spec, seed=seed, latent=s.latent, hidden=s.hidden, periodic=True)
    critic, target = (Critic(s.latent, spec, hidden=s.critic_hidden, seed=seed + 1) for _ in range(2))
    continuation = Continuation(s.latent, spec, seed=seed + 2)
    policy = Policy(s.latent, spec, seed=seed + 3, hidden=s.policy_hidden)
    optimizers = (_optimizer(s).init(trained((model, critic, continuation))), _optimizer(s).init(trained(policy)))
    return Learner(model, critic, target, continuation, policy, optimizers, jnp.ones(()), jnp.zeros((), jnp.int32))


def _optimizer(settings: LearnerSettings) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(20.0), optax.adam(settings.learning_rate, eps=1e-6))


@partial(jax.jit, static_argnames="length")
def surprise(model: JEPA, buffer: Buffer, newest: Float[Array, ""], key: Array, *, length: int) -> Float[Array, ""]:
    """Squared error of latents predicted over `length` decisions in the `newest` share of memory, beside that in all of it."""

    def error(key, newest):
        window = buffer.sample(SURPRISED, length, newest=newest, key=key)
        encoded = model.encode(window.observations)
        return ((open_loop(model, encoded[:, 0], window.actions) - encoded)[:, 1:] ** 2).mean()

    fresh_key, key = jax.random.split(key)
    return error(fresh_key, newest) / jnp.maximum(error(key, 1.0), 1e-12)


@partial(jax.jit, static_argnames=("settings", "count"))
def improve(
    learner: Learner,
    buffer: Buffer,
    discount: Float[Array, ""],
    key: Array,
    *,
    curiosity: float | Float[Array, ""] = 0.0,
    settings: LearnerSettings,
    count: int,
) -> tuple[Learner, dict[str, Array]]:
    """`count` updates on windows drawn from `buffer`, and the mean of every loss over them.

    Args:
      curiosity: what a deviation of novelty is worth to the critic, in units of cost.
    """
    rarity = buffer.rarity(settings.length)

    def update(learner: Learner, key: Array) -> tuple[Learner, dict[str, Array]]:
        window_key, action_key, policy_key, recent_key = jax.random.split(key, 4)
        window = buffer.sample(settings.batch, settings.length, weights=rarity, key=window_key)
        learner, terms, latents = _model_step(learner, window, discount, curiosity, settings, action_key)
        recent = buffer.sample(settings.batch, 1, newest=settings.newest, key=recent_key)
        learner, to_go = _policy_step(learner, latents, recent, discount, settings, policy_key)
        critic = optax.incremental_update(trained(learner.critic), trained(learner.target), settings.target_rate)
        learner = learner._replace(target=_with_params(learner.target, critic), updates=learner.updates + 1)
        return learner, terms | {"to_go": to_go}

    improved, terms = jax.lax.scan(update, learner, jax.random.split(key, count))
    return improved, jax.tree.map(jnp.mean, terms)


def _model_step(
    learner: Learner,
    window: Window,
    discount: Float[Array, ""],
    curiosity: float | Float[Array, ""],
    settings: LearnerSettings,
    key: Array,
) -> tuple[Learner, dict[str, Array], Float[Array, "B L+1 D"]]:
    """One step of the model, the critic and the continuation; every loss before it, and the latents predicted then."""
    modules = (learner.model, learner.critic, learner.continuation)
    graph, params, rest = nnx.split(modules, nnx.Param, ...)

    def loss(params: Any):
        modules = nnx.merge(graph, params, rest)
        terms, latents = model_losses(modules, learner.target, learner.policy, window, discount, curiosity, settings, key)
        return sum(getattr(settings, name, 1.0) * value for name, value in terms.items()), (terms, latents)

    gradients, (terms, latents) = jax.grad(loss, has_aux=True)(params)
    step, state = _optimizer(settings).update(gradients, learner.optimizers[0], params)
    model, critic, continuation = nnx.merge(graph, optax.apply_updates(params, step), rest)
    optimizers = state, learner.optimizers[1]
    return learner._replace(model=model, critic=critic, continuation=continuation, optimizers=optimizers), terms, latents


def _policy_step(
    learner: Learner,
    latents: Float[Array, "B L+1 D"],
    recent: Window,
    discount: Float[Array, ""],
    settings: LearnerSettings,
    key: Array,
) -> tuple[Learner, Float[Array, ""]]:
    """One step of the policy, from these latents and towards what was done in `recent`; the mean of its costs to go."""
    graph, params, rest = nnx.split(learner.policy, nnx.Param, ...)
    modules = (learner.model, learner.critic, learner.continuation)
    planned = Labels(learner.model.encode(recent.observations[:, 0]), recent.actions[:, 0])

    def loss(params: Any):
        policy = nnx.merge(graph, params, rest)
        return policy_loss(policy, modules, latents, planned, learner.spread, discount, settings, key)

    gradients, to_go = jax.grad(loss, has_aux=True)(params)
    step, state = _optimizer(settings).update(gradients, learner.optimizers[1], params)
    low, high = jnp.percentile(to_go, jnp.array([5.0, 95.0]))
    improved = learner._replace(
        policy=nnx.merge(graph, optax.apply_updates(params, step), rest),
        optimizers=(learner.optimizers[0], state),
        spread=jnp.maximum(0.99 * learner.spread + 0.01 * (high - low), 1.0),
    )
    return improved, to_go.mean()


def _with_params(module: Any, params: Any) -> Any:
    graph, _, rest = nnx.split(module, nnx.Param, ...)
    return nnx.merge(graph, params, rest)
