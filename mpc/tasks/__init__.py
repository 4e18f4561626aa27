"""What the dm_control tasks ask for, as costs in physical units: minus the environment's reward for one of its steps.

Beside them stand tasks that dm_control does not have: running backwards and flipping, costs of the same kind and range.

A cost is a function `(readout, action, step) -> scalar`, one file per body, for `mpc.cost`. An environment rewards the state that
an action led to; a planner charges the state it starts from, and the last one as terminal cost, so both sum over the same states.
With action repeat the environment sums the rewards of all frames; the cost is that of one, at the decision.
"""

import difflib
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mpc.costs import CostError
from mpc.tasks import ball_in_cup, cartpole, cheetah, finger, hopper, pendulum, reacher, walker
from mpc.tasks.tolerance import tolerance

BODIES: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (ball_in_cup, cartpole, cheetah, finger, hopper, pendulum, reacher, walker)
}
TASKS = {
    "ball_in_cup.catch": ball_in_cup.catch,
    "cartpole.balance": cartpole.balance,
    "cartpole.balance_sparse": cartpole.balance_sparse,
    "cartpole.swingup": cartpole.swingup,
    "cartpole.swingup_sparse": cartpole.swingup_sparse,
    "cheetah.flip": cheetah.flip,
    "cheetah.run": cheetah.run,
    "cheetah.run_backwards": cheetah.run_backwards,
    "finger.spin": finger.spin,
    "hopper.hop": hopper.hop,
    "hopper.stand": hopper.stand,
    "pendulum.swingup": pendulum.swingup,
    "reacher.easy": reacher.easy,
    "reacher.hard": reacher.hard,
    "walker.run": walker.run,
    "walker.run_backwards": walker.run_backwards,
    "walker.stand": walker.stand,
    "walker.walk": walker.walk,
}

__all__ = ["BODIES", "TASKS", "lookup", "quantities", "tolerance"]


def lookup(name: str) -> Callable[..., Any]:
    """The cost function of a task, by its name ("cartpole.swingup") or environment id ("dm_control/cartpole-swingup-v0").

    Raises `CostError` with near matches.
    """
    task = _bare(name)
    if task not in TASKS:
        near = difflib.get_close_matches(task, TASKS, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(TASKS)}."
        raise CostError(f"no cost named {name!r}. {hint}")
    return TASKS[task]


def quantities(name: str) -> Callable[..., Any] | None:
    """What a body's simulator reads out, by task name or environment id; None for a body that is not in the library."""
    body = BODIES.get(_bare(name).partition(".")[0])
    return None if body is None else body.quantities


def _bare(name: str) -> str:
    """A name or environment id as `body.task`."""
    return re.sub(r"-v\d+$", "", name.removeprefix("dm_control/")).replace("-", ".", 1)
