"""What can be read from the features, and whether they heed actions."""

from typing import Any

import numpy as np

from worldmodels.diagnostics.look import Look, imagine
from worldmodels.diagnostics.ridge import r_squared, ridge
from worldmodels.diagnostics.trials import component_names
from worldmodels.spec import DiscreteAction, Spec


def readout_r_squared(seen: Look, spec: Spec) -> dict[str, dict[str, float | None]]:
    """R² of each observed quantity on windows the probe did not see: `linear` by ridge regression on features, `readout` by the model's own head.

    1 is all of the variance, 0 no better than the mean, below 0 worse; None for a quantity that does not vary. Images are left out.
    """
    names, fit = component_names(spec), seen.trials.fit
    if not names:
        return {}
    probe = ridge(_rows(seen.features[fit]), _rows(seen.real[fit]))
    real = _rows(seen.real[~fit])
    rows = {
        "linear": r_squared(probe(_rows(seen.features[~fit])), real),
        "readout": r_squared(_rows(seen.readouts[~fit]), real),
    }
    return {
        name: {kind: None if np.isnan(values[i]) else float(values[i]) for kind, values in rows.items()}
        for i, name in enumerate(names)
    }


def action_sensitivity(model: Any, seen: Look) -> dict[str, list[float]]:
    """Whether the model heeds actions.

    `components`: of each action, how far the features one step ahead move when it goes from one end to the other, in standard
    deviations of the features over the windows (for discrete actions: from the first choice to each other one). `shuffled`: the
    error of features at each step with another window's actions, over that with the true ones; 1 means actions do not matter.
    """
    chosen = seen.trials.chosen
    scale = np.sqrt(_rows(seen.features).var(0).sum())

    def ahead(actions: np.ndarray) -> np.ndarray:
        return imagine(model, seen.first, actions, seen.noise)[0]

    moved = []
    for low, high in _ends(chosen, model.spec):
        apart = ahead(high)[:, :, 0] - ahead(low)[:, :, 0]
        moved.append(float(np.sqrt((apart**2).sum(-1).mean()) / max(scale, 1e-12)))
    order = np.roll(np.arange(len(chosen)), max(1, len(chosen) // 2))  # windows stand in the order of their episodes
    errors = [
        np.sqrt(((predicted.mean(1) - seen.features[:, 1:]) ** 2).sum(-1).mean(0))
        for predicted in (seen.predicted_features, ahead(chosen[order]))
    ]
    return {"components": moved, "shuffled": (errors[1] / np.maximum(errors[0], 1e-12)).tolist()}


def _ends(actions: np.ndarray, spec: Spec) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of actions [N, H, A] (or [N, H]) whose first step differs in one component."""
    pairs = []
    for component in range(spec.action.n if isinstance(spec.action, DiscreteAction) else actions.shape[-1]):
        low, high = actions.copy(), actions.copy()
        if isinstance(spec.action, DiscreteAction):
            low[:, 0], high[:, 0] = 0, component
        else:
            low[:, 0, component], high[:, 0, component] = -1, 1
        pairs.append((low, high))
    return pairs[1:] if isinstance(spec.action, DiscreteAction) else pairs


def _rows(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, array.shape[-1])
