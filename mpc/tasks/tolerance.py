"""A soft "within bounds", as the dm_control suite measures success (Tassa et al. 2018, section 2.3)."""

import math
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array

from mpc.costs import CostError

Sigmoid = Literal["gaussian", "hyperbolic", "long_tail", "reciprocal", "cosine", "linear", "quadratic", "tanh_squared"]
REACHES_ZERO = ("cosine", "linear", "quadratic")


def tolerance(
    x: Array,
    bounds: tuple[float, float] = (0.0, 0.0),
    margin: float = 0.0,
    sigmoid: Sigmoid = "gaussian",
    value_at_margin: float = 0.1,
) -> Array:
    """1 where `x` is within `bounds` (inclusive, infinite allowed), falling to `value_at_margin` at a distance of `margin`.

    0 outside where `margin` is 0. Elementwise, in the units of `x`. Raises `CostError` for settings out of range.
    """
    lower, upper = bounds
    if lower > upper:
        raise CostError(f"bounds={bounds}: expected lower <= upper.")
    if margin < 0:
        raise CostError(f"margin={margin}: expected 0 or more.")
    if margin == 0:
        return jnp.where((lower <= x) & (x <= upper), 1.0, 0.0)
    if not (0 < value_at_margin < 1 or (value_at_margin == 0 and sigmoid in REACHES_ZERO)):
        raise CostError(
            f"value_at_margin={value_at_margin} with sigmoid={sigmoid!r}: expected a value in (0, 1); 0 with {REACHES_ZERO}."
        )
    distance = jnp.maximum(jnp.maximum(lower - x, x - upper), 0.0)
    return _falling(distance / margin, value_at_margin, sigmoid)


def _falling(d: Array, value: float, sigmoid: Sigmoid) -> Array:
    """1 at d = 0, `value` at d = 1."""
    match sigmoid:
        case "gaussian":
            return jnp.exp(math.log(value) * d**2)
        case "hyperbolic":
            return 1 / jnp.cosh(d * math.acosh(1 / value))
        case "long_tail":
            return 1 / (1 + d**2 * (1 / value - 1))
        case "reciprocal":
            return 1 / (1 + d * (1 / value - 1))
        case "cosine":
            angle = jnp.minimum(d * math.acos(2 * value - 1), math.pi)
            return (1 + jnp.cos(angle)) / 2
        case "linear":
            return jnp.maximum(1 - d * (1 - value), 0.0)
        case "quadratic":
            return jnp.maximum(1 - d**2 * (1 - value), 0.0)
        case "tanh_squared":
            return 1 - jnp.tanh(d * math.atanh(math.sqrt(1 - value))) ** 2
    raise CostError(f"sigmoid={sigmoid!r}: expected one of {Sigmoid.__args__}.")
