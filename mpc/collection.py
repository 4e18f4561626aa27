"""Episodes of an agent in an environment, in memory or appended to a dataset that a kill cannot damage."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mpc.acting import play
from mpc.environment import Environment
from mpc.errors import CollectionError
from mpc.random_agent import RandomAgent
from planners.errors import require_counts, require_positive
from worldmodels.data.dataset import Dataset
from worldmodels.data.episode import Episode, Episodes
from worldmodels.files import MANIFEST
from worldmodels.spec import Spec

Progress = Callable[[int, int | None], None]


class _Wanted(NamedTuple):
    """How much there shall be in the end, and how it is played."""

    frames: int | None
    episodes: int | None
    agent: Any
    explore: bool
    copies: int
    longest: int | None
    progress: Progress | None


def collect(
    environment: Environment,
    *,
    frames: int | None = None,
    episodes: int | None = None,
    seed: int = 0,
    agent: Any = None,
    explore: bool = True,
    copies: int = 1,
    longest: int | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Episodes | Dataset:
    """Record episodes with seeds `seed`, `seed` + 1, … until there are `frames` or `episodes` in total.

    Args:
      frames: environment steps before action repeat; the last episode is cut at the decision that reaches them.
      episodes: whole episodes, in place of `frames`.
      agent: follows `Agent`; None acts at random.
      explore: whether the agent adds its exploration noise.
      copies: environments in lockstep, for agents that cost more to call once than to batch.
      longest: decisions after which an episode is cut, and truncated; None for the environment's own end.
      out: a dataset's folder. Each episode is appended as it ends. Where a dataset stands already, collection goes on behind its
        last seed, until it holds `frames` or `episodes` as a whole.
      progress: called after every decision with the frames done and the frames wanted (None where unknown).

    Raises:
      CollectionError: not exactly one of `frames` and `episodes`, a negative seed, or a dataset of another environment under `out`.
      DataError: a folder that holds something else, a damaged dataset, or one that someone else is writing to.
    """
    if (frames is None) == (episodes is None):
        raise CollectionError(f"frames={frames}, episodes={episodes}: expected one of the two.")
    if seed < 0:
        raise CollectionError(f"seed={seed}: expected at least 0.")
    require_positive(frames=1 if frames is None else frames)
    require_counts(episodes=1 if episodes is None else episodes, copies=copies)
    agent = RandomAgent(environment.spec) if agent is None else agent
    wanted = _Wanted(frames, episodes, agent, explore, copies, longest, progress)
    if out is None:
        return Episodes(environment.spec, tuple(_missing(environment, wanted, seed)))
    settings = {"agent": type(agent).__name__, "explore": explore, "seed": seed}
    with _open_or_create(Path(out), environment.spec, settings) as dataset:
        first = max([seed, *(known + 1 for known in dataset.seeds)])
        for episode in _missing(environment, wanted, first, frames=dataset.frames, episodes=len(dataset)):
            dataset.append(episode)
    return Dataset.open(out)


def _missing(environment: Environment, wanted: _Wanted, seed: int, *, frames: int = 0, episodes: int = 0) -> Iterator[Episode]:
    """Play what is wanted beyond the `frames` and `episodes` there are, from `seed` on."""
    repeat, progress = environment.spec.action_repeat, wanted.progress
    if wanted.frames is not None:
        budget, seeds, total = -(-(wanted.frames - frames) // repeat), itertools.count(seed), wanted.frames
    else:
        missing = max(0, (wanted.episodes or 0) - episodes)
        budget, seeds = None, range(seed, seed + missing)
        known = [length for length in (environment.decisions_per_episode, wanted.longest) if length is not None]
        total = frames + missing * min(known) * repeat if known else None
    report = None if progress is None else lambda decisions: progress(frames + decisions * repeat, total)
    return play(
        environment,
        wanted.agent,
        seeds,
        budget=budget,
        longest=wanted.longest,
        explore=wanted.explore,
        copies=wanted.copies,
        on_step=report,
    )


def _open_or_create(folder: Path, spec: Spec, settings: dict[str, Any]) -> Dataset:
    if not (folder / MANIFEST).exists():
        return Dataset.create(folder, spec, settings)
    dataset = Dataset.open(folder, append=True)
    if dataset.spec != spec:
        dataset.close()
        raise CollectionError(
            f"{folder} holds episodes of {dataset.spec}: expected {spec}. Choose another folder, or the same settings."
        )
    return dataset
