"""Receding-horizon control for a loop that must not stop: always an action, within limits, in time.

Each call of `step` perceives, plans until the deadline, and falls down a ladder where something fails: fresh plan, the last good
plan shifted in time, the policy, a safe action. The status names the rung and every fault.
"""

import difflib
import time as clock
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import planners
from mpc import costs
from mpc.agent import PlanningAgent
from mpc.controller import programs
from mpc.controller.observations import ObservationWatch
from mpc.controller.settings import ControllerSettings, ControlStatus, Rung
from mpc.errors import ControllerError
from mpc.packing import pack
from mpc.storage import load_agent

SLACK = 1.3  # a slice is begun only if so many times its usual duration is left


class Timing(NamedTuple):
    """Seconds a call took, seconds of them spent planning, and slices of planning."""

    total: float
    planning: float
    slices: int


class ControlDecision(NamedTuple):
    """What `step` answers. `action` [A] is float32, in the environment's units; `plan` is None unless it is fresh."""

    action: np.ndarray
    status: ControlStatus
    plan: planners.Plan | None
    timing: Timing


class Controller:
    """Runs a planning agent in real time. One thread; host work is numpy.

        controller = mpc.Controller.load("runs/agent", planner, mpc.ControllerSettings(period=0.02, deadline=0.015))
        controller.warm_up()
        controller.reset()
        decision = controller.step(observation, time)

    Attributes:
      counts: decisions by rung's name and faults by their words, since construction.
      step_seconds: what one slice of planning usually takes, tracked from `warm_up` on.
    """

    def __init__(self, agent: PlanningAgent, settings: ControllerSettings):
        if not isinstance(agent, PlanningAgent):
            raise ControllerError(
                f"agent={type(agent).__name__}: expected an mpc.PlanningAgent, with a policy if there is one."
            )
        settings.check(agent.model.spec)
        self.agent, self.settings, self.spec = agent, settings, agent.model.spec
        self.low = np.asarray(self.spec.action.low, np.float32)
        self.high = np.asarray(self.spec.action.high, np.float32)
        self.rate = None if settings.rate is None else np.asarray(settings.rate, np.float32)
        steps = settings.period / self.spec.seconds_per_step
        half_range = (self.high - self.low) / 2
        self._planner_rate = None if self.rate is None else (self.rate / half_range / steps).astype(np.float32)
        self._pending = round(settings.delay / self.spec.seconds_per_step)
        self._flat = pack(agent)
        self.counts: Counter[str] = Counter()
        self.step_seconds = 0.0
        self._begin_seconds = self._finish_seconds = 0.0
        self._decisions = 0
        self._watch = ObservationWatch(
            self.spec,
            frozen_after=settings.frozen_after,
            surprise=settings.surprise,
            normaliser=getattr(agent.model, "normaliser", None),
        )
        self._forget()

    @classmethod
    def load(cls, folder: str | Path, planner: planners.Planner, settings: ControllerSettings, *, cost: Any = None):
        """A controller of the agent or model in `folder`; typed errors for what is damaged or of another version."""
        agent = load_agent(folder, planner, cost=cost)
        if not isinstance(agent, PlanningAgent):
            raise ControllerError(f"{folder} holds a policy alone: expected a model, or an agent of `sailplan learn`.")
        return cls(agent, settings)

    def warm_up(self, repeats: int = 5) -> None:
        """Compile everything and learn what planning costs; afterwards nothing compiles.

        Raises `ControllerError` where the deadline leaves no time for one slice.
        """
        observation = {name: np.zeros(shape, np.float32) for name, shape in self.spec.observation}
        costs.check(self.agent.model, self.agent.cost, observation)
        seconds = []
        for index in range(repeats + 1):
            self.reset()
            for tick in range(3):
                self._plan_now(self._perceive(observation, tick * self.settings.period, []), 1.0, [], index * 3 + tick, None)
            seconds.append((self._begin_seconds, self.step_seconds, self._finish_seconds))
            if self.agent.policy is not None:
                jax.block_until_ready(programs.react(*self._flat, self._latent))
        self._begin_seconds, self.step_seconds, self._finish_seconds = np.median(seconds[1:], axis=0)
        least = self._begin_seconds + self.step_seconds + self._finish_seconds
        if self.settings.deadline is not None and self.settings.deadline < SLACK * least:
            raise ControllerError(
                f"deadline={self.settings.deadline} s: one slice of {type(self.agent.planner).__name__} takes {least:.4f} s here. "
                f"Give at least {SLACK * least:.4f} s, or plan with fewer samples or a shorter horizon."
            )
        self.reset()

    def reset(self, observation: Any = None) -> None:
        """Forget plan, latent and what was sent. `SpecError` for an observation that does not fit."""
        if observation is not None:
            self.spec.check_observation(observation)
        self._forget()
        self._watch.reset()

    def set_goal(self, observation: Any) -> None:
        """Reach what `observation` shows, from the next decision on; for agents driven by `mpc.goal`."""
        if not isinstance(self.agent.cost, costs.GoalCost):
            raise ControllerError(f"the agent's cost is {type(self.agent.cost).__name__}: expected one made by mpc.goal(...).")
        self.spec.check_observation(observation)
        goal = {name: np.asarray(observation[name], np.float32) for name, _ in self.spec.observation}
        self._drive_by(replace(self.agent.cost, goal=goal))

    def set_cost_weights(self, **parameters: Any) -> None:
        """New values of the parameters of an `mpc.cost(function, **parameters)`, from the next decision on."""
        cost = self.agent.cost
        if not isinstance(cost, costs.FunctionTaskCost):
            raise ControllerError(f"the agent's cost is {type(cost).__name__}: expected one made by mpc.cost(function, ...).")
        known = dict(cost.parameters)
        for name, value in parameters.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=2) or sorted(known)
                raise ControllerError(f"the cost has no parameter {name!r}. Did you mean {' or '.join(near)}?")
            given = jnp.asarray(value, jnp.float32)
            if given.shape != known[name].shape or not bool(jnp.isfinite(given).all()):
                raise ControllerError(f"{name}={value}: expected finite numbers of shape {known[name].shape}.")
            known[name] = given
        self._drive_by(replace(cost, parameters=known))

    def step(self, observation: Any, time: float) -> ControlDecision:
        """The action to send now. Never raises; the action is finite, inside the box and within `rate` of the last one.

        Args:
          observation: name -> array, as the spec names them.
          time: seconds on any clock that goes forward.
        """
        began = clock.perf_counter()
        faults: list[str] = []
        action, plan, slices, rung = None, None, 0, Rung.SAFE
        try:
            elapsed = self._elapsed(time, faults)
            readable = self._perceive(observation, elapsed, faults)
            plan, action, slices = self._plan_now(readable, elapsed, faults, self._decisions, began)
            rung = Rung.PLAN
            if action is None:
                rung, action = self._descend(observation, elapsed, faults)
        except Exception as error:
            faults.append(f"{type(error).__name__}: {error}"[:200])
            self._latent = None
            action, rung = self._safe(observation, faults), Rung.SAFE
        planning = clock.perf_counter() - began
        action = self._limited(action)
        self._sent.append(action)
        self._decisions += 1
        self.counts.update([rung.name, *faults])
        total = clock.perf_counter() - began
        return ControlDecision(action.copy(), ControlStatus(rung, tuple(faults)), plan, Timing(total, planning, slices))

    def close(self) -> None:
        """Nothing is held; for symmetry with controllers that do."""

    def _forget(self) -> None:
        nothing = np.clip(np.zeros_like(self.low), self.low, self.high)
        self._sent: deque[np.ndarray] = deque([nothing] * (self._pending + 1), maxlen=self._pending + 1)
        self._latent: Any = None
        self._state: Any = None
        self._plan: np.ndarray | None = None
        self._age = 0.0  # model steps since the last good plan
        self._time: float | None = None
        self._blind = 0

    def _drive_by(self, cost: Any) -> None:
        self.agent = replace(self.agent, cost=cost)
        self._flat = pack(self.agent)

    def _elapsed(self, time: Any, faults: list[str]) -> float:
        """Model steps since the last call: one period where the stamp cannot be used."""
        usual = self.settings.period / self.spec.seconds_per_step
        try:
            now = float(time)
        except (TypeError, ValueError):
            now = float("nan")
        if not np.isfinite(now):
            faults.append("time not finite")
            return usual
        last, self._time = self._time, now
        if last is None:
            return 0.0
        elapsed = (now - last) / self.spec.seconds_per_step
        if elapsed < 0:
            faults.append("time went backwards")
            return 0.0
        if elapsed == 0:
            faults.append("time repeated")
        elif elapsed > 1.5 * usual:
            faults.append("ticks missed")
        return elapsed

    def _perceive(self, observation: Any, elapsed: float, faults: list[str]) -> bool:
        """Move the latent to now; False where neither observation nor prediction may be trusted."""
        arrays, fault = self._watch.read(observation)
        if self._latent is None:
            if arrays is None:
                faults.append(fault or "no observation")
                return False
            self._latent = programs.fresh(*self._flat, arrays)
            self._blind = 0
            return True
        if arrays is not None and not 0.5 <= elapsed <= 1.5:  # not one model step: the prediction has nothing to say of it
            self._latent = programs.fresh(*self._flat, arrays)
            self._blind = 0
            return True
        stand_in = arrays if arrays is not None else self._watch.last
        if stand_in is None:
            stand_in = {name: np.zeros(shape, np.float32) for name, shape in self.spec.observation}
        percept = programs.perceive(*self._flat, self._latent, self._sent[0], stand_in)
        if arrays is not None:
            fault = self._watch.doubt(float(percept.error), float(percept.change))
        if fault is None:
            self._latent, self._blind = percept.observed, 0
            return True
        faults.append(fault)
        self._blind += 1
        self._latent = percept.predicted
        if self._blind > self.settings.bridge:
            faults.append("too long without an observation")
            if arrays is not None:  # it may be the world that has changed: believe again
                self._latent = percept.observed
            return fault == "observation out of distribution"
        return True

    def _plan_now(self, usable: bool, elapsed: float, faults: list[str], decision: int, began: float | None):
        """The plan, its first action and the slices it took; None for the first two where there is no sound plan."""
        self._age += elapsed
        if not usable:
            return None, None, 0
        began = clock.perf_counter() if began is None else began
        deadline = self.settings.deadline
        limits = (self._planner_rate, self._sent[-1])
        state = programs.cold(*self._flat, *limits) if self._state is None else self._state
        start = clock.perf_counter()
        latent = self._latent
        if self._pending:
            latent = programs.ahead(*self._flat, latent, np.stack(list(self._sent)[1:]))
        search = programs.begin(
            *self._flat, latent, state, np.float32(elapsed), *limits, np.uint32(self.settings.seed), np.uint32(decision)
        )
        jax.block_until_ready(search)
        self._begin_seconds = clock.perf_counter() - start
        slices = 0
        for _ in range(self.agent.planner.iterations):
            start = clock.perf_counter()
            left = float("inf") if deadline is None else deadline - (start - began)
            if slices and left < SLACK * (self.step_seconds + self._finish_seconds):
                break
            search = jax.block_until_ready(programs.improve(*self._flat, search, *limits))
            took = clock.perf_counter() - start
            self.step_seconds = 0.9 * self.step_seconds + 0.1 * took if self.step_seconds else took
            slices += 1
        start = clock.perf_counter()
        plan, actions, state, sound = programs.finish(*self._flat, search, *limits)
        sound, actions = bool(sound), np.asarray(actions)
        self._finish_seconds = clock.perf_counter() - start
        if not sound or int(plan.status) == planners.Status.NO_FINITE_CANDIDATE:
            faults.append("no sound plan")
            self._state, self._latent = None, None
            return None, None, slices
        self._state, self._plan, self._age = state, actions, 0.0
        return plan, actions[0], slices

    def _descend(self, observation: Any, elapsed: float, faults: list[str]) -> tuple[Rung, Any]:
        """The rungs below a fresh plan."""
        index = round(self._age)
        if self._plan is not None and index < min(len(self._plan), self.settings.lifetime + 1):
            return Rung.SHIFTED, self._plan[index]
        if self.agent.policy is not None and self._latent is not None and self._blind <= self.settings.bridge:
            action = np.asarray(programs.react(*self._flat, self._latent))
            if np.isfinite(action).all():
                return Rung.POLICY, action
            faults.append("policy not finite")
        return Rung.SAFE, self._safe(observation, faults)

    def _safe(self, observation: Any, faults: list[str]) -> Any:
        if self.settings.safe == "hold":
            return self._sent[-1]
        if callable(self.settings.safe):
            try:
                action = np.asarray(self.settings.safe(observation), np.float32)
                if action.shape == self.low.shape:
                    return action
                faults.append(f"safe action of shape {action.shape}")
            except Exception as error:
                faults.append(f"safe action failed ({type(error).__name__})")
        return np.zeros_like(self.low)

    def _limited(self, action: Any) -> np.ndarray:
        """Inside the box and within the rate of what was sent last; what is not finite becomes what was sent last."""
        last = self._sent[-1]
        action = np.asarray(action, np.float32)
        action = np.clip(np.where(np.isfinite(action), action, last), self.low, self.high)
        if self.rate is not None:
            action = np.clip(action, last - self.rate, last + self.rate)
        return action.astype(np.float32)
