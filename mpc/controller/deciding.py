"""One decision, as a function of the memory, the inputs and the circumstances, so that it can be made again from a record.

Circumstances are what no memory can tell: how much time there was, what failed, what the planning thread had ready.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from mpc.controller import programs
from mpc.controller.robot import Course, Look, Memory, Rules
from mpc.controller.searching import Request, Searched, request
from mpc.controller.settings import Rung

SYMPTOMS = ("no sound plan", "prediction not finite", "policy not finite")  # of parameters that are not finite
REPLACED = "a subgoal was out of reach and is replaced"
DAMAGED = "parameters not finite: the last good ones are restored"


class Failure(Exception):
    """A stage of the decision that raised."""


class Mind(NamedTuple):
    """Who decides: rules, the planning agent and its policy as (leaves, structure); `lead` model steps from thought to plan.

    `tolerance` is that of an `mpc.MixedAgent`; None for agents that always plan, or never.
    """

    rules: Rules
    flat: Any
    reflex: Any  # None without a policy
    plans: bool
    lead: int
    tolerance: float | None = None


class Arrival(NamedTuple):
    """A plan from the planning thread, what it was made from, and the weights; or what went wrong."""

    request: Request | None
    searched: Searched | None
    fault: str | None = None


class Circumstances(Protocol):
    """Live ones note what happened in `events`, replayed ones are given them."""

    def attempt(self, stage: str, action: Callable[[], Any]) -> Any:
        """What `action` returns; `Failure` where it raised."""
        ...

    def search(self, request: Request) -> Searched: ...

    def arrivals(self, request: Request | None) -> list[Arrival]:
        """Ask the planning thread for a plan by `request`, and take what it has finished."""
        ...

    def safe(self, action: Callable[[], tuple[Any, str | None]]) -> tuple[Any, str | None]:
        """The safe action, which may be a user's function, and what is wrong with it."""
        ...


class Outcome(NamedTuple):
    """A decision before its limits, and what is remembered. `reacted`: by Mode-1, not for want of a plan."""

    memory: Memory
    rung: Rung
    action: Any
    plan: Any
    slices: int
    planning: float
    faults: list[str]
    damaged: bool
    reacted: bool = False


def decide(
    mind: Mind, memory: Memory, observation: Any, time: Any, given: Circumstances, number: int, generation: int
) -> Outcome:
    """Perceive, plan, and fall down the ladder where something fails. Where deciding itself fails, nothing is believed."""
    try:
        return given.attempt("controller", lambda: _decide(mind, memory, observation, time, given, number, generation))
    except Failure as failure:  # of what is caught nowhere else; nothing is known to be
        action, wrong = given.safe(lambda: mind.rules.safe(memory, observation))
        faults = [str(failure), wrong] if wrong else [str(failure)]
        return Outcome(memory._replace(latent=None, warm=None), Rung.SAFE, action, None, 0, 0.0, faults, False)


def _decide(mind, memory, observation, time, given, number, generation) -> Outcome:
    faults: list[str] = []
    memory, elapsed = mind.rules.clocked(memory, time, faults)
    try:
        memory, usable, reaction = given.attempt("perception", lambda: _perceive(mind, memory, observation, elapsed, faults))
    except Failure as failure:
        faults.append(str(failure))
        memory, usable, reaction = memory._replace(latent=None), False, None
    if mind.plans and mind.tolerance is not None and usable and memory.blind == 0:
        reaction = _agreed(mind, memory, number, given, faults)
        mind = mind._replace(plans=reaction is None)
    plan, slices, planning, fresh = None, 0, 0.0, 0
    if mind.plans:
        asked = request(mind.rules, memory, number, lead=mind.lead, generation=generation) if usable else None
        if mind.rules.settings.asynchronous:
            memory, plan = _receive(memory, given.arrivals(asked), faults)
            fresh = 2 * mind.lead + 1
        elif asked is not None:
            memory, searched = _plan(memory, asked, given, faults)
            if searched is not None:
                plan, slices, planning = searched.plan, searched.slices, searched.seconds
    planned = plan is not None if not mind.rules.settings.asynchronous else _on_time(mind, memory, fresh, faults)
    rung, action = _act(mind, memory, reaction, planned, fresh, given, faults)
    if rung is Rung.SAFE:
        action, fault = given.safe(lambda: mind.rules.safe(memory, observation))
        faults.extend([fault] if fault else [])
    damaged = any(fault in SYMPTOMS for fault in faults) and not bool(programs.finite(mind.flat[0]))
    if damaged:
        faults.append(DAMAGED)
    return Outcome(memory, rung, action, plan, slices, planning, faults, damaged, rung is Rung.POLICY and not mind.plans)


def _perceive(mind: Mind, memory: Memory, observation: Any, elapsed: float, faults: list[str]):
    """The memory with the latent moved to now, whether to plan from it, and the policy's action where it costs nothing."""
    memory, view = mind.rules.look(memory, observation, elapsed)
    if view.look is Look.LOST:
        faults.append(view.fault or "no observation")
        return memory, False, None
    if view.look is Look.FRESH:
        return memory._replace(latent=programs.fresh(*mind.flat, mind.rules.watch.arrays(view.flat)), blind=0), True, None
    given, reaction = mind.rules.packed(memory, view), None
    if mind.plans or mind.reflex is None:
        percept = programs.perceive(*mind.flat, memory.latent, given)
    else:
        percept = programs.reflex(*mind.reflex, memory.latent, given)
    error, change, *actions = np.asarray(percept.scores).tolist()
    memory, believe, usable = mind.rules.judge(memory, view, error, change, faults)
    if actions:
        half = len(actions) // 2
        reaction = np.array(actions[:half] if believe else actions[half:], np.float32)
    if not math.isfinite(error):
        return memory._replace(latent=None), False, reaction
    return memory._replace(latent=percept.observed if believe else percept.predicted), usable, reaction


def _agreed(mind: Mind, memory: Memory, number: int, given: Circumstances, faults: list[str]) -> Any:
    """The policy's action where the critic finds nothing clearly better, else None."""
    asked = (memory.latent, memory.sent[1:], np.float32(mind.tolerance), np.uint32(mind.rules.settings.seed), np.uint32(number))
    try:
        said = given.attempt("critic", lambda: np.asarray(programs.judge(*mind.flat, *asked)))
    except Failure as failure:
        faults.append(str(failure))
        return None
    return said[:-1] if said[-1] else None


def _plan(memory: Memory, asked: Request, given: Circumstances, faults: list[str]) -> tuple[Memory, Searched | None]:
    try:
        searched = given.attempt("planner", lambda: given.search(asked))
    except Failure as failure:
        faults.append(str(failure))
        return memory._replace(warm=None), None
    if not searched.sound:
        faults.append("no sound plan")
        return memory._replace(warm=None, latent=None), None
    faults.extend([REPLACED] if searched.replaced else [])
    course = Course(searched.actions, asked.start, asked.number)
    return memory._replace(warm=searched.warm, planned=asked.start, course=course), searched


def _receive(memory: Memory, arrivals: list[Arrival], faults: list[str]) -> tuple[Memory, Any]:
    """Put what the planning thread finished in its place; the plan that arrived last is returned too."""
    plan = None
    for arrival in arrivals:
        if arrival.fault is not None:
            faults.append(arrival.fault)
        elif arrival.searched is not None and arrival.request is not None:
            if arrival.searched.sound:
                plan = arrival.searched.plan
                faults.extend([REPLACED] if arrival.searched.replaced else [])
                memory = memory._replace(coming=Course(arrival.searched.actions, arrival.request.start, arrival.request.number))
            else:
                faults.append("no sound plan")
    coming = memory.coming
    if coming is not None and memory.now >= coming.start - 0.5:
        memory = memory._replace(course=coming, coming=None)
    return memory, plan


def _on_time(mind: Mind, memory: Memory, fresh: int, faults: list[str]) -> bool:
    """Whether the course that the planning thread gave is no older than it takes to think of the next one."""
    if memory.course is None:
        faults.extend(["no plan yet"] if mind.plans else [])
        return False
    index = mind.rules.index(memory)
    return mind.plans and index <= fresh and index < len(memory.course.actions)


def _act(mind: Mind, memory: Memory, reaction: Any, planned: bool, fresh: int, given: Circumstances, faults: list[str]):
    """The rung and its action, best first; None for the safe action."""
    if planned:
        assert memory.course is not None
        return Rung.PLAN, memory.course.actions[mind.rules.index(memory)]

    def policy():
        if mind.reflex is None or reaction is not None:
            return reaction
        try:
            return given.attempt("policy", lambda: np.asarray(programs.react(*mind.reflex, memory.latent, memory.sent[1:])))
        except Failure as failure:
            faults.append(str(failure))
            return None

    return mind.rules.descend(memory if mind.plans else memory._replace(course=None), policy, fresh, faults)
