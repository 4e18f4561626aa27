"""Whether plans that a model holds cheap are cheap in the world: the one figure that tells a model one can plan with."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import mpc
from worldmodels import Episode

CANDIDATES = 48
NOISE = 0.5  # standard deviation around what was done, in normalised actions


def plan_rank_correlation(
    model: Any, environment: mpc.Environment, episodes: Sequence[Episode], horizon: int, *, seed: int = 0
) -> float:
    """Mean Spearman correlation of predicted and true costs of the same candidate plans, one start in each episode.

    A start is a moment that the episode passed through; there half of the candidates are random, half near what was done.
    The true cost is summed in the environment, played again up to there.
    """
    random = np.random.default_rng(seed)
    predict = jax.jit(jax.vmap(predicted_cost, in_axes=(None, None, 0, None)))
    correlations = []
    for index, episode in enumerate(episodes):
        start = int(random.integers(0, min(60, len(episode) - horizon)))
        done = environment.spec.action.normalise(episode.actions[start : start + horizon])
        plans = np.concatenate(
            [
                random.uniform(-1, 1, (CANDIDATES // 2, *done.shape)),
                np.clip(done + NOISE * random.normal(size=(CANDIDATES // 2, *done.shape)), -1, 1),
            ]
        ).astype(np.float32)
        seen = {name: value[start] for name, value in episode.observations.items()}
        predicted = predict(model, seen, plans, jax.random.key(index))
        true = [true_cost(environment, episode, start, plan) for plan in plans]
        ranked: Any = stats.spearmanr(predicted, true)
        correlations.append(float(ranked.statistic))
    return float(np.mean(np.nan_to_num(correlations)))  # constant predictions rank nothing


def predicted_cost(model: Any, observation: Any, plan: jax.Array, key: jax.Array) -> jax.Array:
    """Learned cost summed along a plan [H, A] of normalised actions, from an observation taken as an episode's first."""
    noise = model.draw_noise(1, len(plan), key=key)[0]

    def step(latent, inputs):
        action, noise = inputs
        return model.predict(latent, action, noise), model.cost(latent, action)

    return jax.lax.scan(step, model.start(observation), (jnp.asarray(plan), noise))[1].sum()


def true_cost(environment: mpc.Environment, episode: Episode, start: int, plan: np.ndarray) -> float:
    """What the environment charges for a plan [H, A] after the episode's first `start` actions."""
    environment.reset(episode.seed)
    for action in episode.actions[:start]:
        environment.step(action)
    return sum(environment.step(environment.spec.action.denormalise(action)).cost for action in plan)
