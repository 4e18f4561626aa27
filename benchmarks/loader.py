"""`sailplan bench loader`: whether reading windows from disk slows training down, into benchmarks/results/training.jsonl."""

import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

import worldmodels
from benchmarks import results
from benchmarks.provenance import usable_cores
from worldmodels.data import Dataset, Episode, Episodes, Stream
from worldmodels.spec import ContinuousAction, Spec

RESULTS = results.RESULTS / "training.jsonl"
STATE = Spec("state-18", (("position", (9,)), ("velocity", (9,))), ContinuousAction((-1.0,) * 6, (1.0,) * 6))
PIXELS = Spec("pixels-64", (("camera", (64, 64, 3)),), ContinuousAction((-1.0,), (1.0,)))
CHUNK, LENGTH, PICTURES = 100, 500, 10_000
console = Console(markup=False)


def bench_loader(decisions: int = 500_000, updates: int = 1_000) -> list[dict[str, Any]]:
    """Updates a second from a stream beside those from a buffer on the device, and the windows a second the loader alone makes.

    Of states, `decisions` of them, and of pictures. What was just written is in the page cache.
    """
    if updates < 2 * CHUNK:
        raise results.ResultError(f"updates={updates}: expected at least {2 * CHUNK}, since the first {CHUNK} compile.")
    lines = []
    for spec, count, batch in ((STATE, decisions, 256), (PIXELS, PICTURES, 64)):
        settings = worldmodels.TrainingSettings(batch=batch)
        with tempfile.TemporaryDirectory() as root:
            episodes = random_episodes(spec, max(1, count // LENGTH), LENGTH)
            stream = _streamed(Path(root) / "data", episodes)
            for method, source in (("device", episodes), ("loader", stream)):
                rate, minutes = _updates_per_second(worldmodels.JEPA(spec), source, settings, updates)
                extra = {"loader_windows_per_second": _windows_per_second(stream, settings)} if source is stream else {}
                lines.append(_line(spec, method, count, batch, minutes, updates_per_second=rate, **extra))
    return [results.write_line(RESULTS, line) for line in lines]


def _line(spec: Spec, method: str, decisions: int, batch: int, minutes: float, **figures: float) -> dict[str, Any]:
    task = spec.environment
    console.print(f"{task}, {method}: {', '.join(f'{name} {value:.0f}' for name, value in figures.items())}", highlight=False)
    settings = {"model": "jepa, default", "decisions": decisions, "batch": batch, "length": 5, "cores": usable_cores()}
    cell = {"benchmark": "training", "task": task, "method": method, "settings": settings, "seed": 0, "frames": decisions}
    return cell | {name: round(value, 1) for name, value in figures.items()} | {"minutes": round(minutes, 3)}


def random_episodes(spec: Spec, count: int, length: int) -> Episodes:
    """Episodes of noise; frames that change in an eighth of their pixels a step."""
    random = np.random.default_rng(0)

    def observed(shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) < 3:
            return random.normal(size=(length + 1, *shape)).astype(np.float32)
        frames = np.broadcast_to(random.integers(0, 256, shape, np.uint8), (length + 1, *shape)).copy()
        frames[:, :8] = random.integers(0, 256, (length + 1, 8, *shape[1:]), np.uint8)
        return frames

    def episode(seed: int) -> Episode:
        actions = random.uniform(-1, 1, (length, *spec.action.shape)).astype(np.float32)
        return Episode(
            {name: observed(shape) for name, shape in spec.observation},
            actions,
            np.zeros(length, np.float32),
            False,
            True,
            seed,
        )

    return Episodes(spec, tuple(episode(seed) for seed in range(count)))


def _streamed(folder: Path, episodes: Episodes) -> Stream:
    with Dataset.create(folder, episodes.spec) as dataset:
        for episode in episodes:
            dataset.append(episode)
        return Stream.open(dataset)


def _updates_per_second(model: Any, source: Any, settings: worldmodels.TrainingSettings, updates: int) -> tuple[float, float]:
    """Between the first report, when everything is compiled, and the last; and minutes in all."""
    stamps = [time.perf_counter()]
    worldmodels.train(model, source, settings, updates=updates, progress=lambda _: stamps.append(time.perf_counter()))
    return CHUNK * (len(stamps) - 2) / (stamps[-1] - stamps[1]), (stamps[-1] - stamps[0]) / 60


def _windows_per_second(stream: Stream, settings: worldmodels.TrainingSettings) -> float:
    """What the loader makes while nobody trains."""
    count, rounds = stream.bounded(settings.batch * CHUNK // 2, settings.length), 4
    buffers = stream.buffers(count, settings.length, seed=1)
    jax.block_until_ready(next(buffers))
    began = time.perf_counter()
    for buffer in islice(buffers, 2 + rounds):  # two were ready
        jax.block_until_ready(buffer)
    rate = rounds * count / (time.perf_counter() - began)
    buffers.close()
    return rate
