"""Learning while acting: the model, the critic and the policy, from what the agent itself remembers."""

from mpc.learning.learner import Learner, improve, new_learner
from mpc.learning.loop import LearningProgress, learn
from mpc.learning.run import Run
from mpc.learning.settings import LearnerSettings, RunSettings
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
