"""The clock by which a controller keeps its deadline: the machine's, or a simulated one whose latencies a seed determines."""

import gc
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mpc.errors import ControllerError


@dataclass(frozen=True)
class SimulatedLatency:
    """How long each stage of planning takes on a simulated clock.

    Attributes:
      seed: of the latencies; decision K of one seed meets the same ones in every run.
      begin, improve, finish: median seconds of a stage.
      spread: standard deviation of the logarithm of a stage's duration.
    """

    seed: int = 0
    begin: float = 0.001
    improve: float = 0.002
    finish: float = 0.001
    spread: float = 0.2

    def __post_init__(self):
        for name in ("begin", "improve", "finish", "spread"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ControllerError(f"{name}={getattr(self, name)}: expected a finite number, 0 or more.")


class Clock(Protocol):
    """Seconds, and where they go."""

    def decide(self, number: int) -> float:
        """The time at which decision `number` begins."""
        ...

    def now(self) -> float: ...

    def spend(self, stage: str) -> None:
        """A stage of planning has just been done."""
        ...


class WallClock:
    """The machine's monotonic clock."""

    def decide(self, number: int) -> float:
        return time.perf_counter()

    def now(self) -> float:
        return time.perf_counter()

    def spend(self, stage: str) -> None:
        pass


class SimulatedClock:
    """Time that passes only by `spend`."""

    def __init__(self, latency: SimulatedLatency):
        self.latency, self._now = latency, 0.0
        self._random = np.random.default_rng(latency.seed)

    def decide(self, number: int) -> float:
        self._random = np.random.default_rng((self.latency.seed, number))
        return self._now

    def now(self) -> float:
        return self._now

    def spend(self, stage: str) -> None:
        self._now += getattr(self.latency, stage) * float(np.exp(self.latency.spread * self._random.normal()))


def settle() -> None:
    """Keep what lives from Python's garbage collector: going through all of JAX holds a loop up for a third of a second."""
    gc.collect()
    gc.freeze()
