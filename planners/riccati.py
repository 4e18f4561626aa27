"""The backward pass of control-limited differential dynamic programming (Tassa, Mansard & Todorov 2014).

    minimise over δu in [low, high]    ½ δu·Q_uu·δu + δu·(Q_u + Q_ux·δx)
    with                               Q = G + Fᵀ·V'·F,   q = g + Fᵀ·v'

gives δu = k + K·δx, whose rows K are zero where a bound holds k.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from planners.quadratic_model import QuadraticModel

QP_ITERATIONS = 20
QP_STEPS = tuple(0.5**power for power in range(6))


def backward(
    model: QuadraticModel, low: Float[Array, "H A"], high: Float[Array, "H A"], regularisation: Float[Array, ""]
) -> tuple[Float[Array, "H A"], Float[Array, "H A N"], Float[Array, ""]]:
    """Steps k and gains K from the last step to the first, and by how much the model says k lowers the cost.

    `low` and `high` bound δu. `regularisation` adds to Q_uu that multiple of its own mean diagonal: 0 is Newton's step, larger
    ones tend to a short step down the gradient.
    """
    size = model.last_gradient.shape[0]

    def step(carry, inputs):
        gradient, hessian = carry
        dynamics, stage_gradient, stage_hessian, low, high = inputs
        q = stage_gradient + dynamics.T @ gradient
        curvature = stage_hessian + dynamics.T @ hessian @ dynamics
        q_u, q_uu, q_ux = q[size:], curvature[size:, size:], curvature[size:, :size]
        floor = 1e-6 * (q_uu.trace() / q_u.size + jnp.abs(q_u).max()) + 1e-12
        damped = q_uu + (regularisation * q_uu.trace() / q_u.size + floor) * jnp.eye(q_u.size)
        k, free = box_quadratic(damped, q_u, low, high)
        gains = -solve_free(damped, q_ux, free)
        gradient = q[:size] + gains.T @ (q_uu @ k + q_u) + q_ux.T @ k
        hessian = curvature[:size, :size] + gains.T @ q_uu @ gains + gains.T @ q_ux + q_ux.T @ gains
        return (gradient, (hessian + hessian.T) / 2), (k, gains, -(q_u + q_uu @ k / 2) @ k)

    inputs = (model.dynamics, model.gradient, model.hessian, low, high)
    _, (steps, gains, promised) = jax.lax.scan(step, (model.last_gradient, model.last_hessian), inputs, reverse=True)
    return steps, gains, promised.sum()


def box_quadratic(
    matrix: Float[Array, "A A"], vector: Float[Array, " A"], low: Float[Array, " A"], high: Float[Array, " A"]
) -> tuple[Float[Array, " A"], Bool[Array, " A"]]:
    """argmin ½ x·matrix·x + vector·x over low <= x <= high, and which entries no bound holds, by projected Newton.

    `matrix` is positive definite. Tassa et al. 2014, section III.B, with the step length chosen among halvings side by side,
    and a projected gradient step beside them, which always helps, for where the Newton step runs against a bound.
    """
    lengths = jnp.asarray(QP_STEPS)
    steepest = jnp.abs(matrix).sum(0).max()  # no eigenvalue exceeds it

    def value(x):
        return 0.5 * x @ matrix @ x + vector @ x

    def loosened(x):
        slope = matrix @ x + vector
        return ~((x <= low) & (slope > 0) | (x >= high) & (slope < 0))

    def improve(state):
        x, _, iteration = state
        slope = matrix @ x + vector
        newton = -solve_free(matrix, slope[:, None], loosened(x))[:, 0]
        directions = jnp.concatenate([lengths[:, None] * newton, -slope[None] / steepest])
        tried = jnp.clip(x + directions, low, high)
        values = jax.vmap(value)(tried)
        better = tried[jnp.argmin(jnp.where(jnp.isfinite(values), values, jnp.inf))]
        improved = value(better) < value(x)
        return jnp.where(improved, better, x), improved, iteration + 1

    def going_on(state):
        return state[1] & (state[2] < QP_ITERATIONS)

    start = jnp.clip(jnp.zeros_like(vector), low, high)
    x, _, _ = jax.lax.while_loop(going_on, improve, (start, jnp.asarray(True), jnp.asarray(0)))
    return x, loosened(x)


def solve_free(matrix: Float[Array, "A A"], right: Float[Array, "A B"], free: Bool[Array, " A"]) -> Float[Array, "A B"]:
    """matrix⁻¹·right over the free rows and columns; zero in the others."""
    both = free[:, None] & free[None, :]
    kept = jnp.where(both, matrix, jnp.eye(free.size))
    factor = jax.scipy.linalg.cho_factor(kept)
    return jax.scipy.linalg.cho_solve(factor, jnp.where(free[:, None], right, 0.0))
