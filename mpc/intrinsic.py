"""Intrinsic costs: fixed, differentiable parts of what an agent wants, and their weighted sum (LeCun 2022, section 3.2.1).

    C(s, a) = Σ_i w_i · norm_i(r_i(s, a))

as in MuJoCo MPC (Howell et al. 2022, section 3.1): every term is a norm of a residual and is reported by its name. Weights, targets
and bounds are data: new ones never compile again.

    cost = mpc.combine(
        upright=(1.0, mpc.reach("position", 1.0, index=1)),
        centred=(0.1, mpc.reach("position", 0.0, index=0)),
        on_the_rail=(10.0, mpc.within("position", -1.8, 1.8, index=0)),
        effort=(0.01, mpc.effort()),
    )
    gentler = cost.changed(effort=0.1)
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from mpc.costs import TaskCost, finite, no_action, updated
from mpc.errors import CostError
from mpc.readouts import Readouts
from planners import pytree, static
from planners.errors import is_whole

Residuals = Callable[..., Array]


def quadratic(r: Float[Array, " R"]) -> Float[Array, ""]:
    """½ Σ r²: the norm that Gauss-Newton planners make the most of."""
    return 0.5 * (r**2).sum()


def smooth_abs(r: Float[Array, " R"]) -> Float[Array, ""]:
    """Σ √(r² + p²) − p with p = 0.1: |r| with a rounded corner, so that far outliers count less."""
    return (jnp.sqrt(r**2 + 0.01) - 0.1).sum()


NORMS: dict[str, Callable[[Array], Array]] = {"quadratic": quadratic, "smooth_abs": smooth_abs}


@pytree
class Residual:
    """A norm of `function(readout, action, step, **parameters) -> [R]`; see `residual`."""

    parameters: dict[str, Array]
    function: Residuals = static()
    norm: str = static(default="quadratic")
    acts: bool = static(default=False)  # speaks of the action alone: nothing to pay where a plan ends

    def running(self, model, latent, action, step):
        return {"cost": NORMS[self.norm](self._residual(model, latent, action, step))}

    def terminal(self, model, latent, step):
        if self.acts:
            return jnp.zeros(())
        return NORMS[self.norm](self._residual(model, latent, no_action(model), jnp.asarray(step)))

    def residuals(self, model, latent, action, step) -> Array | None:
        """[R] with cost = ½ Σ r², None for another norm."""
        return self._residual(model, latent, action, step) if self.norm == "quadratic" else None

    def changed(self, **values: Any) -> "Residual":
        """With other parameters, of the same shapes."""
        return replace(self, parameters=updated(self.parameters, values, "parameter"))

    def _residual(self, model, latent, action, step) -> Array:
        sent, readout = model.spec.action.denormalise(action), Readouts(model.readout(latent))
        return jnp.ravel(jnp.asarray(self.function(readout, sent, step, **self.parameters), jnp.float32))


def residual(function: Residuals, *, norm: str = "quadratic", **parameters: Any) -> Residual:
    """A cost term from residuals: `function(readout, action, step, **parameters) -> [R]`, zero where all is well.

    Args:
      function: written in `jax.numpy`; readout in physical units, action in the environment's.
      norm: "quadratic" (½ Σ r²) or "smooth_abs".
      parameters: numbers or arrays, changeable without compiling.
    """
    if norm not in NORMS:
        raise CostError(f"norm={norm!r}: expected one of {sorted(NORMS)}.")
    if not callable(function):
        raise CostError(f"residual({function!r}): expected a function of (readout, action, step).")
    return Residual({name: jnp.asarray(value, jnp.float32) for name, value in parameters.items()}, function, norm)


def reach(name: str, target: Any, *, index: int | None = None, norm: str = "quadratic") -> Residual:
    """Bring the readout `name` (or its entry `index`) to `target`, in its physical units."""
    target = finite("target", target)
    return Residual({"target": target}, _Reach(name, index), _known(norm))


def within(name: str, low: Any, high: Any, *, index: int | None = None) -> Residual:
    """A soft barrier: zero while low <= readout <= high, then growing with the square of how far it is outside."""
    low, high = finite("low", low), finite("high", high)
    if bool((low > high).any()):
        raise CostError(f"within({name!r}, low={low}, high={high}): expected low <= high.")
    return Residual({"low": low, "high": high}, _Within(name, index))


def effort() -> Residual:
    """½ Σ a² of the action, in the environment's units."""
    return Residual({}, _effort, acts=True)


def smoothness() -> Residual:
    """½ Σ (a_t − a_{t−1})²: how much the action changes in a model step, in the environment's units.

    Needs a model that remembers what was sent: `mpc.RememberingAction(model)`.
    """
    return Residual({}, _smoothness, acts=True)


class _Entry:
    """A readout, or one entry of it. Compares by value, so that two equal costs share a compiled program."""

    def __init__(self, name: str, index: int | None):
        if index is not None and not is_whole(index):
            raise CostError(f"index={index!r}: expected the number of an entry of {name!r}, or None for all of it.")
        self.name, self.index = name, index

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), self.name, self.index))

    def value(self, readout: Mapping[str, Array], **beside: Array) -> Array:
        """What is read; `CostError`, while traced, unless there is such an entry and what is held `beside` it is of its shape, or one number."""
        value = readout[self.name]
        if self.index is not None:
            if not value.ndim or not -len(value) <= self.index < len(value):
                raise CostError(f"index={self.index}: the readout {self.name!r} has shape {value.shape}, and no such entry.")
            value = value[self.index]
        for name, given in beside.items():
            if given.shape not in ((), value.shape):
                raise CostError(
                    f"{name} has shape {given.shape}, what is read of {self.name!r} {value.shape}: expected the same, or one number."
                )
        return value


class _Reach(_Entry):
    def __call__(self, readout, action, step, *, target):
        return self.value(readout, target=target) - target


class _Within(_Entry):
    def __call__(self, readout, action, step, *, low, high):
        value = self.value(readout, low=low, high=high)
        return jnp.maximum(value - high, 0.0) - jnp.maximum(low - value, 0.0)


def _effort(readout, action, step):
    return action


def _smoothness(readout, action, step):
    return action - readout["previous_action"]


@pytree
class Combined:
    """A weighted sum of named costs; see `combine`."""

    weights: dict[str, Float[Array, ""]]
    parts: dict[str, Any]

    def running(self, model, latent, action, step):
        return {
            name: _weighted(self.weights[name], sum(part.running(model, latent, action, step).values(), start=jnp.zeros(())))
            for name, part in self.parts.items()
        }

    def terminal(self, model, latent, step):
        ends = (_weighted(self.weights[name], part.terminal(model, latent, step)) for name, part in self.parts.items())
        return sum(ends, start=jnp.zeros(()))

    def residuals(self, model, latent, action, step) -> Array | None:
        """All parts' residuals, scaled by the root of their weights; None unless every part has them."""
        scaled = []
        for name, part in self.parts.items():
            value = part.residuals(model, latent, action, step) if hasattr(part, "residuals") else None
            if value is None:
                return None
            scaled.append(jnp.sqrt(self.weights[name]) * value)
        return jnp.concatenate(scaled)

    def changed(self, **weights: Any) -> "Combined":
        """With other weights; `CostError` with near matches for a name there is not."""
        changed = updated(self.weights, weights, "term")
        _check_weights(changed)
        return replace(self, weights=changed)


def combine(**terms: tuple[float, Any]) -> Combined:
    """The sum of `weight · cost` over `name=(weight, cost)`; costs are any `TaskCost`, weights 0 or more."""
    if not terms:
        raise CostError("combine(): expected at least one term as name=(weight, cost).")
    for name, term in terms.items():
        if not isinstance(term, tuple) or len(term) != 2 or not isinstance(term[1], TaskCost):
            raise CostError(f"combine({name}={term!r}): expected (weight, cost), such as {name}=(1.0, mpc.effort()).")
    weights = {name: jnp.asarray(weight, jnp.float32) for name, (weight, _) in terms.items()}
    _check_weights(weights)
    return Combined(weights, {name: cost for name, (_, cost) in terms.items()})


def _check_weights(weights: Mapping[str, Array]) -> None:
    for name, weight in weights.items():
        if weight.shape != () or not bool(jnp.isfinite(weight)) or float(weight) < 0:
            raise CostError(f"weight of {name}: {weight}, expected a finite number of at least 0.")


def _known(norm: str) -> str:
    if norm not in NORMS:
        raise CostError(f"norm={norm!r}: expected one of {sorted(NORMS)}.")
    return norm


def _weighted(weight: Array, cost: Array) -> Array:
    """A term without weight counts for nothing, whatever it says."""
    return jnp.where(weight == 0, 0.0, weight * cost)
