"""A replayed decision in words: what it saw, what it was after, what else it could have done, and why it did what it did."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mpc.controller.replay import Replay
from mpc.controller.settings import ControlStatus


def explain(replay: Replay) -> str:
    """Some lines on one decision: status, costs by term, candidates, and what the fallback saw."""
    return "\n".join(_lines(replay))


def _lines(replay: Replay) -> Iterator[str]:
    outcome, before = replay.outcome, replay.before
    yield f"decision {replay.number}: action {_numbers(replay.recorded)}"
    yield "  made again, the same bit for bit" if replay.identical else f"  made again it DIFFERS: {_numbers(replay.action)}"
    yield f"  {ControlStatus(outcome.rung, tuple(outcome.faults)).sentence}"
    limited = np.asarray(outcome.action, np.float32)
    if limited.shape == replay.action.shape and not np.array_equal(limited, replay.action):
        yield f"  limits made {_numbers(limited)} into {_numbers(replay.action)}; sent before: {_numbers(before.last)}"
    if replay.searched is None:
        yield "  no search was made or finished in this decision"
    else:
        yield from _search(replay.searched)
    yield from _fallback(replay)


def _search(searched: Any) -> Iterator[str]:
    plan = searched.plan
    yield f"  plan by {searched.slices} slices, {'sound' if searched.sound else 'NOT sound'}, cost {float(plan.cost):.4g}"
    for name, value in plan.terms.items():
        yield f"    {name:<12} {float(value):.4g}"
    costs = [f"{float(cost):.4g}" for cost in plan.diagnostics.best_cost if np.isfinite(cost)]
    yield f"    best cost by slice: {', '.join(costs) or 'none finite'}"
    order = np.argsort(-np.asarray(plan.weights))[:5]
    yield "  first actions of the heaviest candidates (normalised)"
    for index in order:
        yield f"    {float(plan.weights[index]):.2f}  {_numbers(np.atleast_1d(plan.candidates[index]))}"
    yield f"  actions planned: {'; '.join(_numbers(action) for action in searched.actions[:5])}"


def _fallback(replay: Replay) -> Iterator[str]:
    """What there was to fall back on."""
    before, memory = replay.before, replay.outcome.memory
    yield "  to fall back on"
    if before.course is None:
        yield "    no earlier plan"
    else:
        age = memory.now - before.course.start
        left = len(before.course.actions) - age
        yield f"    the plan of decision {before.course.number}, {age:.1f} model steps old, {max(0.0, left):.1f} left"
    blind = f", {memory.blind} calls without an observation that is believed" if memory.blind else ""
    yield f"    the policy: {'where the world is, is not known' if memory.latent is None else 'a latent is at hand'}{blind}"
    yield f"    sent last: {_numbers(before.last)}"


def _numbers(values: Any) -> str:
    return "[" + ", ".join(f"{float(value):.4g}" for value in np.ravel(values)) + "]"
