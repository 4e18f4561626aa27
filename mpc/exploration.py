"""Exploration without reward: plan towards what the model does not know, go there, learn, and plan again.

A model's ensemble disagrees where it has seen too little (Pathak et al. 2019; planned for in imagination by Sekar et al. 2020,
"Planning to explore via self-supervised world models"). No reward is looked at, and none is kept.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import planners
import worldmodels
from mpc.acting import attempted, play
from mpc.agent import PlanningAgent
from mpc.environment import Environment
from mpc.errors import EnvironmentFaultError, LearningError
from mpc.holding import Holding
from mpc.random_agent import PinkAgent
from planners import pytree
from planners.errors import require_positive
from worldmodels.data import Dataset, Episode, Episodes
from worldmodels.diagnostics import look, trials
from worldmodels.files import MANIFEST, located
from worldmodels.spec import DiscreteAction, Spec

CHUNK = 50  # updates in one compiled call


@pytree
class Curiosity:
    """Minus the ensemble's disagreement: the cost of going where the model knows what happens."""

    def running(self, model, latent, action, step):
        return {"known": -model.disagreement(latent, action)}

    def terminal(self, model, latent, step):
        return jnp.zeros(())


@dataclass(frozen=True)
class ExplorationSettings:
    """One set for every environment.

    Attributes:
      seed_frames: acted by pink noise before the first plan; at least one episode.
      episode_frames: after which the environment is reset, so that the data show many starts (and goals, where it draws them).
      updates: of the model per decision.
      closing: updates per decision with a falling step size, once all frames are gathered.
      members: of the ensemble.
      latent, hidden: sizes of the model: components of a latent behind the numbers that are seen, width of networks.
      horizon, samples, iterations: of the planner.
      noise: standard deviation of what is added to planned actions, normalised.
    """

    seed_frames: int = 2_000
    episode_frames: int = 250
    updates: float = 1.0
    closing: float = 0.5
    members: int = 5
    latent: int = 40
    hidden: int = 128
    horizon: int = 10
    samples: int = 96
    iterations: int = 3
    noise: float = 0.1
    training: worldmodels.TrainingSettings = worldmodels.TrainingSettings(batch=160, final_rate=1.0)

    def __post_init__(self):
        require_positive(
            horizon=self.horizon, samples=self.samples, iterations=self.iterations, episode_frames=self.episode_frames
        )
        if self.updates < 0 or self.closing < 0:
            raise LearningError(
                f"updates={self.updates}, closing={self.closing}: expected numbers of updates per decision, from 0 on."
            )
        if self.members < 2:
            raise LearningError(f"members={self.members}: one predictor does not disagree with itself. Take at least 2.")
        if self.training.batch % self.members:
            raise LearningError(f"batch={self.training.batch} for {self.members} members: expected a multiple.")

    @property
    def falling(self) -> worldmodels.TrainingSettings:
        """`training` with a step size that falls: for what closes a run."""
        return replace(self.training, final_rate=0.1)

    def planner(self, spec: Spec) -> planners.Planner:
        """The planner that fits the environment's actions."""
        size: dict[str, Any] = {"samples": self.samples, "iterations": self.iterations, "elites": max(8, self.samples // 8)}
        return (planners.CategoricalCEM if isinstance(spec.action, DiscreteAction) else planners.ICEM)(self.horizon, **size)


class ExplorationProgress(NamedTuple):
    """After each episode.

    Attributes:
      frames, total: gathered and wanted, before action repeat.
      novelty: the model's relative error one step ahead on the new episode, before it learned from it; NaN while there is none.
    """

    frames: int
    total: int
    episode: int
    novelty: float


def explore(
    environment: Environment,
    folder: str | Path,
    *,
    frames: int,
    seed: int = 0,
    settings: ExplorationSettings | None = None,
    resume: bool = False,
    progress: Callable[[ExplorationProgress], None] | None = None,
) -> Any:
    """Gather `frames` in `environment` where the model is least sure, and return the model learned from them.

    FOLDER/memory holds the episodes, without costs, each appended as it ends; FOLDER/model the model, saved as it learns;
    FOLDER/progress.jsonl the reports. `resume` goes on with the run in `folder` from these, the optimiser anew.

    An episode in which the environment fails is left out, with a warning. Raises `LearningError` where `folder` holds a run already
    (to resume: none, or one of another environment, seed or settings), and where the environment keeps failing.
    """
    settings, folder, spec = settings or ExplorationSettings(), Path(folder), environment.spec
    require_positive(frames=frames)
    if not 0 <= seed < 2**32:
        raise LearningError(f"seed={seed}: expected an integer from 0 to 2³²−1.")
    longest = -(-min(settings.episode_frames, frames) // spec.action_repeat)
    if longest < settings.training.length:
        raise LearningError(
            f"episode_frames={settings.episode_frames}, frames={frames}: episodes of {longest} decisions, and the model learns from "
            f"{settings.training.length} in a row. Take more."
        )
    due = 0.0  # updates that are owed to what was gathered

    def seen() -> Episodes:
        return Episodes(spec, tuple(known))

    with _memory(folder, spec, {"agent": "Curiosity", "seed": seed, "exploration": asdict(settings)}, resume) as memory:
        known = list(memory)  # as they are on disk
        begun = resume and located(folder / "model").exists()
        model = worldmodels.load(folder / "model") if begun else untrained(environment, settings, seed=seed)
        state = worldmodels.start(model, settings.training, seed=seed)
        while memory.frames < frames:
            number, seeding = len(memory), memory.frames < settings.seed_frames
            agent = PinkAgent(spec) if seeding else _agent(state.model, settings)
            left = min(settings.episode_frames, frames - memory.frames)
            first = max([seed * 1_000_000 % 2**31, *(episode.seed + 1 for episode in known[-1:])])
            try:
                episode = _watched(environment, agent, first, -(-left // spec.action_repeat))
            except EnvironmentFaultError as error:
                raise LearningError(f"{folder}: {error} What was gathered before is in {folder / 'memory'}.") from error
            novelty = float("nan") if seeding else relative_error(state.model, episode)
            memory.append(episode)
            known.append(memory[-1])
            due += settings.updates * len(episode)
            last = memory.frames >= frames
            updates = math.ceil(due) if seeding or last else int(due) // CHUNK * CHUNK  # the rest later
            if updates and (last or memory.frames >= settings.seed_frames):
                key = jax.random.fold_in(jax.random.key(seed), number)
                state = worldmodels.advance(state, seen(), settings.training, updates=updates, key=key, chunk=CHUNK)
                worldmodels.save(state.model, folder / "model")
                due -= updates
            report = ExplorationProgress(memory.frames, frames, number + 1, novelty)
            with (folder / "progress.jsonl").open("a") as file:
                file.write(json.dumps({**report._asdict(), "novelty": None if np.isnan(novelty) else novelty}) + "\n")
            if progress is not None:
                progress(report)
        key = jax.random.fold_in(jax.random.key(seed), len(memory))
        if updates := round(settings.closing * memory.decisions):
            state = worldmodels.advance(state, seen(), settings.falling, updates=updates, key=key, chunk=CHUNK)
        state.model.settings = replace(state.model.settings, circles=worldmodels.circles(known, spec))
        worldmodels.save(state.model, folder / "model")
    return state.model


def _memory(folder: Path, spec: Spec, said: dict[str, Any], resume: bool) -> Dataset:
    """The run's episodes, to append to: a new dataset, or that which is there, of the same spec and settings."""
    if not resume:
        if folder.exists() and any(folder.iterdir()):
            raise LearningError(f"{folder} holds something already. Choose another folder, or go on with its run by --resume.")
        return Dataset.create(folder / "memory", spec, said)
    if not (folder / "memory" / MANIFEST).exists():
        raise LearningError(f"{folder} holds no run to go on with. Leave out --resume to begin one.")
    memory = Dataset.open(folder / "memory", append=True)
    if (memory.spec, memory.settings) != (spec, json.loads(json.dumps(said))):
        memory.close()
        raise LearningError(f"{folder}: its run is of {memory.spec} and {memory.settings}; asked for {spec} and {said}.")
    return memory


def untrained(environment: Environment, settings: ExplorationSettings, *, seed: int) -> worldmodels.JEPA:
    """The ensemble that exploring begins with."""
    angles = environment.angles()
    latent = environment.spec.size + 2 * len(angles) + settings.latent
    sizes = {"latent": latent, "hidden": settings.hidden, "members": settings.members}
    return worldmodels.JEPA(environment.spec, seed=seed, periodic=angles, direct=True, **sizes)


def relative_error(model: Any, episode: Episode) -> float:
    """Of features one step ahead along an episode, over their deviation in it: how new it is to the model."""
    context = getattr(model, "context", 0)
    seen = look(model, trials([episode], model.spec, 1, 64, context=context), futures=model.settings.members)
    error = ((seen.predicted_features.mean(1) - seen.features[:, 1:]) ** 2).sum(-1).mean()
    variance = seen.features.reshape(-1, seen.features.shape[-1]).var(0).sum()
    return float(np.sqrt(error / max(float(variance), 1e-12)))


def coverage(groups: Mapping[str, Sequence[Episode]], spec: Spec, *, bins: int = 16) -> dict[str, float]:
    """Share of the state space that each group of episodes visited: of cells of a grid over each pair of observed components, averaged.

    The grid spans what all groups together observed, so the figures compare groups with each other. Images are left out.
    """
    seen = {name: np.concatenate([flat(episode, spec) for episode in episodes]) for name, episodes in groups.items()}
    together = np.concatenate(list(seen.values()))
    low, high = together.min(0), together.max(0)
    moving = np.flatnonzero(high - low > 1e-6)
    pairs = [(i, j) for place, i in enumerate(moving) for j in moving[place + 1 :]] or [(i, i) for i in moving]
    shares = {}
    for name, states in seen.items():
        cells = np.minimum((bins * (states - low) / np.maximum(high - low, 1e-12)).astype(int), bins - 1)
        shares[name] = float(np.mean([len(np.unique(cells[:, i] * bins + cells[:, j])) / bins**2 for i, j in pairs]))
    return shares


def flat(episode: Episode, spec: Spec) -> np.ndarray:
    """What was observed but for images, [T+1, D]. `LearningError` where that is nothing."""
    if not spec.vectors:
        raise LearningError(f"{spec.environment} shows pictures alone: coverage is counted on quantities beside them.")
    return np.concatenate([episode.observations[name].reshape(len(episode) + 1, -1) for name, _ in spec.vectors], 1)


def _agent(model: Any, settings: ExplorationSettings) -> Holding:
    planner = settings.planner(model.spec)
    return Holding(PlanningAgent(model, Curiosity(), planner, exploration=settings.noise, futures=1))


def _watched(environment: Environment, agent: Any, seed: int, most: int) -> Episode:
    """One episode of at most `most` decisions from `seed` on, its rewards thrown away."""
    episode = attempted(lambda seed: next(iter(play(environment, agent, [seed], budget=most, explore=True))), seed)
    return replace(episode, costs=None)
