"""One agent that learns in one folder: it acts into its memory and learns from that, round by round.

Everything random follows from the seed and the number of the episode, and learning sees only what is on disk. A run that
was killed therefore repeats at most the updates of one round, and ends with the same weights as one that was not.
"""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mpc.acting import attempted
from mpc.agent import PlanningAgent
from mpc.collection import collect
from mpc.distillation import compiled
from mpc.environment import Environment
from mpc.errors import EnvironmentFaultError, LearningError
from mpc.learning.learner import improve, new_learner, surprise
from mpc.learning.novelty import costs_of, curiosity
from mpc.learning.settings import RunSettings
from mpc.learning.storage import load_learned, planning_agent, save_learned
from mpc.policy import PolicyAgent
from mpc.random_agent import PinkAgent, RandomAgent
from worldmodels import manifest
from worldmodels.data.dataset import Dataset
from worldmodels.data.episode import Episode, Episodes
from worldmodels.data.windows import Buffer
from worldmodels.files import MANIFEST, located

ROUND = 200  # decisions acted between two rounds of learning, at least
CHUNK = 50  # updates in one compiled call
COST_SHARE = 0.1  # of the largest cost seen: the least scale of the cost head, so that a rare reward does not explode


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
        if not 0 <= seed < 2**32:
            raise LearningError(f"seed={seed}: expected an integer from 0 to 2³²−1.")
        if pictures := environment.spec.images:
            raise LearningError(
                f"{environment.spec.environment} shows pictures, {', '.join(pictures)}: learning while acting takes vectors. "
                "Leave them out with mpc.make(observe=…), or collect episodes and train a model on them."
            )
        self.environment, self.folder, self.settings, self.seed = environment, folder, settings, seed
        self.planner = settings.planner(environment.spec)
        self.discount = discount_of(environment.decisions_per_episode)
        self.learner = new_learner(environment.spec, settings.learner, seed=seed)
        self.learned = 0  # episodes learned from
        self.episodes: list[Episode] = []

    @classmethod
    def begin(cls, environment: Environment, folder: Path, settings: RunSettings, *, seed: int) -> "Run":
        """A fresh run; `LearningError` where `folder` holds one already."""
        if begun(folder):
            raise LearningError(f"{folder} holds a run already. Go on with it by --resume, or choose another folder.")
        run = cls(environment, folder, settings, seed=seed)
        Dataset.create(folder / "memory", environment.spec, run.described()).close()
        return run

    @classmethod
    def resume(cls, environment: Environment, folder: Path, settings: RunSettings, *, seed: int) -> "Run":
        """The run in `folder` as of its last checkpoint; `LearningError` where seed, settings or environment are others."""
        require_begun(folder)
        run = cls(environment, folder, settings, seed=seed)
        if located(folder / "agent").exists():
            content = manifest.read(folder / "agent", "agent")
            given = {"spec": environment.spec, "settings": settings.learner, "run": run.described()}
            run.learner, learner_settings = load_learned(folder / "agent")
            found = {"spec": content.spec, "settings": learner_settings, "run": content.extra["progress"]["run"]}
            for name in given:
                _check_same(folder, name, found[name], given[name])
            run.learned = content.extra["progress"]["episodes"]
        if (folder / "memory" / MANIFEST).exists():
            with Dataset.open(folder / "memory", append=True) as memory:
                _check_same(folder, "spec", memory.spec, environment.spec)
                if run.learned == 0:
                    _check_same(folder, "run", memory.settings, run.described())
                run.episodes = list(memory)
        if run.learned > len(run.episodes):
            raise LearningError(
                f"{folder}: the agent learned from {run.learned} episodes, and {folder / 'memory'} holds {len(run.episodes)}. "
                "Put the others back, or begin anew in another folder."
            )
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
        if self.frames_learned < self.settings.seed_frames or number < 2:
            agent: Any = RandomAgent(spec) if number % 2 == 0 else PinkAgent(spec)
        else:
            agent = self.planning_agent()
        first = max([self.seed * 1_000_000 % 2**31, *(episode.seed + 1 for episode in self.episodes[-1:])])
        longest = min(self.longest(number), max(1, -(-(frames - self.frames) // spec.action_repeat)))

        def acted(seed: int) -> Episode:
            return collect(self.environment, episodes=1, longest=longest, seed=seed, agent=agent)[0]

        try:
            episode = attempted(acted, first)
        except EnvironmentFaultError as error:
            raise LearningError(
                f"{self.folder}: {error} Memory and the last checkpoint are good: mend the environment, then go on with --resume."
            ) from error
        self.episodes.append(self._remember(episode))

    def _remember(self, episode: Episode) -> Episode:
        """`episode` on disk behind the others, and as a resumed run will read it. The others, checked before, are not read again."""
        with Dataset.unchecked(self.folder / "memory", append=True) as memory:
            memory.append(episode)
            return memory[-1]

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

    def round(self, frames: int) -> dict[str, float]:
        """Act until the next round is due, or `frames` are remembered, and learn from it."""
        while self.due() is None and self.frames < frames:
            self.act(frames)
        return self.learn()

    def learn(self) -> dict[str, float]:
        """Update on everything remembered, as often as the newest round has decisions, or less where nothing in it surprised.

        None before the seed frames. Returns the means of the losses over the last `CHUNK` updates, and of the newest round its surprise.
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


def begun(folder: Path) -> bool:
    """Whether `folder` holds a run."""
    return any((folder / part / MANIFEST).exists() for part in ("memory", "agent"))


def require_begun(folder: Path) -> None:
    """`LearningError` unless `folder` holds a run."""
    if not begun(folder):
        raise LearningError(f"{folder} holds no run to go on with. Leave out --resume to begin one.")


def _check_same(folder: Path, name: str, found: Any, given: Any) -> None:
    """Raise `LearningError`, naming the fields that differ, unless both are the same."""
    found, given = (value if isinstance(value, dict) else vars(value) for value in (found, given))
    differ = [field for field in {**found, **given} if found.get(field) != given.get(field)]
    if differ:
        said = ", ".join(f"{field} is {found.get(field)}, given {given.get(field)}" for field in differ)
        raise LearningError(f"{folder}: of its {name}, {said}. Resume with the same.")


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
