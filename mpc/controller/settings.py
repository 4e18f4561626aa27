"""What a controller is told beforehand, and what it says of every decision."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

from mpc.controller.clocks import SimulatedLatency
from mpc.errors import ControllerError
from worldmodels.spec import ContinuousAction, Spec


class Rung(enum.IntEnum):
    """Where an action came from, best first."""

    PLAN = 0
    SHIFTED = 1
    POLICY = 2
    SAFE = 3

    @property
    def sentence(self) -> str:
        return {
            Rung.PLAN: "a fresh plan",
            Rung.SHIFTED: "the last good plan, shifted to now",
            Rung.POLICY: "the policy, without a plan",
            Rung.SAFE: "the safe action",
        }[self]


class ControlStatus(NamedTuple):
    """Where the action came from, and every fault that was seen on the way, by name."""

    rung: Rung
    faults: tuple[str, ...]

    @property
    def sentence(self) -> str:
        reasons = f" because of: {', '.join(self.faults)}" if self.faults else ""
        return f"The action is from {self.rung.sentence}{reasons}."


@dataclass(frozen=True)
class Patience:
    """How long a controller goes on without what it needs.

    Attributes:
      lifetime: model steps for which a plan may be followed when no new one is found.
      bridge: calls in a row for which prediction may stand in for a bad observation.
      frozen_after: identical observations in a row that mean a frozen sensor, provided the model predicts a change.
      surprise: times the usual one-step prediction error beyond which an observation is not believed.
    """

    lifetime: int = 5
    bridge: int = 3
    frozen_after: int = 10
    surprise: float = 100.0

    def check(self) -> None:
        """Raise `ControllerError`, naming the field that is wrong."""
        _require_numbers(**vars(self))
        for name in ("lifetime", "bridge"):
            if not getattr(self, name) >= 0:
                raise ControllerError(f"{name}={getattr(self, name)}: expected 0 or more.")
        if not self.frozen_after >= 2 or not self.surprise > 1:
            raise ControllerError(
                f"frozen_after={self.frozen_after}, surprise={self.surprise}: expected at least 2 and more than 1."
            )


@dataclass(frozen=True)
class ControllerSettings:
    """Guarantees and patience.

    Attributes:
      period: seconds between calls of `step`: the model's step.
      deadline: seconds within which `step` answers with the best plan so far; None runs all of the planner's iterations.
        In asynchronous mode, the seconds that a plan may take in its own thread.
      rate: [A], largest change of an action between two calls, in the environment's units; None for no limit.
      delay: seconds until an action takes effect; the latent is predicted that far ahead, through the actions already sent.
      patience: see `Patience`.
      fallbacks: the rungs tried where there is no fresh plan, in order; the safe action comes after them.
      safe: the last resort: "zero", "hold" (what was sent last), or a function of the observation that returns an action.
      asynchronous: plan in a thread of its own; `step` only reads the plan that is there.
      simulated: latencies of a simulated clock, for decisions that are the same bit for bit on any machine under any load.
      seed: of the search.
    """

    period: float
    deadline: float | None = None
    rate: tuple[float, ...] | None = None
    delay: float = 0.0
    patience: Patience = Patience()
    fallbacks: tuple[Rung, ...] = (Rung.SHIFTED, Rung.POLICY)
    safe: str | Callable[[Any], Any] = "zero"
    asynchronous: bool = False
    simulated: SimulatedLatency | None = None
    seed: int = 0

    def check(self, spec: Spec) -> None:
        """Raise `ControllerError`, naming the field, unless the settings suit the environment of `spec`."""
        if not isinstance(spec.action, ContinuousAction):
            raise ControllerError(f"{spec.environment} has discrete actions: the controller sends continuous ones.")
        if spec.images:
            raise ControllerError(
                f"{spec.environment} shows images, {', '.join(spec.images)}: the controller reads vectors only. Act by agent.act."
            )
        self._check_kinds()
        if not abs(self.period / spec.seconds_per_step - 1) <= 0.01:
            raise ControllerError(
                f"period={self.period} s: expected the model's step, {spec.seconds_per_step} s. "
                "Call as often, or train a model with another action repeat."
            )
        if self.deadline is not None and not 0 < self.deadline <= (100 if self.asynchronous else 1) * self.period:
            raise ControllerError(f"deadline={self.deadline} s: expected more than 0 and at most the period, {self.period} s.")
        if self.rate is not None:
            rate = np.asarray(self.rate)
            if rate.dtype.kind not in "fiu" or rate.shape != spec.action.shape or not (np.isfinite(rate) & (rate > 0)).all():
                raise ControllerError(f"rate={self.rate}: expected {spec.action.shape[0]} finite positive numbers.")
        if not 0 <= self.delay < 100 * spec.seconds_per_step:
            raise ControllerError(f"delay={self.delay} s: expected 0 or more, and less than a hundred model steps.")
        self.patience.check()
        if not callable(self.safe) and self.safe not in ("zero", "hold"):
            raise ControllerError(f'safe={self.safe!r}: expected "zero", "hold" or a function of the observation.')
        if not 0 <= self.seed < 2**32:
            raise ControllerError(f"seed={self.seed}: expected an integer from 0 to 2³²−1.")

    def _check_kinds(self) -> None:
        _require_numbers(period=self.period, delay=self.delay, deadline=0 if self.deadline is None else self.deadline)
        rungs = self.fallbacks if isinstance(self.fallbacks, tuple | list) else [None]
        if not all(rung is Rung.SHIFTED or rung is Rung.POLICY for rung in rungs) or len(set(rungs)) < len(rungs):
            raise ControllerError(f"fallbacks={self.fallbacks}: expected Rung.SHIFTED and Rung.POLICY, each at most once.")
        if not isinstance(self.patience, Patience):
            raise ControllerError(f"patience={self.patience!r}: expected an mpc.Patience.")
        if self.simulated is not None and not isinstance(self.simulated, SimulatedLatency):
            raise ControllerError(f"simulated={self.simulated!r}: expected an mpc.SimulatedLatency.")
        if not isinstance(self.seed, Integral):
            raise ControllerError(f"seed={self.seed!r}: expected an integer from 0 to 2³²−1.")


def _require_numbers(**settings: Any) -> None:
    for name, value in settings.items():
        if not isinstance(value, Real):
            raise ControllerError(f"{name}={value!r}: expected a number.")


def check_mixed(settings: ControllerSettings) -> None:
    """Raise `ControllerError`, naming the field, unless the settings let an agent react where it need not plan."""
    if settings.asynchronous:
        raise ControllerError("asynchronous=True: a mixed agent chooses in the loop whether to plan. Expected False.")
    if Rung.POLICY not in settings.fallbacks:
        raise ControllerError(
            f"fallbacks={settings.fallbacks}: a mixed agent acts by its policy too. Expected Rung.POLICY there."
        )
