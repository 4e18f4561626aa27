"""What a controller remembers of one robot from decision to decision, and the rules by which that changes. Numpy only."""

import enum
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mpc.controller.observations import ObservationWatch, Seen
from mpc.controller.settings import ControllerSettings, Rung
from worldmodels.spec import Spec

JUMP = 1e6  # model steps that a stamp may leap; more would leave no room in a float for the steps that follow


def seconds(time: Any) -> float:
    """A stamp as a number, NaN where it is none."""
    try:
        return float(time)
    except Exception:
        return math.nan


class Course(NamedTuple):
    """A plan as it is followed: actions [H, A] in environment units, the first one meant for the model step `start`."""

    actions: np.ndarray
    start: float
    number: int


class Memory(NamedTuple):
    """All that one decision hands to the next. Replaced, never changed, so that a recorder may keep it.

    Attributes:
      sent: [K+1, A], the actions still on their way and the one before, oldest first.
      now: model steps since reset.
      time: the last usable stamp, in seconds.
      latent: where the world is believed to be; None where that is unknown.
      blind: calls in a row in which no observation was believed.
      course, coming: the plan that is followed, and one whose time has not come.
      warm: the planner's state, from the plan that started at `planned`.
    """

    sent: np.ndarray
    seen: Seen = Seen()
    now: float = 0.0
    time: float | None = None
    latent: Any = None
    blind: int = 0
    course: Course | None = None
    coming: Course | None = None
    warm: Any = None
    planned: float = 0.0

    @property
    def last(self) -> np.ndarray:
        """[A], the action sent last."""
        return self.sent[-1]


class Look(enum.Enum):
    """How the latent is to be found."""

    LOST = 0  # not at all: nothing is known, and nothing is seen
    FRESH = 1  # from the observation alone
    COMPARED = 2  # from the observation, which is compared with the prediction
    BLIND = 3  # from the prediction alone


class View(NamedTuple):
    """`Look`, the observation, flat, or what stands in for it, and what is wrong with what was given."""

    look: Look
    flat: np.ndarray
    fault: str | None


class Rules:
    """The part of a controller that knows no JAX: stamps, observations, fallbacks and limits."""

    def __init__(self, spec: Spec, settings: ControllerSettings, normaliser: Any = None):
        self.spec, self.settings = spec, settings
        self.low, self.high = spec.action.within  # type: ignore[union-attr]
        self.rate = None if settings.rate is None else np.asarray(settings.rate, np.float64)
        self.normalised_rate = None if self.rate is None else (self.rate / ((self.high - self.low) / 2)).astype(np.float32)
        self.pending = round(settings.delay / spec.seconds_per_step)
        self.zeros = np.zeros(spec.size, np.float32)
        patience = settings.patience
        self.watch = ObservationWatch(
            spec, frozen_after=patience.frozen_after, surprise=patience.surprise, normaliser=normaliser
        )

    @property
    def nothing(self) -> dict[str, np.ndarray]:
        """An observation of zeros."""
        return self.watch.arrays(self.zeros)

    def begin(self, sent: Any = None, seen: Seen | None = None) -> Memory:
        """The memory of a robot that was last sent `sent` (zero if not given); of `seen` only what errors are usual is kept."""
        action = np.clip(np.zeros_like(self.low) if sent is None else np.asarray(sent, np.float32), self.low, self.high)
        usual = Seen() if seen is None else Seen(usual=seen.usual, count=seen.count)
        return Memory(np.stack([action] * (self.pending + 1)), usual)

    def clocked(self, memory: Memory, time: Any, faults: list[str]) -> tuple[Memory, float]:
        """Move to the stamp `time`; also returns the model steps since the last call, one where the stamp cannot be used."""
        stamp, elapsed, last = seconds(time), 1.0, memory.time
        if not math.isfinite(stamp):
            faults.append("time not finite")
            stamp = None if last is None else last + self.spec.seconds_per_step
            return memory._replace(time=stamp, now=memory.now + 1.0), 1.0
        if last is None:
            elapsed = 0.0
        else:
            elapsed = min((stamp - last) / self.spec.seconds_per_step, JUMP)
            if elapsed < 0:
                faults.append("time went backwards")
                elapsed = 0.0
            elif elapsed == 0:
                faults.append("time repeated")
            elif elapsed > 1.5:
                faults.append("ticks missed")
        return memory._replace(time=stamp, now=memory.now + elapsed), elapsed

    def look(self, memory: Memory, observation: Any, elapsed: float) -> tuple[Memory, View]:
        """Read the observation and say how the latent is to be found."""
        flat, fault, seen = self.watch.read(memory.seen, observation)
        memory = memory._replace(seen=seen)
        if flat is None:
            stand_in = self.zeros if seen.last is None else seen.last
            return memory, View(Look.LOST if memory.latent is None else Look.BLIND, stand_in, fault)
        if memory.latent is None:
            return memory, View(Look.FRESH, flat, fault)
        if not 0.5 <= elapsed <= 1.5 and seen.same < self.settings.patience.frozen_after - 1:
            return memory, View(Look.FRESH, flat, None)  # not one model step: the prediction has nothing to say of it
        return memory, View(Look.COMPARED, flat, None)

    def packed(self, memory: Memory, view: View) -> np.ndarray:
        """What perception is given, as one array: the observation, flat, then the actions sent."""
        return np.concatenate((view.flat, memory.sent.ravel()))

    def judge(self, memory: Memory, view: View, error: float, change: float, faults: list[str]) -> tuple[Memory, bool, bool]:
        """Also returns whether to believe the observation rather than the prediction, and whether to plan from it."""
        fault, seen = view.fault, memory.seen
        if view.look is Look.COMPARED:
            fault, seen = self.watch.doubt(seen, error, change)
        if fault is None:
            return memory._replace(seen=seen, blind=0), True, True
        faults.append(fault)
        memory = memory._replace(seen=seen, blind=memory.blind + 1)
        if memory.blind <= self.settings.patience.bridge:
            return memory, False, True
        faults.append("too long without an observation")
        # It may be the world that has changed: believe again what can be read.
        return memory, view.look is Look.COMPARED, fault == "observation out of distribution" and view.look is Look.COMPARED

    def descend(self, memory: Memory, policy: Callable[[], Any], fresh: float, faults: list[str]):
        """The rung and action below a fresh plan, None for the safe one; a course lives `lifetime` steps after its `fresh` ones."""
        for rung in self.settings.fallbacks:
            if rung is Rung.SHIFTED and memory.course is not None:
                index = self.index(memory)
                if index < min(len(memory.course.actions), fresh + self.settings.patience.lifetime + 1):
                    return rung, memory.course.actions[index]
                faults.append("plan expired")
            if rung is Rung.POLICY and memory.latent is not None and memory.blind <= self.settings.patience.bridge:
                action = policy()
                if action is not None and np.isfinite(action).all():
                    return rung, action
                if action is not None:
                    faults.append("policy not finite")
        return Rung.SAFE, None

    def index(self, memory: Memory) -> int:
        """Which action of the course is due."""
        assert memory.course is not None
        return max(0, round(memory.now - memory.course.start))

    def safe(self, memory: Memory, observation: Any) -> tuple[np.ndarray, str | None]:
        """The last resort, before its limits, and what is wrong with the user's own."""
        safe, fault = self.settings.safe, None
        if safe == "hold":
            return memory.last, None
        if callable(safe):
            try:
                action = np.asarray(safe(observation), np.float32)
                if action.shape == self.low.shape and np.isfinite(action).all():
                    return action, None
                fault = f"safe action not {self.low.size} finite numbers"
            except Exception as error:
                fault = f"safe action failed ({type(error).__name__})"
        return np.zeros_like(self.low), fault

    def limited(self, memory: Memory, action: Any) -> np.ndarray:
        """Inside the box and within the rate of what was sent last, exactly; what is not finite becomes what was sent last."""
        last = memory.last
        action = np.asarray(action, np.float32)
        if not np.isfinite(action).all():
            action = np.where(np.isfinite(action), action, last)
        action = np.minimum(np.maximum(action, self.low), self.high)
        if self.rate is None:
            return action
        before = last.astype(np.float64)
        action = np.minimum(np.maximum(action, before - self.rate), before + self.rate).astype(np.float32)
        over = np.abs(action.astype(np.float64) - before) > self.rate  # by rounding to float32
        return np.where(over, np.nextafter(action, last), action) if over.any() else action

    def send(self, memory: Memory, action: np.ndarray) -> Memory:
        """Note that `action` is sent."""
        if self.pending == 0:
            return memory._replace(sent=action[None])
        return memory._replace(sent=np.concatenate([memory.sent[1:], action[None]]))
