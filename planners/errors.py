"""What planners raise, always before any computation starts."""

from math import isfinite
from numbers import Integral, Real
from typing import Any


class PlannerError(ValueError):
    """A problem or a planner that cannot be used as given: what was given, what was expected, what to do."""


class SettingError(PlannerError):
    """A planner's setting is out of range."""


class ActionSpaceError(PlannerError):
    """The action box is inverted, unbounded or of the wrong kind for this planner."""


class ProblemShapeError(PlannerError):
    """Dynamics, cost, constraint or noise does not have the shape its contract states."""


def require_positive(**settings: float) -> None:
    """Raise `SettingError` for the first setting that is no number of at least 1."""
    for name, value in settings.items():
        if not isinstance(value, Real) or not value >= 1:
            raise SettingError(f"{name}={value!r}: expected at least 1.")


def is_whole(value: Any) -> bool:
    """Whether `value` counts something: an integer, and neither True nor False."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def require_counts(**settings: int) -> None:
    """Raise `SettingError` for the first setting that is no integer of at least 1."""
    for name, value in settings.items():
        if not is_whole(value) or value < 1:
            raise SettingError(f"{name}={value!r}: expected an integer, at least 1.")


def require_finite(**settings: float) -> None:
    """Raise `SettingError` for the first setting that is no finite number."""
    for name, value in settings.items():
        if not isinstance(value, Real) or not isfinite(value):
            raise SettingError(f"{name}={value!r}: expected a finite number.")


def require_fraction(**settings: float) -> None:
    """Raise `SettingError` for the first setting outside [0, 1)."""
    for name, value in settings.items():
        if not isinstance(value, Real) or not 0 <= value < 1:
            raise SettingError(f"{name}={value!r}: expected a fraction in [0, 1).")
