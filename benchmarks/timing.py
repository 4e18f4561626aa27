"""Timing several things in turn, so that whatever else the machine does falls on all of them alike."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np


class Timing(NamedTuple):
    """Milliseconds a call, over `calls` calls."""

    p50: float
    p99: float
    calls: int


class Stopwatch:
    """The time since this was made, and how busy others kept the machine meanwhile, which makes a timing doubtful."""

    def __init__(self):
        self.began, self.own, self.all = time.perf_counter(), time.process_time(), _busy_seconds()

    @property
    def minutes(self) -> float:
        """Wall time."""
        return (time.perf_counter() - self.began) / 60

    @property
    def busy_elsewhere(self) -> float | None:
        """Share of all cores' time, in [0, 1], that went to other processes and machines; None where the system does not tell."""
        now = _busy_seconds()
        if self.all is None or now is None:
            return None
        others = now - self.all - (time.process_time() - self.own)
        return float(np.clip(others / (60 * self.minutes * (os.cpu_count() or 1)), 0, 1))


def _busy_seconds() -> float | None:
    """Seconds that all cores together have worked since the machine started (Linux)."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _, _, irq, softirq, steal, *_ = map(int, file.readline().split()[1:])
    except OSError:
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def interleaved(calls: Mapping[str, Callable[[], Any]], *, seconds: float, burst: int = 3, least: int = 3) -> dict[str, Timing]:
    """Time each call in turn, round after round, for about `seconds` and at least `least` rounds.

    Every call is waited for (`jax.block_until_ready`). It runs once untimed when its turn comes, so that it finds its own
    data in the caches and its own threads awake, and then `burst` times. Every other round runs backwards. What compiles
    does so before the first round.
    """
    for call in calls.values():
        jax.block_until_ready(call())
    taken: dict[str, list[float]] = {name: [] for name in calls}
    began, rounds = time.perf_counter(), 0
    while rounds < least or time.perf_counter() - began < seconds:
        for name in list(calls)[:: -1 if rounds % 2 else 1]:
            jax.block_until_ready(calls[name]())
            for _ in range(burst):
                start = time.perf_counter()
                jax.block_until_ready(calls[name]())
                taken[name].append(1e3 * (time.perf_counter() - start))
        rounds += 1
    return {name: summarise(values) for name, values in taken.items()}


def summarise(milliseconds: list[float]) -> Timing:
    """Median, 99th percentile and number of the given calls."""
    return Timing(float(np.percentile(milliseconds, 50)), float(np.percentile(milliseconds, 99)), len(milliseconds))
