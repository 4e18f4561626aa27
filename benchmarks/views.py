"""How an environment is shown to a model: some of its quantities hidden, its picture, or noise beside them that says nothing."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import mpc
from benchmarks.planner_cells import ACTION_REPEAT, Task
from worldmodels import Episode, Episodes

DISTRACTORS = "distractors"


@dataclass(frozen=True)
class View:
    """What is seen of a task's environment.

    Attributes:
      observe: its quantities by name, and "pixels" for a picture of 64 × 64; all quantities if empty.
      distractors: components of unit noise shown beside them, new at every moment.
    """

    observe: tuple[str, ...] = ()
    distractors: int = 0

    def environment(self, task: Task) -> Any:
        """The task's environment, so seen."""
        made = mpc.make(task.environment, action_repeat=ACTION_REPEAT, observe=self.observe)
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

    def __init__(self, environment: mpc.Environment, size: int):
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
