"""Predicted against real trajectories: how the error of open-loop prediction grows over the horizon, in physical units."""

from dataclasses import replace
from typing import Any

import numpy as np

from worldmodels import JEPA, Episode, Episodes
from worldmodels.diagnostics import Trials, look, trials
from worldmodels.diagnostics.trials import component_names

EXAMPLES = 3


def open_loop(model: JEPA, episodes: Episodes, *, horizon: int = 40, starts: int = 200, seed: int = 0) -> dict[str, Any]:
    """Readouts predicted `horizon` steps ahead from states of recorded episodes, beside what happened, in physical units.

    Returns JSON: per observed quantity the root mean squared error at each step, of the model and of repeating the first
    observation, and a few example trajectories, from the start of their episodes.
    """
    real, predicted = trajectories(model, trials(episodes, model.spec, horizon, starts, seed=seed))
    openings = [opening(episode, horizon) for episode in episodes if len(episode) >= horizon][:EXAMPLES]
    examples = zip(*trajectories(model, trials(openings, model.spec, horizon, len(openings))), strict=True)
    error = np.sqrt(((predicted - real) ** 2).mean(0))[1:]
    copied = np.sqrt(((real[:, :1] - real) ** 2).mean(0))[1:]
    time = (np.arange(horizon + 1) * model.spec.seconds_per_step).tolist()
    names = component_names(model.spec)
    by_name = lambda values: {name: values[:, i].tolist() for i, name in enumerate(names)}  # noqa: E731
    return {
        "seconds_per_step": model.spec.seconds_per_step,
        "names": names,
        "horizon": list(range(1, horizon + 1)),
        "error": by_name(error),
        "copy_last_error": by_name(copied),
        "examples": [{"time": time, "real": by_name(one), "predicted": by_name(other)} for one, other in examples],
    }


def trajectories(model: JEPA, given: Trials) -> tuple[np.ndarray, np.ndarray]:
    """Flattened observations [N, H+1, O], and what the model reads out of the first and of what it predicts in one future."""
    seen = look(model, given, futures=1)
    return seen.real, np.concatenate([seen.readouts[:, :1], seen.predicted_readouts[:, 0]], 1)


def opening(episode: Episode, horizon: int) -> Episode:
    """The first `horizon` decisions of an episode."""
    observations = {name: seen[: horizon + 1] for name, seen in episode.observations.items()}
    return replace(episode, observations=observations, actions=episode.actions[:horizon], costs=None)
