"""What an agent wants: costs written down by people, given as a goal, or learned from recorded rewards.

A `TaskCost` speaks of readouts and actions in physical units; `OnModel` turns it into a cost on a model's latents,
the only thing planners see.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from mpc.errors import CostError, MPCError
from mpc.goals import Seeking
from mpc.readouts import Readouts
from planners import pytree, static
from worldmodels.errors import WorldModelError
from worldmodels.simulator import Simulator
from worldmodels.spec import DiscreteAction


@runtime_checkable
class TaskCost(Protocol):
    """A cost before it is tied to a model. A pytree: new parameters or goals never compile again."""

    def running(self, model: Any, latent: PyTree, action: Array, step: Array) -> dict[str, Float[Array, ""]]:
        """Named terms that sum to the cost of one model step; `action` normalised."""
        ...

    def terminal(self, model: Any, latent: PyTree, step: int) -> Float[Array, ""]:
        """Cost of the latent a plan ends in."""
        ...


@pytree
class FunctionTaskCost:
    """`cost(function, **parameters)`: see there."""

    parameters: dict[str, Array]
    function: Callable[..., Float[Array, ""]] = static()

    def running(self, model, latent, action, step):
        action = model.spec.action.denormalise(action)
        return {"cost": jnp.asarray(self.function(Readouts(model.readout(latent)), action, step, **self.parameters))}

    def terminal(self, model, latent, step):
        return self.running(model, latent, no_action(model), jnp.asarray(step))["cost"]

    def changed(self, **values: Any) -> "FunctionTaskCost":
        """With other parameters of the same shapes; `CostError` with near matches for a name there is not."""
        return replace(self, parameters=updated(self.parameters, values, "parameter"))


def updated(known: Mapping[str, Array], values: Mapping[str, Any], what: str) -> dict[str, Array]:
    """`known` with `values` in the place of those of their names; `CostError` for an unknown name or another shape."""
    changed = dict(known)
    for name, value in values.items():
        if name not in changed:
            near = difflib.get_close_matches(name, changed, n=2) or sorted(changed)
            raise CostError(f"the cost has no {what} {name!r}. Did you mean {' or '.join(near)}?")
        given = finite(name, value)
        if given.shape != changed[name].shape:
            raise CostError(f"{name}={value}: expected finite numbers of shape {changed[name].shape}.")
        changed[name] = given
    return changed


def finite(name: str, value: Any) -> Array:
    """`value` as float32; `CostError`, naming it, unless all of it is finite numbers."""
    try:
        given = jnp.asarray(value, jnp.float32)
    except (TypeError, ValueError) as error:
        raise CostError(f"{name}={value!r}: expected finite numbers.") from error
    if not isinstance(given, Tracer) and not bool(jnp.isfinite(given).all()):
        raise CostError(f"{name}={value}: expected finite numbers.")
    return given


def no_action(model: Any) -> Array:
    """The middle of the action space, normalised: what the state that a plan ends in is charged with."""
    action = model.spec.action
    return jnp.zeros(action.shape, jnp.int32 if isinstance(action, DiscreteAction) else jnp.float32)


def middle(model: Any) -> dict[str, np.ndarray]:
    """An observation like those of the data: their mean, without a picture; of a simulator the robot as its model puts it."""
    observation, normaliser = model.spec.blank, getattr(model, "normaliser", None)
    if isinstance(model, Simulator):
        rest = model.engine.model.qpos0
        observation["state"][1 : 1 + len(rest)] = rest
    elif normaliser is not None:
        observation |= model.spec.unflatten(normaliser.inverse(np.zeros(model.spec.size, np.float32)))
    return {name: np.asarray(value) for name, value in observation.items()}


def cost(function: Callable[..., Any], **parameters: Any) -> FunctionTaskCost:
    """A cost from a plain function `function(readout, action, step, **parameters) -> scalar`, lower is better.

    `readout` maps names to arrays in physical units, `action` is in the environment's units, `step` counts model steps from
    now. Write it in `jax.numpy`. The function becomes part of the compiled program; `parameters` (numbers or arrays) are data:
    `cost(reach, target=x)` with a new x compiles nothing. The last state of a plan is charged too, with the middle action, so
    that the last action counts.

        mpc.cost(lambda readout, action, step: -readout["position"][1])
    """
    if not callable(function):
        raise CostError(f"cost({function!r}): expected a function of (readout, action, step).")
    return FunctionTaskCost({name: jnp.asarray(value, jnp.float32) for name, value in parameters.items()}, function)


@pytree
class LearnedCost:
    """The cost the model learned from recorded rewards (`model.cost`), in units of reward per model step."""

    def running(self, model, latent, action, step):
        return {"learned": model.cost(latent, action)}

    def terminal(self, model, latent, step):
        return jnp.zeros(())


@pytree
class GoalCost(Seeking):
    """Mean squared distance in the model's features to those of a goal observation, plus a small cost of action."""

    goal: dict[str, Array]
    action_weight: Float[Array, ""]

    def running(self, model, latent, action, step):
        distance = self.terminal(model, latent, step)
        effort = jnp.zeros(()) if model.spec.action.shape == () else self.action_weight * (action**2).mean()
        return {"goal": distance, "action": effort}

    def terminal(self, model, latent, step):
        goal = model.features(model.start(self.goal))
        return ((model.features(latent) - goal) ** 2).mean()


def goal(observation: dict[str, Any], *, action_weight: float = 0.01) -> GoalCost:
    """Reach what is seen in `observation` (as the environment would show it).

    Of a goal outside of what a model's data show the agent seeks the nearest within, and a `GoalWarning` tells the distance. Each
    component is held against the data by itself: a goal whose components were seen, but never together, passes, and the model may be
    wrong about it.
    """
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in observation.items()}
    return GoalCost(arrays, jnp.asarray(action_weight, jnp.float32))


@pytree
class Disagreement:
    """`disagreement()`: see there."""

    def running(self, model, latent, action, step):
        return {"disagreement": model.disagreement(latent, action)}

    def terminal(self, model, latent, step):
        return jnp.zeros(())


def disagreement() -> Disagreement:
    """How far the members of a model's ensemble are apart, in squared features: keeps plans where the model knows what happens.

    mpc.combine(task=(1.0, mpc.LearnedCost()), unknown=(0.5, mpc.disagreement()))
    """
    return Disagreement()


@pytree
class OnModel:
    """A task cost tied to a model: the `planners.Cost` of a problem whose latents are the model's."""

    model: Any
    task: TaskCost

    def __call__(self, latent, action, step):
        return sum(self.terms(latent, action, step).values(), start=jnp.zeros(()))

    def terms(self, latent, action, step):
        return self.task.running(self.model, latent, action, step)

    def residuals(self, latent, action, step):
        residuals = getattr(self.task, "residuals", None)
        return None if residuals is None else residuals(self.model, latent, action, step)


@pytree
class TerminalOnModel:
    """The task's terminal cost tied to a model."""

    model: Any
    task: TaskCost
    step: int = static()

    def __call__(self, latent):
        return self.task.terminal(self.model, latent, self.step)


def _learned_none(model: Any) -> bool:
    """Whether a model that scales costs has seen none but zeros: its scaling is as it was made."""
    scaling = getattr(model, "cost_normaliser", None)
    return scaling is not None and bool((scaling.mean[...] == 0).all() and (scaling.scale[...] == 1).all())


def check(model: Any, task: Any, observation: dict[str, Any], *, critic: Any = None) -> None:
    """Raise `CostError` unless `task` is a cost that gives one finite number at a real observation.

    A learned cost of data that held none but zeros is the same for every plan: it is refused, unless a `critic` tells plans apart.
    """
    if not isinstance(task, TaskCost):
        raise CostError(f"cost={task!r}: expected mpc.cost(function), mpc.goal(observation) or mpc.LearnedCost().")
    if isinstance(task, LearnedCost) and not hasattr(model, "cost"):
        raise CostError(f"{type(model).__name__} has no learned cost: write one with mpc.cost(function).")
    if isinstance(task, LearnedCost) and critic is None and _learned_none(model):
        raise CostError(
            "the model learned from data in which no cost but zero was paid, so that all plans cost it the same: "
            "train it on data with rewards, or say what to do with mpc.cost(function) or mpc.goal(observation)."
        )
    running = partial(task.running, model, action=no_action(model), step=jnp.zeros((), jnp.int32))
    latent = model.start(observation)
    try:
        jax.eval_shape(running, latent)
        terms = running(latent)
    except (MPCError, WorldModelError):
        raise
    except jax.errors.JAXTypeError as error:
        raise CostError(
            "the cost decides by a number, or converts one, that is not known before planning: "
            "use jax.numpy, and jnp.where(condition, a, b) in place of if."
        ) from error
    except Exception as error:  # whatever somebody's function raises
        raise CostError(
            f"the cost raised {type(error).__name__}: {str(error).rstrip('.')}. Expected a function (readout, action, step) of one number."
        ) from error
    for name, value in terms.items():
        if jnp.iscomplexobj(value):
            raise CostError(f"the cost's term {name!r} is complex: expected one real number.")
        if jnp.shape(value) != ():
            raise CostError(
                f"the cost's term {name!r} has shape {jnp.shape(value)}: expected one number. Index or sum what it returns."
            )
        if not bool(jnp.isfinite(value)):
            raise CostError(f"the cost's term {name!r} is {float(value)} at the first observation: expected a finite number.")
