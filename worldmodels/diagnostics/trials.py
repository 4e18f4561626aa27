"""Moments of recorded episodes to measure a model at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldmodels.data.episode import Episode
from worldmodels.data.windows import normalised, warn_of_short
from worldmodels.errors import DataError
from worldmodels.spec import Spec


@dataclass(frozen=True)
class Trials:
    """N windows of H decisions, each after C decisions that a model with a memory has seen.

    Attributes:
      observations: name -> [N, C+H+1, *shape].
      actions: [N, C+H, A] normalised, or integers.
      context: C.
      episodes: [N], number of the episode each window is of.
    """

    observations: dict[str, np.ndarray]
    actions: np.ndarray
    context: int
    episodes: np.ndarray

    @property
    def horizon(self) -> int:
        return self.actions.shape[1] - self.context

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def fit(self) -> np.ndarray:
        """[N], the windows to fit a probe on; it is measured on the others, which are of other episodes where these are `apart`."""
        used, position = np.unique(self.episodes, return_inverse=True)
        if len(used) > 1:
            return position % 2 == 0
        return np.arange(len(self)) % 2 == 0

    @property
    def apart(self) -> bool:
        """Whether there are several episodes, so that no window fitted on overlaps with one measured on."""
        return len(np.unique(self.episodes)) > 1

    @property
    def chosen(self) -> np.ndarray:
        """The actions after the context, [N, H, A]."""
        return self.actions[:, self.context :]


def trials(episodes: Sequence[Episode], spec: Spec, horizon: int, count: int, *, context: int = 0, seed: int = 0) -> Trials:
    """`count` windows, every episode that is long enough in turn, at random places.

    A `ShortEpisodeWarning` names the others; `DataError` where none is long enough.
    """
    random, length = np.random.default_rng(seed), context + horizon
    lengths = [len(episode) for episode in episodes]
    possible = [index for index, decisions in enumerate(lengths) if decisions >= length]
    if not possible:
        raise DataError(
            f"the longest of {len(lengths)} episodes has {max(lengths, default=0)} decisions, this needs {length}. "
            "Give longer episodes or a shorter horizon."
        )
    warn_of_short(lengths, length)
    chosen = np.sort(np.resize(np.asarray(possible), count))
    observations: dict[str, list[np.ndarray]] = {name: [] for name in spec.names}
    actions, episode, number = [], None, None
    for index in chosen.tolist():
        if index != number:
            episode, number = episodes[index], index
            episode.check(spec, f"episode {index}")
        assert episode is not None
        first = int(random.integers(0, len(episode) - length + 1))
        for name in spec.names:
            observations[name].append(np.asarray(episode.observations[name][first : first + length + 1]))
        actions.append(normalised(episode.actions[first : first + length], spec))
    return Trials({name: np.stack(values) for name, values in observations.items()}, np.stack(actions), context, chosen)


def component_names(spec: Spec) -> list[str]:
    """`position[0]`, `position[1]`, … in the order of the flattened observation."""
    return [
        name if not shape else f"{name}{list(map(int, index))}".replace(" ", "")
        for name, shape in spec.vectors
        for index in np.ndindex(*shape)
    ]
