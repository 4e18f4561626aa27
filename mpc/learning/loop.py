"""The agent that learns: act, remember, learn, plan better, until the frames are spent; stopped anywhere, it goes on bit for bit."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mpc.environment import Environment
from mpc.errors import LearningError
from mpc.learning.run import Run, require_begun
from mpc.learning.settings import RunSettings
from worldmodels.files import keep_whole_lines, sole_writer

PROGRESS = "progress.jsonl"


class LearningProgress(NamedTuple):
    """One report, after each round of learning."""

    frames: int
    total: int
    episode: int  # episodes learned from
    episode_return: float  # mean over the round
    losses: dict[str, float]
    seconds: float  # since this process began


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

    Raises `LearningError` for a folder that holds a run (or another one, or none to resume, or one that is at work), where learning
    diverges, where the environment keeps failing, and where the disk is full.
    """
    settings, folder = settings or RunSettings(), Path(folder)
    if frames < 1:
        raise LearningError(f"frames={frames}: expected at least 1.")
    try:
        run = None if resume else Run.begin(environment, folder, settings, seed=seed)
        require_begun(folder)
        with sole_writer(folder / ".lock", LearningError):
            run = run or Run.resume(environment, folder, settings, seed=seed)
            keep_whole_lines(folder / PROGRESS)
            for report in _rounds(run, frames):
                if progress is not None:
                    progress(report)
                if milestone is not None:
                    milestone(run)
    except OSError as error:
        raise LearningError(
            f"{folder}: {error}. What was remembered and the last checkpoint are good: mend that, then go on with --resume."
        ) from error
    return run


def _rounds(run: Run, frames: int) -> Iterator[LearningProgress]:
    """Act and learn, and report each round once it is on the disk."""
    began = time.perf_counter()
    while run.learned < len(run.episodes) or run.frames < frames:
        before, losses = run.learned, run.round(frames)
        run.save()
        returns = [episode.total_return for episode in run.episodes[before : run.learned]]
        seconds = time.perf_counter() - began
        report = LearningProgress(run.frames_learned, frames, run.learned, float(np.mean(returns)), losses, seconds)
        with (run.folder / PROGRESS).open("a") as file:
            file.write(json.dumps(report._asdict()) + "\n")
        yield report
