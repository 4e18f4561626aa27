"""Episodes in memory and on disk, and windows of them on the device."""

from worldmodels.data.dataset import Dataset
from worldmodels.data.episode import Episode, Episodes
from worldmodels.data.windows import Buffer, Window

__all__ = ["Buffer", "Dataset", "Episode", "Episodes", "Window"]
