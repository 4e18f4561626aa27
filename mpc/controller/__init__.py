"""The controller that can be left running: deadlines, limits, fallbacks, and no exception out of the loop."""

from mpc.controller.batch import BatchController
from mpc.controller.clocks import SimulatedLatency
from mpc.controller.controller import ControlDecision, Controller, Timing
from mpc.controller.recorder import FlightRecorder
from mpc.controller.replay import Log, Replay
from mpc.controller.settings import ControllerSettings, ControlStatus, Patience, Rung

__all__ = [
    "BatchController",
    "ControlDecision",
    "ControlStatus",
    "Controller",
    "ControllerSettings",
    "FlightRecorder",
    "Log",
    "Patience",
    "Replay",
    "Rung",
    "SimulatedLatency",
    "Timing",
]
