"""The agent that learns: act, remember, learn, plan better, until the frames are spent; stopped anywhere, it goes on bit for bit.

Everything random follows from the seed and the number of the episode, and learning sees only what is on disk. A run that
was killed therefore repeats at most the updates of one round, and ends with the same weights as one that was not.
"""

import itertools
import json
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import planners
from mpc.agent import PlanningAgent
from mpc.collection import collect
from mpc.distillation import compiled
from mpc.environment import Environment
from mpc.errors import EnvironmentFaultError, LearningError
from mpc.learning.learner import improve, new_learner, surprise
from mpc.learning.novelty import costs_of, curiosity
from mpc.learning.settings import LearnerSettings
from mpc.learning.storage import load_learned, planning_agent, save_learned
from mpc.policy import PolicyAgent
from mpc.random_agent import PinkAgent, RandomAgent
from planners.errors import require_positive
from worldmodels import manifest
from worldmodels.data.dataset import Dataset
from worldmodels.data.episode import Episode, Episodes
from worldmodels.data.windows import Buffer
from worldmodels.files import MANIFEST
from worldmodels.spec import DiscreteAction, Spec

FAULTS = 3  # episodes in a row in which the environment may fail
ROUND = 200  # decisions acted between two rounds of learning, at least
CHUNK = 50  # updates in one compiled call
COST_SHARE = 0.1  # of the largest cost seen: the least scale of the cost head, so that a rare reward does not explode


@dataclass(frozen=True)
class RunSettings:
    """The loop around the learner; one set for every task.

    Attributes:
      seed_frames: acted at random before the first update, half of it uniform, half pink noise; at least two episodes.
      episode_frames: after which an episode is cut while learning, so that the data show many starts, and goals where they are
        drawn. As many frames as in those are acted in whole episodes, which show what comes later.
      updates: per decision.
      horizon, samples, iterations, proposals: of the planner that acts.
      spread: of its first samples, in halves of the actions' range; a wide search finds what the critic does not know.
      unsurprised: share of the updates made after a round that was predicted as well as all that is remembered; all of them are made
        from twice that error on. 1 learns always.
      curiosity: deviation of the costs, of which novelty makes up what is lacking; 0 does without.
    """

    seed_frames: int = 4_000
    episode_frames: int = 250
    updates: float = 1.0
    horizon: int = 3
    samples: int = 128
    iterations: int = 4
    proposals: int = 16
    spread: float = 0.2
    unsurprised: float = 1.0
    curiosity: float = 0.1
    learner: LearnerSettings = LearnerSettings()

    def __post_init__(self):
        if not 0 <= self.unsurprised <= 1:
            raise LearningError(f"unsurprised={self.unsurprised}: expected a share of the updates, between 0 and 1.")
        require_positive(episode_frames=self.episode_frames)

    def planner(self, spec: Spec) -> planners.Planner:
        """The planner that fits the task's actions."""
        size: dict[str, Any] = {"horizon": self.horizon, "samples": self.samples, "iterations": self.iterations}
        elites = max(2, self.samples // 8)
        if isinstance(spec.action, DiscreteAction):
            return planners.CategoricalCEM(**size, elites=elites, proposals=self.proposals)
        return planners.CEM(**size, elites=elites, spread=self.spread, proposals=self.proposals)


class LearningProgress(NamedTuple):
    """One report, after each round of learning."""

    frames: int
    total: int
    episode: int  # episodes learned from
    episode_return: float  # mean over the round
    losses: dict[str, float]
    seconds: float  # since this process began


def discount_of(decisions: int | None) -> float:
    """(T/5 − 1) / (T/5) for episodes of T decisions, between 0.95 and 0.995 (Hansen et al. 2024, appendix H)."""
    if decisions is None:
        return 0.99
    return float(np.clip((decisions / 5 - 1) / (decisions / 5), 0.95, 0.995))


class Run:
    """One agent that learns in one folder.

    FOLDER/memory    every episode, appended as it ends
    FOLDER/agent     all weights and optimisers, as of the last episode learned from
    FOLDER/progress.jsonl
    """

    def __init__(self, environment: Environment, folder: Path, settings: RunSettings, *, seed: int):
        self.environment, self.folder, self.settings, self.seed = environment, folder, settings, seed
        self.planner = settings.planner(environment.spec)
        self.discount = discount_of(environment.decisions_per_episode)
        self.learner = new_learner(environment.spec, settings.learner, seed=seed)
        self.learned = 0  # episodes learned from
        self.episodes: list[Episode] = []

    @classmethod
    def begin(cls, environment: Environment, folder: Path, settings: RunSettings, *, seed: int) -> "Run":
        """A fresh run; `LearningError` where `folder` holds one already."""
        if (folder / "memory" / MANIFEST).exists():
            raise LearningError(f"{folder} holds a run already. Go on with it by --resume, or choose another folder.")
        run = cls(environment, folder, settings, seed=seed)
        folder.mkdir(parents=True, exist_ok=True)
        return run

    @classmethod
    def resume(cls, environment: Environment, folder: Path, settings: RunSettings, *, seed: int) -> "Run":
        """The run in `folder` as of its last checkpoint; `LearningError` where seed, settings or environment are others."""
        run = cls(environment, folder, settings, seed=seed)
        if (folder / "agent").exists():
            content = manifest.read(folder / "agent", "agent")
            given = {"spec": environment.spec, "settings": settings.learner, "run": run.described()}
            run.learner, learner_settings = load_learned(folder / "agent")
            found = {"spec": content.spec, "settings": learner_settings, "run": content.extra["progress"]["run"]}
            for name in given:
                if given[name] != found[name]:
                    raise LearningError(f"{folder}: its {name} is {found[name]}, given {given[name]}. Resume with the same.")
            run.learned = content.extra["progress"]["episodes"]
        if (folder / "memory" / MANIFEST).exists():
            with Dataset.open(folder / "memory", append=True) as dataset:
                run.episodes = list(dataset)
        return run

    def described(self) -> dict[str, Any]:
        """What a resumed run must have in common with the first."""
        return {"seed": self.seed, **{k: v for k, v in vars(self.settings).items() if k != "learner"}}

    @property
    def frames(self) -> int:
        """Remembered, before action repeat."""
        return sum(map(len, self.episodes)) * self.environment.spec.action_repeat

    @property
    def frames_learned(self) -> int:
        """Of the episodes learned from."""
        return sum(map(len, self.episodes[: self.learned])) * self.environment.spec.action_repeat

    @property
    def ends(self) -> bool:
        """Whether any episode so far was ended by the environment."""
        return any(episode.terminated for episode in self.episodes)

    def planning_agent(self) -> PlanningAgent:
        return planning_agent(self.learner, self.planner, self.discount, ends=self.ends)

    def policy_agent(self) -> PolicyAgent:
        """Mode-1 as the learner has it: it proposes the plans, and imitates those made while all was still learning."""
        return PolicyAgent(self.learner.model, self.learner.policy)

    def compiled_agent(self) -> PolicyAgent:
        """Mode-1 compiled anew from what the planner as it is now would do in the states remembered; a minute of work or so."""
        known = self.episodes[: self.learned]
        return PolicyAgent(self.learner.model, compiled(self.planning_agent(), known, seed=self.seed))

    def longest(self, number: int) -> int:
        """Decisions after which an episode of this number is cut: after each whole one come as many frames in short ones."""
        short = -(-self.settings.episode_frames // self.environment.spec.action_repeat)
        whole = self.environment.decisions_per_episode
        if whole is None:
            return short
        cycle = 1 + whole // short
        return whole if number % cycle == cycle - 1 else min(short, whole)

    def act(self, frames: int) -> None:
        """Add the next episode to memory, cut after its `longest` decisions and where `frames` are reached.

        An episode in which the environment fails is left out, with a warning; `LearningError` after `FAULTS` of them in a row.
        """
        spec, number = self.environment.spec, len(self.episodes)
        if self.frames < self.settings.seed_frames or number < 2:
            agent: Any = RandomAgent(spec) if number % 2 == 0 else PinkAgent(spec)
        else:
            agent = self.planning_agent()
        first = max([self.seed * 1_000_000 % 2**31, *(episode.seed + 1 for episode in self.episodes[-1:])])
        wanted: dict[str, Any] = {"episodes": number + 1}
        longest = self.longest(number)
        if self.frames + longest * spec.action_repeat > frames:
            wanted = {"frames": frames}
        for seed in range(first, first + FAULTS):
            try:
                memory = self.folder / "memory"
                dataset = collect(self.environment, **wanted, longest=longest, seed=seed, agent=agent, out=memory)
            except EnvironmentFaultError as error:
                warnings.warn(f"the episode with seed {seed} is left out: {error}", stacklevel=2)
                fault = error
            else:
                self.episodes.extend(itertools.islice(dataset, number, None))
                return
        raise LearningError(
            f"{self.folder}: {FAULTS} episodes in a row failed, the last one: {fault} "
            "Memory and the last checkpoint are good: mend the environment, then go on with --resume."
        )

    def due(self) -> int | None:
        """How many episodes there are at the end of the next round of learning; None while too little has been acted.

        A round is at least `ROUND` decisions: one episode, or several short ones.
        """
        decisions = 0
        for number in range(self.learned, len(self.episodes)):
            decisions += len(self.episodes[number])
            if decisions >= ROUND:
                return number + 1
        return None

    def learn(self) -> dict[str, float]:
        """Update on everything remembered, as often as the newest round has decisions, or less where nothing in it surprised.

        None before the seed frames. Returns the means of the losses, and of the newest round its surprise.
        """
        repeat, before = self.environment.spec.action_repeat, self.learned
        self.learned = self.due() or len(self.episodes)
        known = self.episodes[: self.learned]
        decisions, fresh = sum(map(len, known)), sum(map(len, known[before:]))
        if decisions * repeat < self.settings.seed_frames or self.learned < 2:
            return {}
        first = int(self.learner.updates) == 0
        settings, capacity = self.settings.learner, 1 << 15
        buffer = Buffer.from_episodes(Episodes(self.environment.spec, tuple(known)), settings.length, capacity=capacity)
        key = jax.random.fold_in(jax.random.key(self.seed), self.learned)
        newest = jnp.float32(fresh / decisions)
        surprised = float(surprise(self.learner.model, buffer, newest, jax.random.fold_in(key, 1), length=settings.length))
        share = 1.0 if first else min(1.0, max(self.settings.unsurprised, surprised - 1))
        wanted = self.settings.updates * share * (decisions if first else fresh)
        learner = self.learner._replace(model=with_normalisers(self.learner.model, known, share))
        chosen: dict[str, Any] = {
            "curiosity": jnp.float32(curiosity(known, self.settings.curiosity)),
            "settings": settings,
            "count": CHUNK,
        }
        terms: dict[str, Any] = {}
        for subkey in jax.random.split(key, math.ceil(wanted / CHUNK)):
            learner, terms = improve(learner, buffer, jnp.float32(self.discount), subkey, **chosen)
        self.learner = learner
        losses = {"surprise": surprised, **{name: float(value) for name, value in terms.items()}}
        if not all(map(np.isfinite, losses.values())):
            raise LearningError(
                f"{self.folder}: the losses became {losses}. The last checkpoint is good; lower the learning rate."
            )
        return losses

    def save(self) -> None:
        """Checkpoint: memory is on disk already."""
        progress = {"episodes": self.learned, "frames": self.frames, "discount": self.discount, "ends": self.ends}
        save_learned(self.learner, self.settings.learner, self.folder / "agent", **progress, run=self.described())


def learn(
    environment: Environment,
    folder: str | Path,
    *,
    frames: int,
    seed: int = 0,
    settings: RunSettings | None = None,
    resume: bool = False,
    progress: Callable[[LearningProgress], None] | None = None,
    milestone: Callable[[Run], None] | None = None,
) -> Run:
    """Act and learn in `environment` until `frames` (before action repeat) are remembered; everything is kept in `folder`.

    Args:
      resume: go on with the run in `folder`; the same seed and settings are expected.
      progress: called after every round: an episode, or several short ones.
      milestone: called with the run after every round has been learned from; to evaluate, for instance.

    Raises `LearningError` for a folder that holds a run (or another one), where learning diverges, where the environment keeps
    failing, and where the disk is full.
    """
    settings, folder = settings or RunSettings(), Path(folder)
    if frames < 1:
        raise LearningError(f"frames={frames}: expected at least 1.")
    run = (Run.resume if resume else Run.begin)(environment, folder, settings, seed=seed)
    began = time.perf_counter()
    try:
        while run.learned < len(run.episodes) or run.frames < frames:
            while run.due() is None and run.frames < frames:
                run.act(frames)
            before, losses = run.learned, run.learn()
            run.save()
            returns = [episode.total_return for episode in run.episodes[before : run.learned]]
            seconds = time.perf_counter() - began
            report = LearningProgress(run.frames_learned, frames, run.learned, float(np.mean(returns)), losses, seconds)
            with (folder / "progress.jsonl").open("a") as file:
                file.write(json.dumps(report._asdict()) + "\n")
            if progress is not None:
                progress(report)
            if milestone is not None:
                milestone(run)
    except OSError as error:
        raise LearningError(
            f"{folder}: {error}. What was remembered and the last checkpoint are good: make room, then go on with --resume."
        ) from error
    return run


def with_normalisers(model: Any, episodes: list[Episode], share: float = 1.0) -> Any:
    """`model` with observations and costs scaled by their spread, costs never by much less than by their largest.

    Where little is learned, the networks could not follow: the scales go a `share` of the way to there.
    """
    before, model = model, jax.tree.map(lambda leaf: leaf, model)
    model.normaliser.fit(np.concatenate([np.asarray(model.spec.flatten(episode.observations)) for episode in episodes]))
    costs = costs_of(episodes)
    scale = max(float(costs.std()), COST_SHARE * float(np.abs(costs).max()))
    model.cost_normaliser.mean[...] = jnp.full((1,), float(costs.mean()), jnp.float32)
    model.cost_normaliser.scale[...] = jnp.full((1,), scale if scale > 0 else 1.0, jnp.float32)
    if share < 1:
        for name in ("normaliser", "cost_normaliser"):
            part = jax.tree.map(lambda old, new: old + share * (new - old), getattr(before, name), getattr(model, name))
            setattr(model, name, part)
    return model
