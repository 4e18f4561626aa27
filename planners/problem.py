"""The optimal-control problem: the only thing a planner knows.

    minimise  J(a_0 … a_{H-1}) = Σ_t D_t · cost(s_t, a_t, t) + D_H · terminal_cost(s_H)
    where     s_{t+1} = dynamics(s_t, a_t, z_t),   D_0 = 1,   D_{t+1} = D_t · discount · continues(s_t, a_t)

over actions in a box or a finite set, in one or several futures z, under optional constraints <= 0.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from planners.actions import Box, Discrete
from planners.errors import ActionSpaceError, ProblemShapeError, SettingError
from planners.pytree import pytree, static

Latent = PyTree[Array]
Action = Array
Step = Array


@runtime_checkable
class Cost(Protocol):
    """A running cost that can be taken apart for reports; itself a pytree."""

    def __call__(self, latent: Latent, action: Action, step: Step) -> Float[Array, ""]: ...

    def terms(self, latent: Latent, action: Action, step: Step) -> dict[str, Float[Array, ""]]:
        """Named parts that sum to the cost."""
        ...

    def residuals(self, latent: Latent, action: Action, step: Step) -> Float[Array, " R"] | None:
        """r with cost = ½ Σ r², for Gauss-Newton; None where the cost is no sum of squares."""
        ...


@pytree
class FunctionCost:
    """A plain function as a `Cost` of one term."""

    function: Callable[..., Float[Array, ""]]

    def __call__(self, latent, action, step):
        return self.function(latent, action, step)

    def terms(self, latent, action, step):
        return {"cost": self(latent, action, step)}

    def residuals(self, latent, action, step):
        return None


class Distribution(Protocol):
    """What a proposal (a policy) says of the next action; with `mean` and `scale` where continuous, `logits` [n] where discrete."""

    def sample(self, *, key: Array) -> Action: ...

    def log_prob(self, action: Action) -> Float[Array, ""]: ...


class Risk(NamedTuple):
    """Mean of the worst `fraction` of the futures: conditional value at risk (Rockafellar & Uryasev 2000)."""

    fraction: float

    def __call__(self, costs: Float[Array, "*N M"]) -> Float[Array, "*N"]:
        """A cost per plan from its cost in each of M futures; a non-finite future is infinitely bad."""
        costs = jnp.where(jnp.isfinite(costs), costs, jnp.inf)
        futures = costs.shape[-1]
        worst = max(1, math.ceil(self.fraction * futures - 1e-9))  # 0.07 · 100 is a little more than 7 in floats
        if worst == futures:
            return costs.mean(-1)
        return jax.lax.top_k(costs, worst)[0].mean(-1)


MEAN = Risk(1.0)
WORST = Risk(0.0)


def cvar(fraction: float) -> Risk:
    """Average over the worst `fraction` of the futures, 0 < fraction <= 1."""
    if not 0 < fraction <= 1:
        raise SettingError(f"cvar({fraction}): expected a fraction in (0, 1].")
    return Risk(float(fraction))


class Scores(NamedTuple):
    """How N candidate plans did in M futures."""

    cost: Float[Array, "N M"]
    violation: Float[Array, "N M"]  # largest constraint value above zero along the trajectory


def zero_terminal(latent: Latent) -> Float[Array, ""]:
    """No cost beyond the horizon."""
    return jnp.zeros(())


def never_ends(latent: Latent, action: Action) -> Float[Array, ""]:
    """An episode without termination."""
    return jnp.ones(())


@pytree
class Problem:
    """See the module's head for the objective. Every field but `risk` is traced: new values never compile again.

    A plain function becomes part of the program (`jax.tree_util.Partial`), a bound method `model.predict` becomes
    its function with `model` as data. Use either; avoid lambdas built anew for every decision, which compile anew.

    Attributes:
      dynamics: (latent, action, noise) -> latent.
      cost: (latent, action, step) -> scalar, or a `Cost`.
      actions: `Box(low, high)` or `Discrete(n)`.
      terminal_cost: (latent) -> scalar; a critic, a goal distance, or zero.
      continues: (latent, action) -> [0, 1], the probability that the episode goes on.
      discount: scalar in (0, 1].
      noise: [M, H, ...] shared by all candidates, one row a future; None where the dynamics are deterministic.
      proposal: (latent) -> Distribution, a policy to seed the search, or None.
      constraints: (latent, action, step) -> [C], satisfied when <= 0, or None.
      risk: how M futures make one cost: `MEAN`, `WORST` or `cvar(fraction)`.
    """

    dynamics: Callable[[Latent, Action, Any], Latent]
    cost: Cost | Any
    actions: Box | Discrete
    terminal_cost: Callable[[Latent], Float[Array, ""]] = zero_terminal
    continues: Callable[[Latent, Action], Float[Array, ""]] = never_ends
    discount: Float[Array, ""] | Any = 1.0
    noise: Array | None = None
    proposal: Callable[[Latent], Distribution | Any] | None = None
    constraints: Callable[[Latent, Action, Step], Float[Array, " C"]] | None = None
    risk: Risk = static(default=MEAN)

    def __post_init__(self):
        for name in ("dynamics", "terminal_cost", "continues", "proposal", "constraints"):
            object.__setattr__(self, name, as_pytree(getattr(self, name)))
        if not isinstance(self.cost, Cost):
            object.__setattr__(self, "cost", FunctionCost(as_pytree(self.cost)))
        try:
            object.__setattr__(self, "discount", jnp.asarray(self.discount, jnp.float32))
        except (TypeError, ValueError) as error:
            raise SettingError(f"discount={self.discount!r}: expected a number in (0, 1].") from error
        if not callable(self.risk):
            raise SettingError(f"risk={self.risk!r}: expected planners.MEAN, planners.WORST or planners.cvar(fraction).")
        if not isinstance(self.actions, Box | Discrete):
            raise ActionSpaceError(f"actions={self.actions!r}: expected planners.Box(low, high) or planners.Discrete(n).")
        if not isinstance(self.discount, Tracer) and not 0 < float(self.discount) <= 1:
            raise SettingError(f"discount={float(self.discount)}: expected a number in (0, 1].")

    @property
    def differentiable(self) -> bool:
        """False where the dynamics leave JAX, as a simulator's do: gradient planners refuse such a problem."""
        return True

    def futures(self, horizon: int) -> Array:
        """The noise as [M, H, ...]; shape [1, H, 0] where there is none."""
        if self.noise is None:
            return jnp.zeros((1, horizon, 0))
        return self.noise

    def accumulate(self, latent: Latent, action: Action, step: Step, total: Array, weight: Array, violation: Array):
        """One step of the sum for J: what is carried on after paying for `(s_t, a_t)`. Ended episodes cost nothing.

        `total`, `weight` (D_t) and `violation` start as 0, 1 and 0. `conclude` ends the sum.
        """
        ended = weight == 0
        total = total + jnp.where(ended, 0.0, weight * self.cost(latent, action, step))
        if self.constraints is not None:
            worst = jnp.max(self.constraints(latent, action, step), initial=0.0)
            violation = jnp.maximum(violation, jnp.where(ended, 0.0, worst))
        weight = jnp.where(ended, 0.0, weight * self.discount * self.continues(latent, action))
        return total, weight, violation

    def conclude(self, latent: Latent, total: Array, weight: Array) -> Float[Array, ""]:
        """J, from the sum over the running costs and the last latent s_H.

        NaN where s_H holds one: a model that broke down on the way must not pass for a cheap one because the cost looks elsewhere.
        """
        inexact = [x for x in jax.tree.leaves(latent) if jnp.issubdtype(x.dtype, jnp.inexact)]
        broken = jnp.any(jnp.stack([jnp.isnan(x).any() for x in inexact])) if inexact else False
        end = jnp.where(broken, jnp.nan, self.terminal_cost(latent))
        return total + jnp.where(weight == 0, 0.0, weight * end)

    def score(self, latent: Latent, actions: Array, noise: Array) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """J and violation of one plan [H, ...] in one future [H, ...]; differentiable."""

        def step(carry, inputs):
            latent, total, weight, violation = carry
            action, noise, t = inputs
            total, weight, violation = self.accumulate(latent, action, t, total, weight, violation)
            return (self.dynamics(latent, action, noise), total, weight, violation), None

        start = (latent, jnp.zeros(()), jnp.ones(()), jnp.zeros(()))
        (latent, total, weight, violation), _ = jax.lax.scan(step, start, (actions, noise, jnp.arange(actions.shape[0])))
        return self.conclude(latent, total, weight), violation

    def rollout(self, latent: Latent, actions: Array, noise: Array) -> Scores:
        """Scores of N plans [N, H, ...] in M futures [M, H, ...]. A simulator overrides this with whole batches."""
        over_futures = jax.vmap(self.score, in_axes=(None, None, 0))
        return Scores(*jax.vmap(over_futures, in_axes=(None, 0, None))(latent, actions, noise))

    def unroll(self, latent: Latent, actions: Array, noise: Array) -> Latent:
        """The latents s_0 … s_H, [H+1, ...], of one plan in one future."""

        def step(latent, inputs):
            following = self.dynamics(latent, *inputs)
            return following, following

        _, following = jax.lax.scan(step, latent, (actions, noise))
        return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), latent, following)

    def terms(self, latents: Latent, actions: Array) -> dict[str, Float[Array, ""]]:
        """Each named term of J along latents [H+1, ...], discounted, `terminal` among them."""
        states = jax.tree.map(lambda x: x[:-1], latents)

        def decay(weight, at):
            return jnp.where(weight == 0, 0.0, weight * self.discount * self.continues(*at)), weight

        last_weight, weights = jax.lax.scan(decay, jnp.ones(()), (states, actions))
        terms = jax.vmap(self.cost.terms)(states, actions, jnp.arange(actions.shape[0]))
        summed = {name: jnp.where(weights == 0, 0.0, weights * value).sum() for name, value in terms.items()}
        last = jax.tree.map(lambda x: x[-1], latents)
        return {**summed, "terminal": self.conclude(last, jnp.zeros(()), last_weight)}

    def check(self, latent: Latent, horizon: int) -> None:
        """Trace every part once, without computing, and raise `ProblemShapeError` naming the one that is wrong."""
        action = jax.ShapeDtypeStruct(self.actions.shape, jnp.int32 if isinstance(self.actions, Discrete) else jnp.float32)
        noise = self.futures(horizon)
        if noise.ndim < 2 or noise.shape[0] < 1 or noise.shape[1] != horizon:
            raise ProblemShapeError(
                f"noise has shape {noise.shape}: expected [M, {horizon}, ...], one entry per future and model step."
            )
        step = jax.ShapeDtypeStruct((), jnp.int32)
        following = _trace("dynamics", self.dynamics, latent, action, jax.ShapeDtypeStruct(noise.shape[2:], noise.dtype))
        given, got = _shapes(latent), _shapes(following)
        if given != got:
            raise ProblemShapeError(
                f"dynamics turned a latent of shapes {given} into {got}: expected the same structure and dtypes."
            )
        for name, value in (
            ("cost", _trace("cost", self.cost, latent, action, step)),
            ("terminal_cost", _trace("terminal_cost", self.terminal_cost, latent)),
            ("continues", _trace("continues", self.continues, latent, action)),
        ):
            if getattr(value, "shape", None) != ():
                raise ProblemShapeError(f"{name} returned {_shapes(value)}: expected one scalar. Sum or index what it returns.")
        if self.constraints is not None:
            value = _trace("constraints", self.constraints, latent, action, step)
            if getattr(value, "ndim", None) != 1:
                raise ProblemShapeError(f"constraints returned {_shapes(value)}: expected a vector [C], satisfied when <= 0.")
        if self.proposal is not None:
            key = jax.eval_shape(lambda: jax.random.key(0))
            value = _trace("proposal", lambda latent, key: self.proposal(latent).sample(key=key), latent, key)  # type: ignore[misc]
            if getattr(value, "shape", None) != action.shape:
                raise ProblemShapeError(f"proposal sampled {_shapes(value)}: expected one action of shape {action.shape}.")


def _trace(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Shapes of what `function` returns; whatever it raises is named and passed on."""
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:
        given = "; ".join(_shapes(argument) for argument in arguments)
        raise ProblemShapeError(f"{name} failed when called with arrays of {given}: {error}") from error


def as_pytree(function: Any) -> Any:
    """Plain functions and bound methods as pytrees whose state is data; anything else as it is."""
    if inspect.ismethod(function):
        return jax.tree_util.Partial(function.__func__, function.__self__)
    if inspect.isfunction(function):
        return jax.tree_util.Partial(function)
    return function


def _shapes(tree: PyTree) -> str:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return ", ".join(f"{jax.tree_util.keystr(path)}{jnp.result_type(x)}{list(jnp.shape(x))}" for path, x in leaves)
