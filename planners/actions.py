"""The two action spaces a problem can have."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from planners.errors import ActionSpaceError, is_whole
from planners.pytree import pytree, static


@pytree
class Box:
    """Continuous actions between `low` and `high`, optionally limited in how fast they change.

    Attributes:
      low, high: [A], finite, low < high; lists and numbers become arrays.
      rate: [A], largest change of an action from one model step to the next; None for no limit.
      previous: [A], the action sent last; the first action of a plan stays within `rate` of it.
    """

    low: Float[Array, " A"] | Any
    high: Float[Array, " A"] | Any
    rate: Float[Array, " A"] | Any | None = None
    previous: Float[Array, " A"] | Any | None = None

    def __post_init__(self):
        for name in ("low", "high", "rate", "previous"):
            value = getattr(self, name)
            if value is None and name in ("rate", "previous"):
                continue
            try:
                object.__setattr__(self, name, jnp.atleast_1d(jnp.asarray(value, jnp.float32)))
            except (TypeError, ValueError) as error:
                raise ActionSpaceError(f"{name}={value!r}: expected a number, or a list of them.") from error
        if self.low.shape != self.high.shape or self.low.ndim != 1:
            raise ActionSpaceError(f"low has shape {self.low.shape} and high {self.high.shape}: expected the same shape [A].")
        for name in ("rate", "previous"):
            value = getattr(self, name)
            if value is not None and value.shape != self.low.shape:
                raise ActionSpaceError(f"{name} has shape {value.shape}: expected {self.low.shape}, as low and high.")
        if self.previous is not None and self.rate is None:
            raise ActionSpaceError("previous is given without rate: give both to limit the rate of change, or neither.")
        if isinstance(self.low, Tracer) or isinstance(self.high, Tracer):
            return
        low, high = np.asarray(self.low), np.asarray(self.high)
        if not low.size:
            raise ActionSpaceError("low and high are empty: expected at least one action.")
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise ActionSpaceError(
                f"low={low}, high={high}: expected finite bounds. Scale the actions to a finite range first."
            )
        if not (low < high).all():
            raise ActionSpaceError(f"low={low}, high={high}: expected low < high in every dimension.")
        with np.errstate(over="ignore"):
            if not np.isfinite(high - low).all():
                raise ActionSpaceError(f"low={low}, high={high}: expected bounds that float32 can subtract. Scale the actions.")
        if self.rate is not None and not isinstance(self.rate, Tracer) and not (np.asarray(self.rate) > 0).all():
            raise ActionSpaceError(f"rate={np.asarray(self.rate)}: expected a positive rate in every dimension.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one action, `(A,)`."""
        return self.low.shape

    @property
    def middle(self) -> Float[Array, " A"]:
        return (self.low + self.high) / 2

    @property
    def half_range(self) -> Float[Array, " A"]:
        return (self.high - self.low) / 2

    def project(self, actions: Float[Array, "H A"]) -> Float[Array, "H A"]:
        """The nearest sequence inside the box; within the rate limit too, step by step, where there is one.

        A non-finite action becomes the middle of the box, so that what is returned is always sendable. The box comes before
        the rate where `previous` lies outside the box.
        """
        actions = jnp.where(jnp.isfinite(actions), actions, self.middle)
        actions = jnp.clip(actions, self.low, self.high)
        rate = self.rate
        if rate is None:
            return actions
        first = actions[0]
        if self.previous is not None:
            first = jnp.clip(jnp.where(jnp.isfinite(self.previous), self.previous, first), self.low, self.high)

        def limit(previous, action):
            action = jnp.clip(action, previous - rate, previous + rate)
            return action, action

        return jax.lax.scan(limit, first, actions)[1]


@pytree
class Discrete:
    """Integer actions 0 … n−1. A plan is then an integer array [H]."""

    n: int = static()

    def __post_init__(self):
        if not is_whole(self.n) or self.n < 2:
            raise ActionSpaceError(f"Discrete(n={self.n!r}): expected an integer, at least 2 actions.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one action, `()`."""
        return ()


def require_box(actions: Box | Discrete, planner: str) -> Box:
    """`actions` if it is a `Box`, else `ActionSpaceError` saying that `planner` needs one."""
    if not isinstance(actions, Box):
        raise ActionSpaceError(
            f"{planner} plans continuous actions, but the problem has {actions}. "
            "Use a planner for discrete actions, such as CategoricalCEM."
        )
    return actions


def require_discrete(actions: Box | Discrete, planner: str) -> Discrete:
    """`actions` if it is `Discrete`, else `ActionSpaceError` saying that `planner` needs that."""
    if not isinstance(actions, Discrete):
        raise ActionSpaceError(
            f"{planner} plans discrete actions, but the problem has a Box of shape {actions.shape}. "
            "Use a planner for continuous actions, such as CEM."
        )
    return actions
