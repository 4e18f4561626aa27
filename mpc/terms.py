"""What tasks call their cost terms, and the costs that these names stand for."""

import difflib
import runpy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mpc import tasks as library
from mpc.costs import GoalCost, TaskCost, cost, goal, middle
from mpc.errors import ConfigurationError
from mpc.goals import within_reach
from mpc.intrinsic import Residual, effort, residual
from worldmodels.errors import SpecError
from worldmodels.spec import Spec

EFFORT, FILE = "effort", ".py"
GOALS: dict[type, str] = {GoalCost: "goal", Residual: "goal, in part"}
"""What the distance to a goal is called, by the kind of cost that `aim` makes of it."""


def term(name: str, own: Mapping[str, Any], spec: Spec) -> TaskCost:
    """The cost that a task calls `name`; `ConfigurationError` with near matches."""
    if name in own:
        return own[name] if isinstance(own[name], TaskCost) else cost(own[name])
    if name == EFFORT:
        return effort()
    if name.endswith(FILE):
        return cost_in(name)
    if name not in library.TASKS:
        known = [*own, EFFORT, *library.TASKS]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known)}."
        raise ConfigurationError(f"no cost named {name!r}. {hint}")
    body = name.partition(".")[0]
    if spec.environment.startswith("dm_control/") and not spec.environment.startswith(f"dm_control/{body}-"):
        raise ConfigurationError(f"cost {name!r} is for the body {body}, the model is of {spec.environment}.")
    return cost(library.TASKS[name])


def cost_in(path: str | Path) -> TaskCost:
    """The `cost` that a Python file defines, a function of (readout, action, step) or one of mpc's; the file is run."""
    if not Path(path).is_file():
        raise ConfigurationError(f"cost {path}: no such file.")
    try:
        defined = runpy.run_path(str(path)).get("cost")
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{path}: it cannot be run, {type(error).__name__}: {error}.") from error
    if isinstance(defined, TaskCost):
        return defined
    if not callable(defined):
        raise ConfigurationError(
            f"{path} defines no cost: expected def cost(readout, action, step), or cost = mpc.combine(...)."
        )
    return cost(defined)


def check_own(costs: Any) -> None:
    """`ConfigurationError` unless `costs` are terms by names that are free."""
    if not isinstance(costs, Mapping):
        raise ConfigurationError(f"costs={costs!r}: expected {{name: an mpc cost, or a function of (readout, action, step)}}.")
    for name, made in costs.items():
        if name in (*GOALS.values(), EFFORT, *library.TASKS):
            meant = "the distance to Task(goal=...)" if name in GOALS.values() else f"mpc's own {name}"
            raise ConfigurationError(f"costs[{name!r}]: this is the name of {meant}. Choose another one.")
        if isinstance(made, type) or not (isinstance(made, TaskCost) or callable(made)):
            raise ConfigurationError(
                f"costs[{name!r}]={made!r}: expected an mpc cost, or a function of (readout, action, step)."
            )


def aim(task: str, wanted: Mapping[str, Any], model: Any) -> GoalCost | Residual:
    """How far it is to a task's goal: in features, or where only some of what is observed is `wanted`, in what of it is read out.

    Of a goal beyond what the data reached, the nearest within, with a warning that tells the distance.
    """
    spec, normaliser = model.spec, getattr(model, "normaliser", None)
    some = set(wanted) < set(spec.names) and normaliser is not None
    whole = {**middle(model), **wanted} if some else wanted
    try:
        spec.check_observation(whole)
    except SpecError as error:
        raise ConfigurationError(f"task {task!r}: its goal does not suit the model: {error}") from error
    reached = within_reach(model, dict(whole), f"task {task!r}: its goal")
    near = {each: np.asarray(reached[each], np.float32) for each in spec.names}
    if normaliser is None or not some:
        return goal(near, action_weight=0.0)
    told = jax.eval_shape(lambda seen: model.readout(model.start(seen)), middle(model))
    if not set(wanted) <= set(told):
        raise ConfigurationError(
            f"task {task!r}: its goal is {sorted(wanted)}, some of what is observed: expected some of what the model reads out, "
            f"{sorted(told)}, or all of {sorted(spec.names)}."
        )
    names = tuple(name for name, _ in spec.vectors if name in told)
    counts = {name: (name in wanted) / scale for name, scale in spec.unflatten(normaliser.scale[...]).items()}
    return residual(_Missed(names), wanted=_row(near, names), counts=_row(counts, names))


@dataclass(frozen=True)
class _Missed:
    """Standard deviations of the data between what is read out and what is wanted of it; where it does not matter, `counts` is 0."""

    names: tuple[str, ...]

    def __call__(self, readout, action, step, *, wanted, counts):
        return counts * (_row(readout, self.names) - wanted)


def _row(values: Mapping[str, Any], names: tuple[str, ...]) -> Array:
    """What is named, side by side."""
    return jnp.concatenate([jnp.ravel(values[name]) for name in names])
