"""World models: learned from observation, stored on disk, and the data they learn from."""

from worldmodels.abstraction import Abstraction, abstract, abstract_episodes
from worldmodels.action_free import infer_actions, learn_actions
from worldmodels.circles import circles
from worldmodels.data import Buffer, Dataset, Episode, Episodes, Stream, Window
from worldmodels.data.windows import ShortEpisodeWarning
from worldmodels.diagnostics import effective_rank
from worldmodels.errors import CheckpointError, CollapseError, DataError, SpecError, WorldModelError
from worldmodels.jepa import JEPA, JEPASettings
from worldmodels.objectives import VICReg, preset
from worldmodels.recipe import CollapseWarning, Recipe
from worldmodels.simulator import Engine, Simulator
from worldmodels.spec import ContinuousAction, DiscreteAction, Spec
from worldmodels.storage import build, describe, load, save
from worldmodels.training import Progress, SkippedUpdateWarning, TrainingSettings, TrainingState, advance, start, train
from worldmodels.world_model import WorldModel

__all__ = [
    "JEPA",
    "Abstraction",
    "Buffer",
    "CheckpointError",
    "CollapseError",
    "CollapseWarning",
    "ContinuousAction",
    "DataError",
    "Dataset",
    "DiscreteAction",
    "Engine",
    "Episode",
    "Episodes",
    "JEPASettings",
    "Progress",
    "Recipe",
    "ShortEpisodeWarning",
    "Simulator",
    "SkippedUpdateWarning",
    "Spec",
    "SpecError",
    "Stream",
    "TrainingSettings",
    "TrainingState",
    "VICReg",
    "Window",
    "WorldModel",
    "WorldModelError",
    "abstract",
    "abstract_episodes",
    "advance",
    "build",
    "circles",
    "describe",
    "effective_rank",
    "infer_actions",
    "learn_actions",
    "load",
    "preset",
    "save",
    "start",
    "train",
]
