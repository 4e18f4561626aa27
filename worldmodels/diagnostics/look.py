"""What a model makes of recorded moments, and what it predicts from the first of them: all that the measures look at."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from worldmodels.diagnostics.trials import Trials


@dataclass(frozen=True)
class Look:
    """Of N windows of H steps, in M futures (1 for a model without noise).

    Attributes:
      trials: the windows.
      first: latents [N, ...] of the first moment.
      noise: [N, M, H, Z], drawn for each window anew.
      features: [N, H+1, D], as an agent would hold them that was there since the window began.
      readouts: [N, H+1, O], flattened; O is 0 for a model of images alone.
      predicted_features, predicted_readouts: [N, M, H, D] and [N, M, H, O], without looking after the first moment.
      real: [N, H+1, O], the observations, flattened.
    """

    trials: Trials
    first: PyTree
    noise: np.ndarray
    features: np.ndarray
    readouts: np.ndarray
    predicted_features: np.ndarray
    predicted_readouts: np.ndarray
    real: np.ndarray


def look(model: Any, given: Trials, *, futures: int = 32, seed: int = 0) -> Look:
    """Run `model` over the windows. A pytree as every model is, so that another one of its kind compiles nothing."""
    keys = jax.random.split(jax.random.key(seed), len(given))
    noise = jax.vmap(lambda key: model.draw_noise(futures, given.horizon, key=key))(keys)
    first, features, readouts = _believe(model, given.observations, given.actions, context=given.context)
    predicted = imagine(model, first, given.chosen, noise)
    real = np.asarray(model.spec.flatten(given.observations))[:, given.context :]
    return Look(given, first, np.asarray(noise), np.asarray(features), np.asarray(readouts), *predicted, real)


def imagine(model: Any, first: PyTree, actions: np.ndarray, noise: Any) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, M, H, D] and readouts [N, M, H, O] predicted open loop from `first` along `actions` [N, H, A] under `noise`."""
    features, readouts = _imagine(model, first, actions, noise)
    return np.asarray(features), np.asarray(readouts)


@jax.jit(static_argnames="context")
def _believe(model: Any, observations: dict[str, Array], actions: Array, *, context: int):
    def one(observations, actions):
        def step(latent, inputs):
            latent = model.observe(latent, *inputs)
            return latent, latent

        first = model.start(jax.tree.map(lambda x: x[0], observations))
        later = jax.lax.scan(step, first, (actions, jax.tree.map(lambda x: x[1:], observations)))[1]
        latents = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b])[context:], first, later)
        return jax.tree.map(lambda x: x[0], latents), *jax.vmap(lambda latent: _seen(model, latent))(latents)

    return jax.vmap(one)(observations, actions)


@jax.jit
def _imagine(model: Any, first: PyTree, actions: Array, noise: Array):
    def one(latent, actions, noise):
        def step(latent, inputs):
            latent = model.predict(latent, *inputs)
            return latent, _seen(model, latent)

        return jax.lax.scan(step, latent, (actions, noise))[1]

    return jax.vmap(jax.vmap(one, in_axes=(None, None, 0)))(first, actions, noise)


def _seen(model: Any, latent: PyTree) -> tuple[Array, Array]:
    """Features [D] and flattened readouts [O]."""
    if not model.spec.size:
        return model.features(latent), jnp.zeros(0)
    return model.features(latent), model.spec.flatten(model.readout(latent))
