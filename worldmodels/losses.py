"""What a model is trained by, on a batch of windows: the objective's terms, and the heads that read the latents."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from worldmodels.data.windows import Window
from worldmodels.jepa import JEPA
from worldmodels.latent_variables import information, posterior
from worldmodels.objectives.objective import Objective, Views

NO_HEADS: Mapping[str, Any] = {}
CORNER = 0.1  # of a usual change
LEAST_CHANGE = 0.01  # deviations: what usually changes by less counts as if it changed so much


class LossSettings(Protocol):
    """The part of the training settings that shapes the losses."""

    @property
    def objective(self) -> Objective: ...
    @property
    def cost_gradient(self) -> float: ...


def rollout(
    model: JEPA, first: Float[Array, "B D"], actions: Array, targets: Float[Array, "B K D"], *, key: Array
) -> tuple[Float[Array, "B K D"], Float[Array, ""]]:
    """Features predicted open loop along actions [B, K, ...], and the nats of z in a step.

    z is the one under which each prediction comes closest to its target, however unlikely the prior holds it to be: a prior that had a
    say from the start would leave one code before the others have come to mean something. In an ensemble of E each member predicts
    B / E windows.
    """
    members = model.settings.members
    if members == 1:
        return _rollout(model, first, actions, targets, None, key=key)

    def shares(x: Array) -> Array:
        return x.reshape(members, -1, *x.shape[1:])

    each = jax.vmap(partial(_rollout, model, key=key))
    predicted, nats = each(shares(first), shares(actions), shares(targets), jnp.arange(members))
    return predicted.reshape(targets.shape), nats.mean()


def _rollout(model: JEPA, first: Array, actions: Array, targets: Array, member: Any, *, key: Array):
    variable = model.latent_variable

    def step(state, inputs):
        action, target, key = inputs
        z, nats = jnp.zeros((0,)), jnp.zeros(())
        if variable is not None:
            choices = variable.choices(key=key)
            judge = None if member is None else 0  # what a code means, the first member says for all
            tried = jax.vmap(lambda z: model.foreseen(state, action, z, judge))(choices)
            energies = jax.lax.stop_gradient(((tried - target) ** 2).mean(-1))
            prior = jnp.moveaxis(model.log_prior(jax.lax.stop_gradient(state), action, len(choices)), -1, 0)
            z, nats = choices[jnp.argmin(energies, axis=0)], information(posterior(energies, prior), prior)
        foreseen = model.foreseen(state, action, z, member)
        return model.settled(foreseen), (foreseen, nats)

    keys = jax.random.split(key, targets.shape[1])
    _, (predicted, nats) = jax.lax.scan(step, first, (jnp.moveaxis(actions, 1, 0), jnp.moveaxis(targets, 1, 0), keys))
    return jnp.moveaxis(predicted, 0, 1), nats.mean()


def look(
    model: JEPA, window: Window, *, heads: Mapping[str, Any] = NO_HEADS, teacher: JEPA | None = None, key: Array | None = None
) -> Views:
    """Encode the windows [B, C+K+1, ...] and predict from the moment at which the model has its context C."""
    latents = model.perceive(window)[:, model.context :]
    slow = latents if teacher is None else teacher.perceive(window)[:, model.context :]
    window = window.after(model.context)
    key = jax.random.key(0) if key is None else key
    predicted, nats = rollout(model, latents[:, 0], window.actions, slow[:, 1:], key=jax.random.fold_in(key, 2))
    return Views(
        model=model,
        heads=heads,
        latents=latents,
        predicted=predicted,
        slow=jax.lax.stop_gradient(slow),
        observations=model.normaliser(window.observations),
        frames=window.frames or {},
        actions=window.actions,
        information_z=nats,
        key=key,
    )


def losses(
    model: JEPA,
    settings: LossSettings,
    window: Window,
    *,
    heads: Mapping[str, Any] = NO_HEADS,
    teacher: JEPA | None = None,
    key: Array | None = None,
) -> dict[str, Array]:
    """Every loss by name, unweighted, on a batch of windows [B, C+K+1, ...]; `teacher` is the slow copy that some objectives ask for."""
    views = look(model, window, heads=heads, teacher=teacher, key=key)
    return settings.objective.terms(views) | head_losses(views, window.after(model.context), settings.cost_gradient)


def head_losses(views: Views, window: Window, cost_gradient: float) -> dict[str, Array]:
    """Readout and cost, from encoded and from predicted latents; only the cost sends a gradient on, in the share `cost_gradient`.

    Of a direct model the readout is of predicted numbers, and trains what predicts them. And the nats of z, where a prior can lower them.
    """
    model, latents, predicted = views.model, views.latents, views.predicted
    if model.numbers:
        readout = change_error(predicted[..., : model.numbers], latents[..., : model.numbers])
    else:
        seen = jax.lax.stop_gradient(jnp.concatenate([latents, predicted], 1))
        truth = jnp.concatenate([views.observations, views.observations[:, 1:]], 1)
        readout = ((model.readout_head(seen) - truth) ** 2).mean() if model.spec.size else jnp.zeros(())

    before = jnp.concatenate([latents[:, :-1], latents[:, :1], predicted[:, :-1]], 1)
    before = cost_gradient * before + (1 - cost_gradient) * jax.lax.stop_gradient(before)
    cost = model.cost_head(model._with_action(before, jnp.concatenate([window.actions, window.actions], 1)))
    paid = model.cost_normaliser(jnp.concatenate([window.costs, window.costs], 1)[..., None])
    prior = {} if model.prior is None else {"prior": views.information_z}
    return {"readout": readout, "cost": ((cost - paid) ** 2).mean(), **prior}


def change_error(predicted: Float[Array, "B K N"], seen: Float[Array, "B K+1 N"]) -> Float[Array, ""]:
    """How far predicted numbers are off, each in units of its usual change from one moment to the next; quadratic below `CORNER`, linear above.

    In units of its deviation a number that moves slowly would hardly count, and what holds a body at rest would not be learned; squared,
    the jumps of contacts would drown the rest (Charbonnier et al. 1997, "Deterministic edge-preserving regularization in computed imaging").
    """
    usual = jnp.sqrt((jnp.diff(seen, axis=1) ** 2).mean((0, 1)) + LEAST_CHANGE**2)
    error = (predicted - seen[:, 1:]) / usual
    return (jnp.sqrt(error**2 + CORNER**2) - CORNER).mean()
