"""Receding-horizon control for a loop that must not stop: always an action, within limits, in time.

Each call of `step` perceives, plans until the deadline, and falls down a ladder where something fails: fresh plan, the last good
plan shifted in time, the policy, a safe action. The status names the rung and every fault.
"""

import copy
import threading
import weakref
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import planners
from mpc.controller import programs
from mpc.controller.circumstances import Live
from mpc.controller.clocks import SimulatedClock, WallClock, settle
from mpc.controller.configuring import Acting
from mpc.controller.deciding import Mind, decide
from mpc.controller.recorder import FlightRecorder
from mpc.controller.robot import Look, Rules, View, seconds
from mpc.controller.searching import request
from mpc.controller.settings import ControllerSettings, ControlStatus, Rung
from mpc.controller.switching import Switching
from mpc.controller.thinking import PlanningThread, SimulatedThread, Thinker, lead
from mpc.errors import ControllerError
from mpc.storage import load_agent

NAMES = 1000  # of faults that are counted apart; error messages may differ without end


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


def count(counts: Counter[str], rung: Rung, faults: list[str]) -> None:
    """Add a decision to `counts`, which stay bounded."""
    for name in (rung.name, *faults):
        name = name.partition(":")[0] if "failed (" in name else name
        counts[name if name in counts or len(counts) < NAMES else "other faults"] += 1


class Controller(Switching):
    """Runs an agent in real time: a `PlanningAgent`, a `PolicyAgent`, which never plans, or a `MixedAgent`, which plans in doubt.

        controller = mpc.Controller.load("runs/agent", planner, mpc.ControllerSettings(period=0.02, deadline=0.015))
        controller.warm_up()
        controller.reset()
        decision = controller.step(observation, time)

    Attributes:
      plans: whether to plan (Mode-2) or to act by the policy alone (Mode-1); may be changed at any time, and heeded where there are both.
      counts: decisions by rung's name and faults by their words, since construction.
      reacted: decisions in which Mode-1 sufficed: the policy's, and not for want of a plan.
    """

    def __init__(
        self,
        agent: Acting,
        settings: ControllerSettings,
        *,
        recorder: FlightRecorder | None = None,
    ):
        if not isinstance(agent, Acting):
            raise ControllerError(
                f"agent={type(agent).__name__}: expected an mpc.PlanningAgent, an mpc.PolicyAgent or an mpc.MixedAgent."
            )
        if not isinstance(settings, ControllerSettings):
            raise ControllerError(f"settings={type(settings).__name__}: expected mpc.ControllerSettings.")
        settings.check(agent.model.spec)
        self.settings, self.spec, self.plans = settings, agent.model.spec, True
        self.rules = Rules(self.spec, settings, getattr(agent.model, "normaliser", None))
        self.clock = WallClock() if settings.simulated is None else SimulatedClock(settings.simulated)
        self._searchers = {}
        self._lead, self._thinker, self._generation, self._turn = 0, None, 0, threading.RLock()
        self.counts: Counter[str] = Counter()
        self.decisions = self.reacted = 0
        self.memory = self.rules.begin()
        self._become(agent)
        self.recorder = recorder
        if recorder is not None:
            recorder.begin(self)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        planner: planners.Planner | None,
        settings: ControllerSettings,
        *,
        cost: Any = None,
        record: str | Path | None = None,
    ):
        """A controller of the agent, model or policy in `folder`; typed errors for what is damaged or of another version.

        Without a planner it plans as `mpc.load_agent` says: a learned agent as it did while it learned. `record` is the folder of a flight recorder's log, which must not exist yet.
        """
        agent = load_agent(folder, planner, cost=cost)
        if record is None:
            return cls(agent, settings)
        return cls(agent, settings, recorder=FlightRecorder(record, agent=folder))

    def warm_up(self, repeats: int = 5) -> None:
        """Compile everything and learn what planning costs; afterwards nothing compiles.

        What lives by then is kept from Python's garbage collector for good, in the whole process (`gc.freeze`).

        Raises `ControllerError` where the deadline leaves no time for one slice, or the horizon ends before the plan is there.
        """
        self._check_cost()
        self._expect(self._rehearse(repeats))
        searcher = self.searcher
        if searcher is not None:
            self._afford(searcher.least)
            if self.settings.asynchronous:
                self._lead = lead(searcher, self.settings.deadline, self.spec.seconds_per_step)
                if searcher.planner.horizon <= 2 * self._lead + 1:
                    raise ControllerError(
                        f"a plan takes {searcher.usual:.3f} s here, {self._lead} model steps: expected a horizon of more than "
                        f"{2 * self._lead + 1} to follow while the next one is made. Plan further ahead, or with a deadline."
                    )
                self._expect(self._rehearse(1))
        self.reset()
        settle()

    def reset(self, observation: Any = None, *, sent: Any = None) -> None:
        """Forget plan and latent. `sent` is the action that the robot has now, zero if not given: the rate holds from there on.

        `SpecError` for an observation or an action that does not fit.
        """
        if observation is not None:
            self.spec.check_observation(observation)
        if sent is not None:
            self.spec.check_action(sent)
        with self._turn:
            self._generation += 1
            self.memory = self.rules.begin(sent, self.memory.seen)
            if self.settings.asynchronous and self._thinker is None and self.searcher is not None:
                self._thinker = self._new_thinker()

    def step(self, observation: Any, time: float) -> ControlDecision:
        """The action to send now. Never raises; the action is finite, inside the box and within `rate` of the last one.

        Called from two threads, one waits for the other.

        Args:
          observation: name -> array, as the spec names them.
          time: seconds on any clock that goes forward.
        """
        with self._turn:
            return self._step(observation, time)

    def _step(self, observation: Any, time: Any) -> ControlDecision:
        began = self.clock.decide(self.decisions)
        until = float("inf") if self.settings.deadline is None else began + self.settings.deadline
        before, mind, number = self.memory, self.mind(), self.decisions
        live = Live(mind, self.searcher, self._thinker, until, self._generation)
        stamp = seconds(time)
        outcome = decide(mind, before, observation, stamp, live, number, self._generation)
        action = self.rules.limited(outcome.memory, outcome.action)
        self.memory = self.rules.send(outcome.memory, action)
        self.decisions += 1
        self.reacted += outcome.reacted
        if outcome.damaged:
            self.flat, self.reflex = self.intact
        faults = outcome.faults
        if self.recorder is not None:
            fault = self.recorder.write(self, before, mind, observation, stamp, live.events, outcome, action, number)
            faults.extend([fault] if fault else [])
        count(self.counts, outcome.rung, faults)
        timing = Timing(self.clock.now() - began, outcome.planning, outcome.slices)
        return ControlDecision(action.copy(), ControlStatus(outcome.rung, tuple(faults)), outcome.plan, timing)

    def close(self) -> None:
        """Stop the planning thread and finish the log. `step` still answers afterwards, without new plans in asynchronous mode."""
        if self._thinker is not None:
            self._thinker.close()
        if self.recorder is not None:
            self.recorder.close()

    def __enter__(self):
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    @property
    def reacted_share(self) -> float:
        """Of all decisions since construction, those in which Mode-1 sufficed."""
        return self.reacted / max(self.decisions, 1)

    def mind(self) -> Mind:
        """Who decides, as of now."""
        plans = self.plans and self.searcher is not None
        return Mind(self.rules, self.flat, self.reflex, plans, self._lead, self.doubt)

    def _new_thinker(self) -> Thinker:
        assert self.searcher is not None
        if self.settings.simulated is not None:
            return SimulatedThread(self.searcher, self.settings.deadline, self.settings.period)
        thread = PlanningThread(self.searcher, self.settings.deadline)
        weakref.finalize(self, thread.close)
        return thread

    def _rehearse(self, repeats: int) -> Any:
        """Run every program a few times, on an observation of nothing; the middle durations are what is usual."""
        taken = []
        searcher, rules = copy.copy(self.searcher), self.rules
        for index in range(repeats + 1):
            memory = rules.begin()
            memory = memory._replace(latent=programs.fresh(*self.flat, rules.nothing))
            given = rules.packed(memory, View(Look.COMPARED, rules.zeros, None))
            percept = programs.perceive(*self.flat, memory.latent, given)
            memory = memory._replace(latent=percept.observed)
            if self.reflex is not None:
                jax.block_until_ready(
                    (
                        programs.reflex(*self.reflex, memory.latent, given),
                        programs.react(*self.reflex, memory.latent, memory.sent[1:]),
                    )
                )
            jax.block_until_ready(programs.finite(self.flat[0]))
            if self.doubt is not None:
                numbers = np.float32(self.doubt), np.uint32(rules.settings.seed), np.uint32(index)
                jax.block_until_ready(programs.judge(*self.flat, memory.latent, memory.sent[1:], *numbers))
            if searcher is None:
                continue
            for tick in range(2):
                searcher.begin = searcher.improve = searcher.finish = 0.0
                found = searcher.run(self.flat, request(rules, memory, 2 * index + tick, lead=self._lead))
                memory = memory._replace(warm=found.warm)
            taken.append((searcher.begin, searcher.improve, searcher.finish))
        return np.median(taken[1:] or taken, axis=0).tolist() if taken else None
