"""From what is seen to what is encoded: images by convolution, the past by a memory."""

from worldmodels.encoders.convolution import Convolution, Drawing
from worldmodels.encoders.memory import MEMORIES, Recurrent, Stack

__all__ = ["MEMORIES", "Convolution", "Drawing", "Recurrent", "Stack"]
