"""Which of the models along a training run to keep: the one that predicts best, not the one of least loss.

Losses of joint embeddings fall while models get worse to plan with; open-loop error and the ranking of plans do not lie so.
"""

import math
from collections.abc import Callable
from typing import Any

from worldmodels.errors import DataError

Score = Callable[[Any], float]  # of a model; lower is better


class Best:
    """Called with each model along the way, keeps the one of least score; a score that is not finite is worse than any other.

    Attributes:
      model, updates: the best so far, and after how many updates it was; None and 0 before the first.
      scores: (updates, score) of all that were looked at.
    """

    def __init__(self, score: Score, *, every: int):
        if every < 1:
            raise DataError(f"every={every}: expected at least one update between two looks.")
        self.model: Any = None
        self.updates = 0
        self.scores: list[tuple[int, float]] = []
        self._score, self._every = score, every

    def __call__(self, model: Any, updates: int, *, last: bool = False) -> None:
        """Look at `model` where `every` updates have gone by since the last look, or where it is the `last`."""
        seen = self.scores[-1][0] if self.scores else 0
        if updates - seen < self._every and not (last and updates > seen):
            return
        score = self._score(model)
        least = min((known for _, known in self.scores if math.isfinite(known)), default=math.inf)
        if self.model is None or (math.isfinite(score) and score < least):
            self.model, self.updates = model, updates
        self.scores.append((updates, score))
