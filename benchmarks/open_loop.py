"""Predicted against real trajectories: how the error of open-loop prediction grows over the horizon."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from worldmodels import JEPA, Episode, Episodes

EXAMPLES = 3


def open_loop(model: JEPA, episodes: Episodes, *, horizon: int = 40, starts: int = 200, seed: int = 0) -> dict[str, Any]:
    """Readouts predicted `horizon` steps ahead from states of recorded episodes, beside what happened, in physical units.

    Returns JSON: per observed quantity the root mean squared error at each step, of the model and of repeating the first
    observation, and a few example trajectories.
    """
    real, actions = windows(model, episodes, horizon, starts, np.random.default_rng(seed))
    predicted = np.asarray(jax.jit(jax.vmap(predict, in_axes=(None, 0, 0)))(model, real[:, 0], actions))
    names = component_names(model)
    error = np.sqrt(((predicted - real) ** 2).mean(0))[1:]
    copied = np.sqrt(((real[:, :1] - real) ** 2).mean(0))[1:]
    time = (np.arange(horizon + 1) * model.spec.seconds_per_step).tolist()
    by_name = lambda values: {name: values[:, i].tolist() for i, name in enumerate(names)}  # noqa: E731
    return {
        "seconds_per_step": model.spec.seconds_per_step,
        "names": names,
        "horizon": list(range(1, horizon + 1)),
        "error": by_name(error),
        "copy_last_error": by_name(copied),
        "examples": [{"time": time, "real": by_name(real[i]), "predicted": by_name(predicted[i])} for i in range(EXAMPLES)],
    }


def predict(model: JEPA, observation: jax.Array, actions: jax.Array) -> jax.Array:
    """Flattened readouts [H+1, O] along normalised actions [H, A] from one flattened observation [O]."""

    def step(latent, inputs):
        following = model.predict(latent, *inputs)
        return following, following

    first = model.start(model.spec.unflatten(observation))
    noise = model.draw_noise(1, len(actions), key=jax.random.key(0))[0]
    following = jax.lax.scan(step, first, (actions, noise))[1]
    path = jax.tree.map(lambda one, rest: jnp.concatenate([one[None], rest]), first, following)
    return jax.vmap(lambda latent: model.spec.flatten(model.readout(latent)))(path)


def windows(
    model: JEPA, episodes: Episodes, horizon: int, count: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`count` windows, the examples at the start of their episodes, the others at random places: flattened observations [N, H+1, O] and normalised actions [N, H, A]."""
    long_enough = [episode for episode in episodes if len(episode) > horizon]

    def one(episode: Episode, start: int) -> tuple[np.ndarray, np.ndarray]:
        flat = np.asarray(model.spec.flatten({k: v[start : start + horizon + 1] for k, v in episode.observations.items()}))
        return flat, model.spec.action.normalise(episode.actions[start : start + horizon])

    chosen = [long_enough[i % len(long_enough)] for i in range(count)]
    starts = [0 if i < EXAMPLES else int(random.integers(len(episode) - horizon)) for i, episode in enumerate(chosen)]
    drawn = [one(episode, start) for episode, start in zip(chosen, starts, strict=True)]
    return np.stack([flat for flat, _ in drawn]), np.stack([actions for _, actions in drawn])


def component_names(model: JEPA) -> list[str]:
    """`position[0]`, `position[1]`, … in the order of the flattened observation."""
    return [
        name if not shape else f"{name}{list(map(int, index))}".replace(" ", "")
        for name, shape in model.spec.vectors
        for index in np.ndindex(*shape)
    ]
