"""One controller for N robots: they perceive and plan in one compiled call, and each has its own memory, rungs and faults."""

import copy
import math
import threading
import time as clock
from collections import Counter
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import jax
import numpy as np

from mpc.agent import PlanningAgent
from mpc.controller import programs
from mpc.controller.clocks import settle
from mpc.controller.configuring import Configuration
from mpc.controller.controller import ControlDecision, Timing, count
from mpc.controller.deciding import DAMAGED, REPLACED, SYMPTOMS
from mpc.controller.robot import Course, Look, Rules, seconds
from mpc.controller.searching import SLACK
from mpc.controller.settings import ControllerSettings, ControlStatus, Rung
from mpc.errors import ControllerError
from planners import Status

OLD, NEW, OBSERVED, PREDICTED = range(4)


class BatchController(Configuration):
    """`Controller` for N robots of one kind, in step with one another. The deadline is for all of them together.

        controller = mpc.BatchController(agent, settings, robots=16)
        controller.warm_up()
        decisions = controller.step(observations, time)

    Attributes:
      memories: what is remembered of each robot, but for latents and warm starts, which are kept together.
      counts: decisions by rung's name and faults by their words, of all robots.
    """

    def __init__(self, agent: PlanningAgent, settings: ControllerSettings, *, robots: int):
        if not isinstance(agent, PlanningAgent):
            raise ControllerError(f"agent={type(agent).__name__}: expected an mpc.PlanningAgent.")
        if not isinstance(robots, Integral) or robots < 1:
            raise ControllerError(f"robots={robots}: expected an integer, 1 or more.")
        if not isinstance(settings, ControllerSettings):
            raise ControllerError(f"settings={type(settings).__name__}: expected mpc.ControllerSettings.")
        if settings.asynchronous or settings.simulated is not None:
            raise ControllerError(
                "a batch plans in the loop, by the machine's clock: asynchronous and simulated are for one robot."
            )
        settings.check(agent.model.spec)
        self.settings, self.spec, self.robots = settings, agent.model.spec, robots
        self.rules = Rules(self.spec, settings, getattr(agent.model, "normaliser", None))
        self.counts: Counter[str] = Counter()
        self.decisions, self._turn = 0, threading.RLock()
        self._begin = self._slice = self._finish = 0.0  # usual seconds of a search's stages
        self.take(agent)
        self.memories = [self.rules.begin() for _ in range(robots)]
        self._latents: Any = None
        self._warm: Any = None

    def warm_up(self, repeats: int = 3) -> None:
        """Compile everything and learn what a slice takes; afterwards nothing compiles. `ControllerError` for a short deadline."""
        self._check_cost()
        self._expect(self._rehearse(repeats))
        least = self._begin + self._slice + self._finish
        if self.settings.deadline is not None and self.settings.deadline < SLACK * least:
            raise ControllerError(
                f"deadline={self.settings.deadline} s: one slice for {self.robots} robots takes {least:.4f} s here. "
                f"Give at least {SLACK * least:.4f} s, or plan with fewer samples or a shorter horizon."
            )
        settle()

    def reset(self, robots: Sequence[int] | None = None) -> None:
        """Forget the plans and latents of some robots, all if not given. `ControllerError` for a robot there is not."""
        given: Any = range(self.robots) if robots is None else robots
        chosen: list[Any] = list(given) if isinstance(given, Iterable) else [None]
        if not all(isinstance(index, Integral) and index in range(self.robots) for index in chosen):
            raise ControllerError(f"robots={robots}: expected a list of numbers from 0 to {self.robots - 1}.")
        with self._turn:
            for index in chosen:
                self.memories[index] = self.rules.begin(seen=self.memories[index].seen)

    def step(self, observations: Sequence[Any], time: float | Sequence[float]) -> list[ControlDecision]:
        """One decision for each robot, from its observation and its stamp (or one for all). Never raises; see `Controller.step`."""
        with self._turn:
            return self._step(observations, time)

    def _step(self, observations: Any, time: Any) -> list[ControlDecision]:
        began, number = clock.perf_counter(), self.decisions
        given = _items(observations, self.robots)
        stamps = _items(time, self.robots) if math.isnan(seconds(time)) else [time] * self.robots
        faults: list[list[str]] = [[] for _ in range(self.robots)]
        before, planning, slices, plans = list(self.memories), 0.0, 0, None
        try:
            usable = self._perceive(given, stamps, faults)
            start = clock.perf_counter()
            if usable.any():
                plans, slices = self._try_to_plan(usable, began, number, faults)
            planning = clock.perf_counter() - start
            chosen = self._act(plans, usable, faults)
        except Exception as error:
            chosen, plans = [(Rung.SAFE, None)] * self.robots, None
            self.memories = [m._replace(latent=None, warm=None) for m in before]
            for own in faults:
                own.append(f"controller failed ({type(error).__name__}: {error})"[:200])
        self._mend(faults)
        decisions = [self._send(i, *chosen[i], given[i], faults[i]) for i in range(self.robots)]
        self.decisions += 1
        timing = Timing(clock.perf_counter() - began, planning, slices)
        of = lambda i: None if plans is None or chosen[i][0] is not Rung.PLAN else jax.tree.map(lambda x: x[i], plans)  # noqa: E731
        return [
            ControlDecision(action, ControlStatus(chosen[i][0], tuple(faults[i])), of(i), timing)
            for i, action in enumerate(decisions)
        ]

    def _perceive(self, observations: list[Any], stamps: list[Any], faults: list[list[str]]) -> np.ndarray:
        """Move every latent to now; whether to plan from it, [N]."""
        views, known = [], self._latents is not None
        for i, memory in enumerate(self.memories):
            memory, elapsed = self.rules.clocked(memory, stamps[i], faults[i])
            memory, view = self.rules.look(memory, observations[i], elapsed)
            self.memories[i] = memory
            views.append(view)
        arrays = self._by_name(np.stack([view.flat for view in views]))
        sent = np.stack([memory.sent[0] for memory in self.memories])
        old = self._latents if known else programs.begin_latents(*self.flat, arrays)
        new, percepts = programs.perceive_all(*self.flat, old, sent, arrays)
        scores = np.asarray(percepts.scores)
        choice, usable = np.zeros(self.robots, np.int32), np.zeros(self.robots, bool)
        for i, view in enumerate(views):
            if view.look is Look.LOST:
                faults[i].append(view.fault or "no observation")
            elif view.look is Look.FRESH:
                choice[i], usable[i] = NEW, True
                self.memories[i] = self.memories[i]._replace(latent=i, blind=0)
            else:
                error, change = scores[i].tolist()
                memory, believe, use = self.rules.judge(self.memories[i], view, error, change, faults[i])
                sound = bool(np.isfinite(error))
                choice[i], usable[i] = OBSERVED if believe else PREDICTED, use and sound
                self.memories[i] = memory._replace(latent=i if sound else None)
        self._latents = programs.choose(choice, old, new, percepts.observed, percepts.predicted)
        return usable

    def _by_name(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Observations [N, size] by name, [N, *shape]."""
        rows = [self.rules.watch.arrays(row) for row in flat]
        return {name: np.stack([row[name] for row in rows]) for name in self.spec.names}

    def _try_to_plan(self, usable: np.ndarray, began: float, number: int, faults: list[list[str]]):
        try:
            return self._plan(usable, began, number, faults)
        except Exception as error:
            for i, own in enumerate(faults):
                own.append(f"planner failed ({type(error).__name__}: {error})"[:200])
                self.memories[i] = self.memories[i]._replace(warm=None)
            usable[:] = False
            return None, 0

    def _plan(self, usable: np.ndarray, began: float, number: int, faults: list[list[str]]):
        """Search for all robots at once; those that cannot use a plan are given none."""
        deadline = self.settings.deadline
        until = float("inf") if deadline is None else began + deadline
        sent = np.stack([memory.sent for memory in self.memories])
        limits = (self.rules.normalised_rate, sent[:, -1])
        cold = programs.cold_all(*self.flat, *limits)
        warm = (
            cold
            if self._warm is None
            else programs.where(np.array([m.warm is not None for m in self.memories]), self._warm, cold)
        )
        elapsed = np.array([m.now - m.planned for m in self.memories], np.float32)
        numbers = (np.uint32(number) * np.uint32(self.robots) + np.arange(self.robots, dtype=np.uint32)).astype(np.uint32)
        seed = np.uint32(self.settings.seed)
        mark = clock.perf_counter()
        search = programs.begin_all(*self.flat, self._latents, sent[:, 1:], warm, elapsed, *limits, seed, numbers)
        jax.block_until_ready(search)
        self._begin, mark, slices = clock.perf_counter() - mark, clock.perf_counter(), 0
        for _ in range(self.agent.planner.iterations):  # type: ignore[union-attr]
            if slices and until - mark < SLACK * (self._slice + self._finish):
                break
            search = jax.block_until_ready(programs.improve_all(*self.flat, search, *limits))
            now = clock.perf_counter()
            self._slice = 0.9 * self._slice + 0.1 * (now - mark) if self._slice else now - mark
            mark, slices = now, slices + 1
        found = programs.finish_all(*self.flat, search, *limits)
        actions, status = np.asarray(found.actions), np.asarray(found.plan.status)
        sound = np.asarray(found.sound) & (status != Status.NO_FINITE_CANDIDATE)
        took = clock.perf_counter() - mark
        self._finish = 0.9 * self._finish + 0.1 * took if self._finish else took
        self._warm = found.state
        for i, memory in enumerate(self.memories):
            if not usable[i]:
                memory = memory._replace(warm=None)  # what was searched for it is not to be trusted
            elif sound[i]:
                faults[i].extend([REPLACED] if status[i] == Status.SUBGOAL_REPLACED else [])
                course = Course(actions[i], memory.now, number)
                memory = memory._replace(course=course, warm=i, planned=memory.now)
            else:
                faults[i].append("no sound plan")
                usable[i], memory = False, memory._replace(warm=None, latent=None)
            self.memories[i] = memory
        return found.plan, slices

    def _act(self, plans: Any, usable: np.ndarray, faults: list[list[str]]) -> list[tuple[Rung, Any]]:
        """The rung and action of each robot, None for the safe one."""
        policy: Any = None
        if self.reflex is not None and not usable.all():
            coming = np.stack([memory.sent[1:] for memory in self.memories])
            policy = np.asarray(programs.react_all(*self.reflex, self._latents, coming))
        chosen = []
        for i, memory in enumerate(self.memories):
            if plans is not None and usable[i]:
                chosen.append((Rung.PLAN, memory.course.actions[0]))  # type: ignore[union-attr]
            else:
                react = lambda i=i: None if policy is None else policy[i]  # noqa: E731
                chosen.append(self.rules.descend(memory, react, 0, faults[i]))
        return chosen

    def _mend(self, faults: list[list[str]]) -> None:
        """Put the last good parameters back where those in use are not finite."""
        if any(fault in SYMPTOMS for own in faults for fault in own) and not bool(programs.finite(self.flat[0])):
            self.flat, self.reflex = self.intact
            for own in faults:
                own.append(DAMAGED)

    def _send(self, i: int, rung: Rung, action: Any, observation: Any, faults: list[str]) -> np.ndarray:
        memory = self.memories[i]
        if rung is Rung.SAFE:
            action, fault = self.rules.safe(memory, observation)
            faults.extend([fault] if fault else [])
        action = self.rules.limited(memory, action)
        self.memories[i] = self.rules.send(memory, action)
        count(self.counts, rung, faults)
        return action.copy()

    def _rehearse(self, repeats: int) -> Any:
        """Steps of a copy, on observations of nothing; the middle durations are what is usual."""
        aside = copy.copy(self)
        aside.counts, aside._turn = Counter(), threading.RLock()
        nothing, taken = [self.rules.nothing] * self.robots, []
        for _ in range(repeats + 1):
            aside._begin = aside._slice = aside._finish = 0.0
            aside._latents = aside._warm = None
            aside.memories = [self.rules.begin() for _ in range(self.robots)]
            for tick in range(3):
                aside.step(nothing, tick * self.settings.period)
            taken.append((aside._begin, aside._slice, aside._finish))
            if self.reflex is not None:
                aside._act(None, np.zeros(self.robots, bool), [[] for _ in range(self.robots)])
        return np.median(taken[1:], axis=0).tolist()

    def _expect(self, usual: Any) -> None:
        super()._expect(usual)
        self._begin, self._slice, self._finish = usual


def _items(given: Any, count: int) -> list[Any]:
    """The first `count` items of `given`, None for each that is not to be had."""
    items = []
    for index in range(count):
        try:
            items.append(given[index])
        except Exception:
            items.append(None)
    return items
