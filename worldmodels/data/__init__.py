"""Episodes in memory and on disk, windows of them on the device, and streams of windows where they do not fit."""

from worldmodels.data.dataset import Dataset
from worldmodels.data.episode import Episode, Episodes
from worldmodels.data.stream import Stream
from worldmodels.data.windows import Buffer, Window

__all__ = ["Buffer", "Dataset", "Episode", "Episodes", "Stream", "Window"]
