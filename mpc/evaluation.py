"""How well an agent does on unseen seeds, and how long one decision takes."""

import itertools
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from scipy.special import stdtrit

from mpc.acting import play
from mpc.environment import Environment
from mpc.mixed import MixedState
from planners.errors import require_counts
from worldmodels.data.episode import Episodes

TIMED_DECISIONS = 100
WARM_UP = 10
HELD_OUT = 500_000  # first seed of evaluation, far from those that are learned from
ENDLESS = 1_000  # decisions after which an episode is cut that no time limit ends


@dataclass(frozen=True)
class Evaluation:
    """Episodes played without exploration, and the latency of single decisions.

    Attributes:
      episodes: as they were played, in the order of their seeds.
      decision_ms: [D], milliseconds from a numpy observation to a numpy action, one environment, compiled.
      reacted_share: of all decisions in the episodes, those in which Mode-1 sufficed; None for agents that have but one mode.
    """

    episodes: Episodes
    decision_ms: np.ndarray
    reacted_share: float | None = None

    @property
    def returns(self) -> np.ndarray:
        """[N], the sum of rewards of each episode."""
        return np.array([episode.total_return for episode in self.episodes])

    @property
    def seeds(self) -> np.ndarray:
        """[N], what each episode was reset with."""
        return np.array([episode.seed for episode in self.episodes])

    @property
    def lengths(self) -> np.ndarray:
        """[N], decisions in each episode."""
        return np.array([len(episode) for episode in self.episodes])

    def summary(self) -> dict[str, float | int]:
        """The figures of a report's row, named as in `summary.json`."""
        reacted = {} if self.reacted_share is None else {"reacted_share": self.reacted_share}
        return {
            "return_mean": float(self.returns.mean()),
            "return_ci95": confidence_interval(self.returns),
            "episodes": len(self.episodes),
            "decision_ms_p50": float(np.percentile(self.decision_ms, 50)),
            "decision_ms_p99": float(np.percentile(self.decision_ms, 99)),
            **reacted,
        }


def evaluate(
    environment: Environment, agent: Any, *, episodes: int = 5, seed: int = HELD_OUT, copies: int | None = None
) -> Evaluation:
    """Play `episodes` with seeds `seed`, `seed` + 1, …, all side by side unless `copies` says otherwise, and time decisions.

    Where the environment has no time limit, episodes are cut after `ENDLESS` decisions.
    """
    require_counts(episodes=episodes)
    ends: list[Any] = []
    seeds = range(seed, seed + episodes)
    played = tuple(play(environment, agent, seeds, longest=longest(environment), copies=copies or episodes, on_end=ends.append))
    decision_ms = time_decisions(agent, played[0].observations, seed)
    return Evaluation(Episodes(environment.spec, played), decision_ms, _reacted_share(ends))


def longest(environment: Environment) -> int | None:
    """Decisions after which an episode is cut: `ENDLESS` where the environment has no limit of its own."""
    return None if environment.decisions_per_episode else ENDLESS


def _reacted_share(ends: list[Any]) -> float | None:
    """How often Mode-1 sufficed, over the states that episodes ended in."""
    if not isinstance(ends[0], MixedState):
        return None
    return sum(int(end.reacted) for end in ends) / sum(int(end.decided) for end in ends)


def time_decisions(agent: Any, observations: dict[str, np.ndarray], seed: int = 0, count: int = TIMED_DECISIONS) -> np.ndarray:
    """Milliseconds of each of `count` decisions along recorded observations [T, ...]; compilation and warm-up not counted."""
    length = len(next(iter(observations.values())))
    sequence = [{name: value[t] for name, value in observations.items()} for t in range(min(length, count))]
    state = agent.reset(sequence[0])
    milliseconds = []
    keys = jax.block_until_ready(list(jax.random.split(jax.random.key(seed), count + WARM_UP)))
    for key, observation in zip(keys, itertools.cycle(sequence), strict=False):
        start = time.perf_counter()
        decision, state = agent.act(state, observation, key=key)
        np.asarray(decision.action)
        jax.block_until_ready((decision, state))
        milliseconds.append((time.perf_counter() - start) * 1000)
    return np.array(milliseconds[WARM_UP:])


def confidence_interval(returns: np.ndarray) -> float:
    """Half the width of the 95 % interval of the mean (Student's t); infinite for a single return."""
    count = len(returns)
    if count < 2:
        return float("inf")
    return float(stdtrit(count - 1, 0.975) * np.std(returns, ddof=1) / np.sqrt(count))
