"""The controller that can be left running: deadlines, limits, fallbacks, and no exception out of the loop."""

from mpc.controller.controller import ControlDecision, Controller, Timing
from mpc.controller.observations import ObservationWatch
from mpc.controller.settings import ControllerSettings, ControlStatus, Rung

__all__ = ["ControlDecision", "ControlStatus", "Controller", "ControllerSettings", "ObservationWatch", "Rung", "Timing"]
