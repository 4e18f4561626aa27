"""How the error of prediction without looking grows with the horizon, beside two baselines that need no training."""

from typing import Any

import numpy as np

from worldmodels.diagnostics.look import Look
from worldmodels.diagnostics.ridge import ridge
from worldmodels.diagnostics.trials import component_names
from worldmodels.spec import DiscreteAction, Spec


def open_loop_errors(seen: Look, spec: Spec) -> dict[str, Any]:
    """Root mean squared error at each of H steps, as a share of the quantity's own standard deviation over the windows.

    `model`: of the readouts of predicted latents, the mean over futures. `copy`: nothing changes. `linear`: ridge regression of the
    next observation on this one and the action, fitted on half of the windows and rolled out; all are measured on the other
    half. Each holds one list a quantity. `features` holds the same three for the features themselves (all components together),
    which is all there is for a model of images alone.
    """
    actions = _actions(seen, spec)
    inside = _compared(seen.features, seen.predicted_features.mean(1), actions, seen.trials.fit, pooled=True)
    names = component_names(spec)
    out: dict[str, Any] = {"names": names, "features": {method: rows[0] for method, rows in inside.items()}}
    if names:
        outside = _compared(seen.real, seen.predicted_readouts.mean(1), actions, seen.trials.fit)
        out |= {method: dict(zip(names, rows, strict=True)) for method, rows in outside.items()}
    return out


def open_loop_score(seen: Look) -> float:
    """One figure, lower is better: the relative error of readouts, averaged over quantities and steps; of features without readouts.

    Features of a model that collapsed are easy to predict; readouts are not, which is why they count where there are any.
    """
    if seen.real.shape[-1]:
        errors = _relative(seen.predicted_readouts.mean(1), seen.real)
    else:
        errors = _relative(seen.predicted_features.mean(1), seen.features, pooled=True)
    return float(np.where(np.isfinite(errors), errors, np.inf).mean())


def _compared(
    real: np.ndarray, predicted: np.ndarray, actions: np.ndarray, fit: np.ndarray, *, pooled: bool = False
) -> dict[str, list]:
    """Relative errors of the three, each one list of H a column of `real` [N, H+1, O] (one list in all where `pooled`)."""
    inputs = np.concatenate([real[fit, :-1], actions[fit]], -1)
    linear = ridge(inputs.reshape(-1, inputs.shape[-1]), real[fit, 1:].reshape(-1, real.shape[-1]))
    real, predicted, actions = real[~fit], predicted[~fit], actions[~fit]
    state, rolled = real[:, 0], []
    for step in range(actions.shape[1]):
        state = np.clip(linear(np.concatenate([state, actions[:, step]], -1)), -1e6, 1e6)
        rolled.append(state)
    copied = np.broadcast_to(real[:, :1], real[:, 1:].shape)
    made = {"model": predicted, "copy": copied, "linear": np.stack(rolled, 1)}
    return {name: _relative(values, real, pooled=pooled).T.tolist() for name, values in made.items()}


def _relative(predicted: np.ndarray, real: np.ndarray, *, pooled: bool = False) -> np.ndarray:
    """[H, O] (or [H, 1]) errors of `predicted` [N, H, O] against `real` [N, H+1, O], over the deviation of `real`.

    A quantity that does not vary is measured in its own units.
    """
    squared = ((predicted - real[:, 1:]) ** 2).mean(0)
    variance = real.reshape(-1, real.shape[-1]).var(0)
    if pooled:
        squared, variance = squared.sum(-1, keepdims=True), variance.sum(keepdims=True)
    return np.sqrt(squared / np.where(variance > 1e-12, variance, 1.0))


def _actions(seen: Look, spec: Spec) -> np.ndarray:
    """[N, H, A], discrete ones one-hot."""
    chosen = seen.trials.chosen
    return np.eye(spec.action.n)[chosen] if isinstance(spec.action, DiscreteAction) else chosen
