"""How an environment is shown to a model: some of its quantities hidden, its picture, or noise that says nothing beside or behind them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

import mpc
from benchmarks.planner_cells import ACTION_REPEAT, Task
from mpc.environment import PIXELS, SIZE
from worldmodels import Episode, Episodes

DISTRACTORS = "distractors"
STEADY, GUST = 0.8, 2.0  # how much of the wind is left a moment later, and pixels that a gust adds


@dataclass(frozen=True)
class View:
    """What is seen of a task's environment.

    Attributes:
      observe: its quantities by name, and "pixels" for a picture of 64 × 64; all quantities if empty.
      distractors: components of unit noise shown beside them, new at every moment.
      wind: whether leaves in the wind are seen behind the body, in the place of sky and ground.
    """

    observe: tuple[str, ...] = ()
    distractors: int = 0
    wind: bool = False

    def environment(self, task: Task) -> Any:
        """The task's environment, so seen."""
        made: Any = mpc.make(task.environment, action_repeat=ACTION_REPEAT, observe=self.observe)
        made = Windy(made) if self.wind else made
        return Distracted(made, self.distractors) if self.distractors else made

    def episodes(self, task: Task, recorded: Iterable[Episode]) -> Episodes:
        """What was recorded, so seen; episodes that lack something to show, such as pictures, are played again."""
        environment = self.environment(task)
        shown = tuple(self._seen(episode, environment) for episode in recorded)
        environment.close()
        return Episodes(environment.spec, shown)

    def _seen(self, episode: Episode, environment: Any) -> Episode:
        names = environment.spec.names
        if set(names) - {*episode.observations, DISTRACTORS}:
            return replayed(environment, episode)
        noise = noise_of(episode.seed).normal(size=(len(episode) + 1, self.distractors)).astype(np.float32)
        shown = {**episode.observations, DISTRACTORS: noise}
        return replace(episode, observations={name: shown[name] for name in names})


class Distracted:
    """An `mpc.Environment` that shows `size` components of noise too; the same ones in the same episode."""

    def __init__(self, environment: Any, size: int):
        self.environment, self.size = environment, size
        shown = (*environment.spec.observation, (DISTRACTORS, (size,)))
        self.spec = replace(environment.spec, observation=shown, units=(*environment.spec.units, (DISTRACTORS, "")))

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        self._random = noise_of(seed)
        return self._beside(self.environment.reset(seed))

    def step(self, action: Any) -> Any:
        transition = self.environment.step(action)
        return transition._replace(observation=self._beside(transition.observation))

    def copy(self) -> "Distracted":
        return Distracted(self.environment.copy(), self.size)

    def close(self) -> None:
        self.environment.close()

    def _beside(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**observation, DISTRACTORS: self._random.normal(size=self.size).astype(np.float32)}


class Windy:
    """An `mpc.Environment` whose pictures show `Leaves` behind what moves in them; the same ones in the same episode."""

    def __init__(self, environment: mpc.Environment):
        self.environment, self.spec = environment, environment.spec

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        self._leaves = Leaves(noise_of(seed))
        return self._before(self.environment.reset(seed))

    def step(self, action: Any) -> Any:
        transition = self.environment.step(action)
        return transition._replace(observation=self._before(transition.observation))

    def copy(self) -> "Windy":
        return Windy(self.environment.copy())

    def close(self) -> None:
        self.environment.close()

    def _before(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**observation, PIXELS: self.environment.render(SIZE, SIZE, self._leaves.moved())}


class Leaves:
    """Two layers of coloured spots, each blown about by a wind that turns at random."""

    def __init__(self, random: np.random.Generator):
        spots = ndimage.gaussian_filter(random.normal(size=(2, 2 * SIZE, 2 * SIZE, 3)), (0, 3, 3, 0), mode="wrap")
        self._random, self._layers = random, spots / spots.std()
        self._wind, self._place = np.zeros((2, 2)), np.zeros((2, 2))

    def moved(self) -> np.ndarray:
        """The next moment, uint8 [64, 64, 3]."""
        self._wind = STEADY * self._wind + self._random.normal(scale=GUST, size=(2, 2))
        self._place += self._wind
        shown = [
            np.roll(layer, place, (0, 1))[:SIZE, :SIZE]
            for layer, place in zip(self._layers, np.round(self._place).astype(int), strict=True)
        ]
        return np.clip(128 + 40 * np.sum(shown, 0), 0, 255).astype(np.uint8)


def replayed(environment: mpc.Environment, episode: Episode) -> Episode:
    """The same actions from the same seed, as `environment` shows them."""
    seen, costs = [environment.reset(episode.seed)], []
    for action in episode.actions:
        step = environment.step(action)
        seen.append(step.observation)
        costs.append(step.cost)
    observations = {name: np.stack([moment[name] for moment in seen]) for name in seen[0]}
    return Episode(
        observations, episode.actions, np.asarray(costs, np.float32), episode.terminated, episode.truncated, episode.seed
    )


def noise_of(seed: int) -> np.random.Generator:
    """What an episode's distractors are drawn from, moment by moment."""
    return np.random.default_rng([seed, 1])
