"""Faults that are done to a controller on purpose, and whether its status named them."""

import ctypes
import re
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest import mock

import jax.numpy as jnp
import numpy as np

import mpc
from mpc.controller import programs

NAMES = {
    "nan": "observation .*: not finite",
    "inf": "observation .*: not finite",
    "dtype": "observation .*: not numbers",
    "shape": "observation .*: shape",
    "nothing": "observation unreadable",
    "huge": "observation out of distribution",
    "frozen": "observation frozen",
    "late": "ticks missed",
    "missed": "ticks missed",
    "repeated": "time repeated",
    "reversed": "time went backwards",
    "no-time": "time not finite",
    "raise": "planner failed",
    "weights": "parameters not finite",
    "goal": "",
    "bad-goal": "",
    "killed": "planning thread died",
}
"""Every kind of fault, and the words (a regular expression) that name it in the status; a change of goal is none, and a bad goal
is refused at once."""

LOOP = tuple(kind for kind in NAMES if kind != "killed")
"""What can be done to any controller; only one that plans in a thread can be killed there."""

FROZEN = 30  # decisions for which a frozen sensor stays so
PATIENCE = 25  # decisions within which what happens in the planning thread must be named
MOVED = 0.05  # standard deviations a sensor must move for it to matter that it is frozen


class Broken(Exception):
    """What an unruly planner raises."""


class Faults:
    """Draws a fault for some decisions of an episode and commits it; every kind comes as often as another.

    Attributes:
      drawn, unnamed: how many of each kind were committed, and were not named by the status in time.
    """

    def __init__(self, made: mpc.Controller, share: float, seed: int, kinds: tuple[str, ...]):
        self.made, self.share, self.kinds, self.random = made, share, kinds, np.random.default_rng(seed)
        self.drawn, self.unnamed = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
        self.begin()

    def begin(self) -> None:
        """An episode begins."""
        self.stamp: float | None = None  # the last usable one that was given
        self.frozen: tuple[int, Any] = (0, None)
        self.moved = self.noticed = False
        self.pending: list[tuple[str, int]] = []
        self.tick = 0

    def draw(self) -> str | None:
        """The kind of fault that comes next, if one does."""
        if self.tick == 0 or self.random.random() >= self.share:
            return None
        kind = str(self.random.choice(self.kinds))
        return None if kind == "frozen" and self.frozen[0] else kind

    def step(self, kind: str | None, observation: dict[str, np.ndarray], time: float) -> mpc.ControlDecision:
        """One decision under a fault."""
        made, last = self.made, self.stamp
        seen, stamp = self._spoilt(kind, observation), self._stamp(kind, time)
        skipped = last is not None and stamp - last > 1.5 * made.spec.seconds_per_step  # not after a stamp that ran ahead
        with ExitStack() as stack:
            fired = []
            if kind == "raise":
                stack.enter_context(mock.patch.object(programs, "begin", partial(_raise, fired)))
            elif kind == "weights":
                leaves = [x * jnp.nan if jnp.issubdtype(x.dtype, jnp.inexact) else x for x in made.flat[0]]
                made.flat = leaves, made.flat[1]
                fired.append(True)
            elif kind == "killed":
                thread = made._thinker.thread.ident  # type: ignore[union-attr]
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(SystemExit))
                fired.append(True)
            elif kind == "goal":
                made.configure(mpc.goal(observation))
            elif kind == "bad-goal":
                self._bad_goal(observation)
            elif kind not in (None, "frozen") and (kind != "missed" or skipped):
                fired.append(True)
            decision = made.step(seen, stamp)
        if kind == "goal":
            made.configure(mpc.LearnedCost())
        if kind is not None:
            self.drawn[kind] += 1
            if fired:
                later = PATIENCE if made.settings.asynchronous and kind in ("raise", "weights", "killed") else 0
                later = max(later, 2 if kind == "weights" else 0)  # where nothing is computed, nothing shows
                self.pending.append((kind, self.tick + later))
        self._check(kind, decision.status.faults)
        self.tick += 1
        return decision

    def _spoilt(self, kind: str | None, observation: dict[str, np.ndarray]) -> Any:
        """The observation as the controller sees it."""
        left, still = self.frozen
        if kind == "frozen":
            left, still, self.moved = FROZEN, observation, False
        if left:
            self.frozen = (left - 1, still)
            scale = self.made.agent.model.normaliser.scale[...]
            spec = self.made.spec
            moved = np.abs(np.asarray(spec.flatten(observation)) - np.asarray(spec.flatten(still))) / np.asarray(scale)
            self.moved = self.moved or bool((moved > MOVED).any())
            if left == 1 and self.moved:
                self.pending.append(("frozen", self.tick))
            observation = still
        name = str(self.random.choice(sorted(observation)))
        value = observation[name]
        return {
            "nan": {**observation, name: value * np.nan},
            "inf": {**observation, name: np.full_like(value, np.inf)},
            "dtype": {**observation, name: value.astype(str)},
            "shape": {**observation, name: np.zeros((*value.shape, 2), np.float32)},
            "nothing": None,
            "huge": {**observation, name: value + 1e6},
        }.get(kind or "", observation)

    def _stamp(self, kind: str | None, time: float) -> Any:
        period, last = self.made.settings.period, self.stamp
        if kind == "no-time":
            return float("nan")
        if last is not None and kind in ("late", "repeated", "reversed"):
            time = {"late": max(last, time) + 5 * period, "repeated": last, "reversed": last - 10 * period}[kind]
        self.stamp = time
        return time

    def _bad_goal(self, observation: dict[str, np.ndarray]) -> None:
        """A goal with a NaN, which must be refused by a typed error and change nothing."""
        before = self.made.flat
        try:
            self.made.configure(mpc.goal({name: value * np.nan for name, value in observation.items()}))
        except ValueError:
            self.unnamed["bad-goal"] += self.made.flat is not before
        else:
            self.unnamed["bad-goal"] += 1

    def _check(self, kind: str | None, faults: tuple[str, ...]) -> None:
        """Strike out what was named, and count what is overdue."""
        if "observation frozen" in faults or ("observation out of distribution" in faults and kind != "huge"):
            self.noticed = True  # a sensor that stands still while the robot moves is far from its prediction, too
        left = []
        for pending, due in self.pending:
            named = self.noticed if pending == "frozen" else any(re.search(NAMES[pending], fault) for fault in faults)
            if not named and self.tick >= due:
                self.unnamed[pending] += 1
            elif not named:
                left.append((pending, due))
        self.pending = left
        if not self.frozen[0]:
            self.noticed = False


def _raise(fired: list[bool], *_: Any) -> None:
    fired.append(True)
    raise Broken("a planner that raises")
