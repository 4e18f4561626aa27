"""All measures that need a model and recorded episodes, and nothing else."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from worldmodels.data.episode import Episode
from worldmodels.diagnostics.calibration import calibration
from worldmodels.diagnostics.look import look
from worldmodels.diagnostics.open_loop import open_loop_errors, open_loop_score
from worldmodels.diagnostics.probes import action_sensitivity, readout_r_squared
from worldmodels.diagnostics.representation import spread
from worldmodels.diagnostics.trials import Trials, trials
from worldmodels.errors import DataError


def diagnose(
    model: Any, episodes: Sequence[Episode], *, horizon: int = 40, windows: int = 256, futures: int = 32, seed: int = 0
) -> dict[str, Any]:
    """What `model` is worth on `episodes` it was not trained on, as JSON; each part is explained where it is made.

    Args:
      horizon: steps predicted; less where the episodes are shorter.
      windows: moments looked at, two at least.
      futures: drawn from each, two at least, for a model with noise.

    `held_out` says what probes and baselines are measured on: the half of the episodes that they were not fitted on, or, where
    one episode alone is long enough, the other half of its windows. Those overlap, so that their figures are too good.

    Raises `DataError` where the episodes are of another environment, or too short for a single step.
    """
    for name, value, least in (("horizon", horizon, 1), ("windows", windows, 2), ("futures", futures, 2), ("seed", seed, 0)):
        if value < least:
            raise DataError(f"{name}={value}: expected at least {least}.")
    given = trials_for(model, episodes, horizon, windows, seed=seed)
    seen = look(model, given, futures=futures, seed=seed)
    return {
        "seconds_per_step": model.spec.seconds_per_step,
        "horizon": given.horizon,
        "windows": len(given),
        "episodes": len(set(given.episodes.tolist())),
        "held_out": "episodes" if given.apart else "windows",
        "representation": spread(seen.features.reshape(-1, seen.features.shape[-1])),
        "readout": readout_r_squared(seen, model.spec),
        "open_loop": open_loop_errors(seen, model.spec),
        "open_loop_score": open_loop_score(seen),
        "actions": action_sensitivity(model, seen),
        "calibration": calibration(seen),
    }


def trials_for(model: Any, episodes: Sequence[Episode], horizon: int, windows: int, *, seed: int = 0) -> Trials:
    """Windows that fit the model and the episodes."""
    spec = getattr(episodes, "spec", model.spec)
    if spec != model.spec:
        raise DataError(f"the episodes are of {spec}, the model is for {model.spec}: give episodes of the same environment.")
    context = getattr(model, "context", 0)
    longest = max((len(episode) for episode in episodes), default=0)
    return trials(episodes, spec, int(np.clip(longest - context, 1, horizon)), windows, context=context, seed=seed)
