"""Learning while acting: the model, the critic and the policy, from what the agent itself remembers."""

from mpc.learning.learner import Learner, improve, new_learner
from mpc.learning.loop import LearningProgress, Run, RunSettings, learn
from mpc.learning.settings import LearnerSettings
from mpc.learning.storage import load_learned, save_learned

__all__ = [
    "Learner",
    "LearnerSettings",
    "LearningProgress",
    "Run",
    "RunSettings",
    "improve",
    "learn",
    "load_learned",
    "new_learner",
    "save_learned",
]
