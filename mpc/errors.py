"""What acting, costs and environments raise: what was given, what was expected, what to do."""


class MPCError(ValueError):
    """Base of everything this folder raises on purpose."""


class UnknownEnvironmentError(MPCError):
    """No environment is registered under this id, or the package that brings it is missing."""


class UnsupportedEnvironmentError(MPCError):
    """An environment whose spaces, action bounds or physics do not fit what was asked of it."""


class EnvironmentFaultError(MPCError):
    """An environment that was used out of turn, or that returned a NaN or a wrong shape."""


class CollectionError(MPCError):
    """Collection or evaluation that was asked for something contradictory."""


class RenderingError(MPCError):
    """No rendering backend, or a frame with nothing on it."""


class CostError(MPCError):
    """A cost that returns a vector or a NaN, or asks for what the model cannot give."""


class LearningError(MPCError):
    """A run that cannot begin, go on or be resumed as asked."""


class ControllerError(MPCError):
    """A controller whose settings contradict each other, the model or this machine."""


class LogError(MPCError):
    """A flight recorder's log that is damaged, of another version, or does not hold what was asked for."""


class ExportError(MPCError):
    """An agent that a format cannot hold, or an export that was changed."""


class ConfigurationError(MPCError):
    """A task whose description does not fit: the field, what was expected, what to do."""


class HierarchyError(MPCError):
    """Levels, strides and horizons that do not fit each other."""


class GoalWarning(UserWarning):
    """A goal outside what the data ever reached."""
