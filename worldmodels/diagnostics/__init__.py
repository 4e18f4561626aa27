"""Figures that tell a model one can plan with from one that only has a low loss; one file a measure."""

from worldmodels.diagnostics.calibration import calibration
from worldmodels.diagnostics.diagnosis import diagnose, trials_for
from worldmodels.diagnostics.look import Look, look
from worldmodels.diagnostics.open_loop import open_loop_errors, open_loop_score
from worldmodels.diagnostics.probes import action_sensitivity, readout_r_squared
from worldmodels.diagnostics.representation import effective_rank, spread
from worldmodels.diagnostics.trials import Trials, trials

__all__ = [
    "Look",
    "Trials",
    "action_sensitivity",
    "calibration",
    "diagnose",
    "effective_rank",
    "look",
    "open_loop_errors",
    "open_loop_score",
    "readout_r_squared",
    "spread",
    "trials",
    "trials_for",
]
