"""How few numbers describe a sequence of actions: one a step, or knots with a curve through them.

    actions [H, A] = W [H, K] · knots [K, A],   knots = W⁺ · actions (least squares)

Every kind is linear in its knots, so one matrix describes it. A curve may leave the box between its knots, so planners
project the actions after expanding, never the knots before (a cubic through knots within ±1 reaches 1.6).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from planners.errors import SettingError, require_counts

KINDS = ("hold", "linear", "cubic")


@runtime_checkable
class Parameterisation(Protocol):
    """What sampling planners search over in place of the actions themselves."""

    def count(self, horizon: int) -> int:
        """K, how many knots describe `horizon` actions."""
        ...

    def expand(self, knots: Float[Array, "*N K A"], horizon: int) -> Float[Array, "*N H A"]:
        """The actions at every step."""
        ...

    def fit(self, actions: Float[Array, "*N H A"]) -> Float[Array, "*N K A"]:
        """The knots whose actions come nearest; exact for actions that `expand` gave."""
        ...

    def expand_spread(self, scale: Float[Array, "K A"], horizon: int) -> Float[Array, "H A"]:
        """Standard deviation of the actions where knots vary independently by `scale`."""
        ...


@dataclass(frozen=True)
class PerStep:
    """Every action on its own."""

    def count(self, horizon):
        return horizon

    def expand(self, knots, horizon):
        return knots

    def fit(self, actions):
        return actions

    def expand_spread(self, scale, horizon):
        return scale


@dataclass(frozen=True)
class Knots:
    """`number` knots, evenly spread over the horizon.

    Attributes:
      number: from 1 to the horizon.
      kind: "hold" keeps each knot's value for its share of the horizon; "linear" joins them by lines; "cubic" by a Hermite
        spline with finite-difference slopes (Catmull & Rom 1974; Howell et al. 2022, section 3.2).
    """

    number: int
    kind: str = "cubic"

    def __post_init__(self):
        require_counts(number=self.number)
        if self.kind not in KINDS:
            raise SettingError(f"kind={self.kind!r}: expected one of {KINDS}.")

    def count(self, horizon):
        if self.number > horizon:
            raise SettingError(f"Knots(number={self.number}) with horizon={horizon}: expected at most one knot a step.")
        return self.number

    def expand(self, knots, horizon):
        return jnp.einsum("hk,...ka->...ha", _matrix(self.kind, self.number, horizon), knots)

    def fit(self, actions):
        return jnp.einsum("kh,...ha->...ka", _inverse(self.kind, self.number, actions.shape[-2]), actions)

    def expand_spread(self, scale, horizon):
        return jnp.sqrt(jnp.einsum("hk,ka->ha", _matrix(self.kind, self.number, horizon) ** 2, scale**2))


PER_STEP = PerStep()


@lru_cache(maxsize=64)
def _matrix(kind: str, number: int, horizon: int) -> np.ndarray:
    """W [H, K]: rows sum to one, and at a knot's own time it is that knot."""
    identity = np.eye(number)
    if number == 1:
        return np.ones((horizon, 1), np.float32)
    if kind == "hold":
        return identity[np.arange(horizon) * number // horizon].astype(np.float32)
    position = np.linspace(0, number - 1, horizon)
    below = np.minimum(position.astype(int), number - 2)
    t = (position - below)[:, None]
    first, second = identity[below], identity[below + 1]
    if kind == "linear":
        return ((1 - t) * first + t * second).astype(np.float32)
    slope = np.gradient(identity, axis=0)
    curve = (2 * t**3 - 3 * t**2 + 1) * first + (t**3 - 2 * t**2 + t) * slope[below]
    curve += (3 * t**2 - 2 * t**3) * second + (t**3 - t**2) * slope[below + 1]
    return curve.astype(np.float32)


@lru_cache(maxsize=64)
def _inverse(kind: str, number: int, horizon: int) -> np.ndarray:
    return np.linalg.pinv(_matrix(kind, number, horizon).astype(np.float64)).astype(np.float32)
