"""One search for a plan: as many iterations as its time allows, and all that it depended on."""

from typing import Any, NamedTuple

import jax
import numpy as np

import planners
from mpc.controller import programs
from mpc.controller.clocks import Clock
from mpc.controller.robot import Memory, Rules

SLACK = 1.3  # a slice is begun only if so many times its usual duration is left
LEARNING = 0.1  # share of a new duration in what is usual


class Request(NamedTuple):
    """All that a search depends on but the weights. `coming` [K, A]: the actions that take effect before the plan's first one.

    `start` is the model step, since reset, for which the plan's first action is meant; `elapsed` the model steps since that of
    the plan which left `warm`. `generation` counts resets.
    """

    latent: Any
    coming: np.ndarray
    warm: Any
    elapsed: float
    start: float
    number: int
    generation: int = 0


class Searched(NamedTuple):
    """What a search found: the plan, its actions [H, A] in environment units, the planner's next state, and slices run.

    `replaced` says that a subgoal was out of reach of a planner of several levels.
    """

    plan: Any
    actions: np.ndarray
    warm: Any
    sound: bool
    slices: int
    seconds: float
    replaced: bool = False


class Searcher:
    """Runs searches until a deadline, and tracks what each stage usually takes.

    Attributes:
      begin, improve, finish: usual seconds of a stage.
    """

    def __init__(self, planner: planners.Planner, rules: Rules, clock: Clock):
        self.planner, self.clock = planner, clock
        self.rate = rules.normalised_rate
        self.seed = np.uint32(rules.settings.seed)
        self.begin = self.improve = self.finish = 0.0

    @property
    def least(self) -> float:
        """Seconds of the shortest search."""
        return self.begin + self.improve + self.finish

    @property
    def usual(self) -> float:
        """Seconds of a search that runs all iterations."""
        return self.begin + self.planner.iterations * self.improve + self.finish

    def run(self, flat: Any, request: Request, *, until: float = float("inf"), slices: int | None = None) -> Searched:
        """Search until the time `until`, one slice at least; or for exactly `slices`."""
        began = self.clock.now()
        limits = (self.rate, request.coming[-1])
        warm = programs.cold(*flat, *limits) if request.warm is None else request.warm
        search = programs.begin(
            *flat,
            request.latent,
            request.coming[1:],
            warm,
            np.float32(request.elapsed),
            *limits,
            self.seed,
            np.uint32(request.number),
        )
        jax.block_until_ready(search)
        mark = self._spent("begin", began)
        done = 0
        for _ in range(self.planner.iterations if slices is None else slices):
            if slices is None and done and until - mark < SLACK * (self.improve + self.finish):
                break
            search = jax.block_until_ready(programs.improve(*flat, search, *limits))
            mark = self._spent("improve", mark)
            done += 1
        found = programs.finish(*flat, search, *limits)
        actions, sound = np.asarray(found.actions), bool(found.sound)
        status = planners.Status(int(found.plan.status))
        sound = sound and status is not planners.Status.NO_FINITE_CANDIDATE
        mark = self._spent("finish", mark)
        return Searched(found.plan, actions, found.state, sound, done, mark - began, status is planners.Status.SUBGOAL_REPLACED)

    def _spent(self, stage: str, since: float) -> float:
        self.clock.spend(stage)
        now = self.clock.now()
        before = getattr(self, stage)
        setattr(self, stage, (1 - LEARNING) * before + LEARNING * (now - since) if before else now - since)
        return now


def request(rules: Rules, memory: Memory, number: int, *, lead: int = 0, generation: int = 0) -> Request:
    """A search from what is believed now, for a plan that begins `lead` model steps later, when actions sent then take effect."""
    coming = memory.sent
    if lead:
        coming = np.concatenate([coming, _due(rules, memory, lead)])
    start = memory.now + lead
    return Request(memory.latent, coming, memory.warm, max(0.0, start - memory.planned), start, number, generation)


def _due(rules: Rules, memory: Memory, count: int) -> np.ndarray:
    """[count, A], the actions that will be sent meanwhile: those of the course, then the last one again."""
    course = memory.course
    if course is None:
        return np.repeat(memory.sent[-1:], count, 0)
    indices = np.clip(rules.index(memory) + np.arange(count), 0, len(course.actions) - 1)
    return course.actions[indices]
