"""What data, models and checkpoints raise: what was given, what was expected, what to do."""


class WorldModelError(ValueError):
    """Base of everything this folder raises on purpose."""


class DataError(WorldModelError):
    """An episode or a dataset that cannot be used as it is."""


class SpecError(WorldModelError):
    """Observation, action or setting that does not fit the spec of the environment or model."""


class CheckpointError(WorldModelError):
    """A folder that is damaged, half copied, of another kind or of another version."""


class CollapseError(WorldModelError):
    """Training that was stopped because the representation says nothing about what was observed."""
