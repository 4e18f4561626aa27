"""Angles that are observed as cosine and sine: a predictor foresees each by itself, and what is imagined leaves the circle step by step."""

from collections.abc import Iterable

import numpy as np

from worldmodels.data.episode import Episode
from worldmodels.spec import Spec

NEAR = 1e-4  # to radius 1, squared
MOVES = 0.01  # deviation


def circles(episodes: Iterable[Episode], spec: Spec) -> tuple[tuple[int, int], ...]:
    """Pairs of places in the flattened observation that stand at radius 1 together in all that `episodes` show, and both move.

    For `JEPA(circles=…)`. A place is in one pair at most.
    """
    seen = [np.asarray(spec.flatten(episode.observations), np.float64) for episode in episodes if spec.size]
    if not seen:
        return ()
    values = np.concatenate(seen)
    squares, free = values**2, values.std(0) > MOVES
    found = []
    for place in range(spec.size - 1):
        if free[place]:
            away = np.abs(squares[:, place, None] + squares[:, place + 1 :] - 1).max(0)
            partners = place + 1 + np.flatnonzero((away < NEAR) & free[place + 1 :])
            if len(partners):
                found.append((place, int(partners[0])))
                free[[place, partners[0]]] = False
    return tuple(found)
