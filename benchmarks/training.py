"""`sailplan bench training`: updates a second beside a PyTorch twin's and the machine's matmul rate, into benchmarks/results/training.jsonl."""

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache
from rich.console import Console

from benchmarks import results, roofline
from benchmarks.loader import CHUNK, RESULTS, STATE, random_episodes
from benchmarks.provenance import usable_cores
from benchmarks.timing import Stopwatch, interleaved
from worldmodels import JEPA, Episodes, TrainingSettings, training
from worldmodels.data.windows import Buffer
from worldmodels.networks import MLP

HIDDEN = (128, 512)
EPISODES, LENGTH = 20, 500  # of noise
SECONDS = 60.0  # of timing a workload
console = Console(markup=False)


def bench_training() -> list[dict[str, Any]]:
    """Lines of the default model and of a wide one; the twin's only where torch is installed."""
    with_torch = importlib.util.find_spec("torch") is not None
    if not with_torch:
        console.print("Without the PyTorch twin: torch is not installed (pip install 'sailplan[peers]').")
    episodes, settings = random_episodes(STATE, EPISODES, LENGTH), TrainingSettings()
    lines = []
    for hidden in HIDDEN:
        lines += compare(JEPA(STATE, hidden=hidden), episodes, settings, SECONDS, CHUNK, with_torch)
    return [results.write_line(RESULTS, line) for line in lines]


def compare(
    model: JEPA, episodes: Episodes, settings: TrainingSettings, seconds: float, updates: int, with_torch: bool
) -> list[dict[str, Any]]:
    """Lines of one model, ours and the twin's, `updates` of each timed in turn beside the products of matrices."""
    watch = Stopwatch()
    calls: dict[str, Callable[[], Any]] = {"sailplan": ours(model, episodes, settings, updates)}
    with compiled_anew():
        began = time.perf_counter()
        jax.block_until_ready(calls["sailplan"]())
        first = time.perf_counter() - began
    if with_torch:
        twin = importlib.import_module("benchmarks.torch_twin")  # needs torch
        trained = twin.Training(model, Buffer.from_episodes(episodes, settings.length), settings)
        calls["pytorch"] = lambda: trained(updates)
    products = roofline.products(settings.batch * settings.length, [*layers(model.encoder), *layers(model.predictor)])
    timings = interleaved({**calls, **roofline.calls(products)}, seconds=seconds, burst=1)
    peak, work = roofline.roofline(products, timings).gflops, updates * update_flops(model, settings)
    shared = {"matmul_gflops": peak, "minutes": round(watch.minutes, 3), "busy_elsewhere": watch.busy_elsewhere}
    s = model.settings
    cell = {
        "benchmark": "training",
        "task": f"jepa-latent{s.latent}-hidden{s.hidden}-{settings.batch}x{settings.length}",
        "settings": {
            "latent": s.latent,
            "hidden": s.hidden,
            "batch": settings.batch,
            "length": settings.length,
            "cores": usable_cores(),
        },
        "seed": 0,
        "frames": sum(map(len, episodes)),
    }
    lines = []
    for method in calls:
        taken = timings[method]
        figures = {"updates_per_second": 1e3 * updates / taken.p50, "roofline_fraction": work / taken.p50 / 1e6 / peak}
        if method == "sailplan":
            figures["compile_seconds"] = first - taken.p50 / 1e3
            if with_torch:
                figures["speedup_over_pytorch"] = timings["pytorch"].p50 / taken.p50
        lines.append({**cell, "method": method, **figures, "calls": taken.calls, **shared})
        said = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        console.print(f"{cell['task']}, {method}: {said}", highlight=False)
    return lines


def ours(model: JEPA, episodes: Episodes, settings: TrainingSettings, updates: int) -> Callable[[], Any]:
    """So many updates by the public call, always from the same start."""
    state, keys = training.start(model, settings), cycle([jax.random.key(number) for number in range(16)])
    return lambda: training.advance(state, episodes, settings, updates=updates, key=next(keys), chunk=updates)


@contextmanager
def compiled_anew() -> Iterator[None]:
    """Nothing is read from JAX's cache on disk."""
    before = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def layers(network: MLP) -> list[tuple[int, int]]:
    """Inputs and outputs of its matrices."""
    return [(layer.in_features, layer.out_features) for layer in (*network.layers, network.output)]


def update_flops(model: JEPA, settings: TrainingSettings) -> int:
    """Operations in the matrices of one update under VICReg, two for a multiply-add; nothing else is counted.

    Each matrix is multiplied three times: forward, for the gradient of its weights, and for that of its inputs, which the first
    matrices behind data or a stopped gradient are spared. The covariance of the expanded latents is one product and its gradient.
    """
    batch, length = settings.batch, settings.length
    rows = {
        "encoder": batch * (length + 1),
        "predictor": batch * length,
        "expander": 2 * batch * length,
        "readout_head": batch * (2 * length + 1),
        "cost_head": 2 * batch * length,
    }
    total = 4 * batch * length * model.settings.expander**2
    for name, count in rows.items():
        sizes = [2 * count * inputs * outputs for inputs, outputs in layers(getattr(model, name))]
        spared = 0 if name in ("predictor", "expander") else sizes[0]
        total += 3 * sum(sizes) - spared
    return total
