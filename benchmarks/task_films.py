"""Films of one model at many tasks: `sailplan bench many-tasks --picture` and `bench switching --picture`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import mpc
from benchmarks import many_tasks, results, switching
from benchmarks.many_tasks_plot import PICTURES
from mpc.acting import play
from mpc.evaluation import HELD_OUT

SIZE = 128, 96  # of a panel, pixels
COLUMNS = 5
SECONDS, PER_SECOND = 8.0, 10


def film_tasks(bodies: Sequence[str], seed: int, frames: int, updates: int, path: Path = PICTURES / "many-tasks.gif") -> Path:
    """The planner at all tasks of `bodies` side by side, in real time; what `bench many-tasks` learned. `path` is replaced whole.

    Raises `RenderingError` before anything is learned where no backend draws.
    """
    panels, bodies = [], results.choose("body", bodies, many_tasks.BODIES)
    _require_rendering(bodies[0])
    for body in bodies:
        model, dataset = many_tasks.explored(body, seed, frames)
        for task in many_tasks.BODIES[body][1]:
            run, name = many_tasks.folder(body, seed, frames), f"{body}.{task}"
            agents, _ = many_tasks.imagined(run, model, dataset, name, updates, seed)
            environment = many_tasks.environment_of(body, task)
            panels.append(labelled(filmed(environment, agents["planner"]), name))
            environment.close()
    columns = -(-len(panels) // -(-len(panels) // COLUMNS))
    empty = [np.full_like(panels[0], 255)] * (-len(panels) % columns)
    rows = np.split(np.stack(panels + empty), range(columns, len(panels), columns))
    path.parent.mkdir(parents=True, exist_ok=True)
    mpc.write_gif(path, np.concatenate([np.concatenate(list(row), 2) for row in rows], 1), 1 / PER_SECOND)
    return path


def film_switching(seed: int, frames: int, updates: int, path: Path = PICTURES / "switching.gif") -> Path:
    """The first episode of `bench switching`, whole and in real time, each segment by its name. `path` is replaced whole.

    Raises `RenderingError` before anything is learned where no backend draws.
    """
    _require_rendering(switching.BODY)
    body, environment = (
        switching.configured(seed, frames, updates),
        many_tasks.environment_of(switching.BODY, switching.SEGMENTS[0]),
    )
    actions, _ = switching.acted(body, environment, HELD_OUT)
    taken = in_time(mpc.record(environment, actions, HELD_OUT, width=2 * SIZE[0], height=2 * SIZE[1]), environment)
    parts = np.array_split(taken, len(switching.SEGMENTS))
    shown = [labelled(part, f"{switching.BODY}.{name}") for part, name in zip(parts, switching.SEGMENTS, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    mpc.write_gif(path, np.concatenate(shown), 1 / PER_SECOND)
    return path


def filmed(environment: mpc.Environment, agent: Any) -> np.ndarray:
    """The first seconds of one episode, uint8 [T, H, W, 3], a fixed number of frames a second, the last repeated where it ended before."""
    decisions = int(np.ceil(SECONDS / environment.spec.seconds_per_step))
    (episode,) = play(environment, agent, [HELD_OUT], budget=decisions)
    taken = mpc.record(environment, episode.actions, HELD_OUT, width=SIZE[0], height=SIZE[1])
    return in_time(taken, environment, SECONDS)


def in_time(taken: np.ndarray, environment: mpc.Environment, seconds: float | None = None) -> np.ndarray:
    """A frame after each decision -> `PER_SECOND` a second, for `seconds` or as long as there are any."""
    step = environment.spec.seconds_per_step
    moments = np.arange(round((seconds or len(taken) * step) * PER_SECOND)) / PER_SECOND
    return taken[np.minimum((moments / step).astype(int), len(taken) - 1)]


def labelled(taken: np.ndarray, name: str) -> np.ndarray:
    """Frames [T, H, W, 3] with a name in the corner."""
    pictures = [Image.fromarray(frame) for frame in taken]
    for picture in pictures:
        ImageDraw.Draw(picture).text((4, 2), name, fill="white", stroke_width=1, stroke_fill="black")
    return np.stack([np.asarray(picture) for picture in pictures])


def _require_rendering(body: str) -> None:
    """`RenderingError` where no backend draws."""
    mpc.record(many_tasks.environment_of(body, many_tasks.BODIES[body][0]), [], HELD_OUT)
