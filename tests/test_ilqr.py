"""iLQR against Riccati, finite differences, the conditions of optimality, and closed forms."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planners
from benchmarks import analytic
from planners import ILQR, Box, Problem, SettingError, Status, quadratic_model, riccati
from planners.gradient import lagrangian_and_gradient
from planners.quadratic_model import Flat
from tests import planner_problems as problems
from tests.test_gradient import LATENT, PENDULUM

KEY = jax.random.key(0)


def run(planner, problem, latent):
    return planners.plan(planner, problem, latent, planner.init(problem), key=KEY)[0]


# Linear-quadratic problems: one iteration


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_one_iteration_solves_a_linear_quadratic_problem(discount):
    case = problems.linear_quadratic(horizon=30, discount=discount)
    plan = run(ILQR(case.horizon, iterations=1), case.problem, case.latent)
    np.testing.assert_allclose(plan.cost, case.optimum, rtol=1e-4)


MIXING = np.array([[1.0, 0.2, 0.0, 0.1], [0.0, 0.9, 0.3, 0.0], [0.1, 0.0, 1.0, 0.2], [0.0, -0.2, 0.0, 0.8]], np.float32)
PUSHING = np.array([[0.0, 0.1], [0.5, 0.0], [0.0, 0.3], [0.2, 0.4]], np.float32)
PRICES = np.array([1.0, 2.0, 0.5, 0.1, 0.3, 0.7], np.float32)  # of the four states, then the two actions


def mixed(latent, action, noise):
    stacked = jnp.concatenate([latent["place"], latent["speed"]])
    stacked = MIXING @ stacked + PUSHING @ action + jnp.pad(noise, (0, 4 - noise.shape[0]))
    return {"place": stacked[:2], "speed": stacked[2:]}


def priced_residuals(latent, action, step):
    return jnp.sqrt(2 * PRICES) * jnp.concatenate([latent["place"], latent["speed"], action])


def priced(latent, action, step):
    return (PRICES * jnp.concatenate([latent["place"], latent["speed"], action]) ** 2).sum()


class SumOfSquares:
    """`priced`, known to be one."""

    def __call__(self, latent, action, step):
        return priced(latent, action, step)

    def terms(self, latent, action, step):
        return {"all": priced(latent, action, step)}

    def residuals(self, latent, action, step):
        return priced_residuals(latent, action, step)


jax.tree_util.register_static(SumOfSquares)
START = {"place": jnp.array([1.0, -2.0]), "speed": jnp.array([0.5, 1.0])}
BOX = Box([-4.0, -6.0], [6.0, 4.0])


@pytest.mark.parametrize("cost", [priced, SumOfSquares()], ids=["hessian", "gauss-newton"])
@pytest.mark.parametrize("futures", [1, 3])
@pytest.mark.slow
def test_one_iteration_solves_several_futures_of_a_latent_in_parts(cost, futures):
    """J is quadratic in the actions, so its minimum is a linear solve."""
    noise = 0.3 * jax.random.normal(KEY, (futures, 6, 4))
    problem = Problem(mixed, cost, BOX, noise=noise)

    def mean_cost(actions):
        return problem.rollout(START, actions.reshape(1, 6, 2), noise).cost.mean()

    zero = jnp.zeros(12)
    best = -np.linalg.solve(jax.hessian(mean_cost)(zero), jax.grad(mean_cost)(zero))
    plan = run(ILQR(6, iterations=1), problem, START)
    assert (np.abs(best) < 4).all()  # no bound is active
    np.testing.assert_allclose(plan.actions.ravel(), best, atol=2e-3)
    np.testing.assert_allclose(plan.cost, mean_cost(jnp.asarray(best)), rtol=1e-4)


# The quadratic model


@pytest.mark.slow
def test_the_model_agrees_with_finite_differences():
    flat, start = Flat.of(PENDULUM, LATENT, 4)
    units = jax.random.uniform(KEY, (4, 2), minval=-0.5, maxval=0.5)
    multipliers = jax.random.uniform(KEY, (1, 4, 2))
    noise = PENDULUM.futures(4)[:, 0]
    states = jnp.stack([start, *[jax.random.uniform(jax.random.key(seed), (3,)) + 0.1 for seed in range(4)]])
    model = quadratic_model.expand(flat, states, units, multipliers, 4.0, jnp.ones(1))
    vectors = jnp.concatenate([states[:-1], units], 1)

    def following(vector):
        return flat.dynamics(vector[:3], vector[3:], noise)

    def stage(vector, t):
        state, action = vector[:2], flat.action(vector[3:])
        constraint = PENDULUM.constraints(state, action, t)
        lifted = jnp.maximum(0, multipliers[0, t] + 4 * constraint) ** 2 - multipliers[0, t] ** 2
        return vector[2] * PENDULUM.cost(state, action, t) + lifted.sum() / 8

    steps = 1e-2 * jnp.eye(5)
    for t in range(4):
        columns = [(following(vectors[t] + step) - following(vectors[t] - step)) / 2e-2 for step in steps]
        np.testing.assert_allclose(model.dynamics[t], jnp.stack(columns, 1), atol=2e-3)
        slopes = [(stage(vectors[t] + step, t) - stage(vectors[t] - step, t)) / 2e-2 for step in steps]
        np.testing.assert_allclose(model.gradient[t], jnp.stack(slopes), rtol=0.02, atol=3e-3)
    assert (jnp.linalg.eigvalsh(model.hessian) > -1e-4).all()


def test_positive_cuts_negative_curvature_only():
    rotation, _ = jnp.linalg.qr(jax.random.normal(KEY, (3, 3)))
    matrix = rotation @ jnp.diag(jnp.array([2.0, -1.0, 0.5])) @ rotation.T
    expected = rotation @ jnp.diag(jnp.array([2.0, 0.0, 0.5])) @ rotation.T
    np.testing.assert_allclose(quadratic_model.positive(matrix), expected, atol=1e-5)


# The bounded quadratic


def test_box_quadratic_meets_the_conditions_of_optimality():
    """Slope zero where free, pointing out of the box at a bound: that is sufficient, the problem being convex."""

    def solve(key):
        keys = jax.random.split(key, 4)
        root = jax.random.normal(keys[0], (4, 4))
        matrix, vector = root @ root.T + 0.1 * jnp.eye(4), 3 * jax.random.normal(keys[1], (4,))
        low, high = -jax.random.uniform(keys[2], (4,)), jax.random.uniform(keys[3], (4,))
        x, free = riccati.box_quadratic(matrix, vector, low, high)
        return x, free, matrix @ x + vector, low, high, jnp.abs(matrix).max()

    x, free, slope, low, high, scale = (np.asarray(part) for part in jax.jit(jax.vmap(solve))(jax.random.split(KEY, 200)))
    assert (x >= low).all() and (x <= high).all()
    assert 0.1 < free.mean() < 0.9
    assert (np.where(free, np.abs(slope), 0).max(1) < 1e-3 * scale).all()
    assert np.where(free, True, np.where(x == low, slope > 0, (x == high) & (slope < 0))).all()


@pytest.mark.slow
def test_gains_are_zero_where_a_bound_holds():
    case = problems.linear_quadratic(start=(2.0, 1.0))
    flat, start = Flat.of(case.problem, case.latent, 10)
    states = jnp.broadcast_to(start, (11, 3))
    model = quadratic_model.expand(flat, states, jnp.zeros((10, 1)), jnp.zeros((1, 10, 0)), 1.0, jnp.ones(1))
    steps, gains, _ = riccati.backward(model, -jnp.ones((10, 1)), jnp.ones((10, 1)), jnp.zeros(()))
    held = np.abs(steps[:, 0]) == 1
    assert held.any() and not held.all()
    assert (np.abs(gains[held]).max() == 0) and (np.abs(gains[~held]).max(2) > 0).all()


def test_reaches_the_constrained_optimum_of_a_bounded_problem():
    """Against ten thousand steps of projected gradient descent on the same convex problem, in float64."""
    case = problems.linear_quadratic(start=(3.0, 2.0))
    plan = run(ILQR(case.horizon, iterations=8), case.problem, case.latent)

    def cost(actions):
        return case.problem.score(case.latent, actions[:, None], jnp.zeros((10, 0)))[0]

    curvature, slope = (
        np.asarray(jax.hessian(cost)(jnp.zeros(10)), np.float64),
        np.asarray(jax.grad(cost)(jnp.zeros(10)), np.float64),
    )
    best, rate = np.zeros(10), 1 / np.linalg.eigvalsh(curvature)[-1]
    for _ in range(10_000):
        best = np.clip(best - rate * (curvature @ best + slope), -3, 3)
    assert (np.abs(best) == 3).any() and (np.abs(best) < 3).any()
    np.testing.assert_allclose(plan.actions[:, 0], best, atol=0.01)
    assert int(plan.status) == Status.CONVERGED


# Nonlinear problems


def test_ends_where_the_gradient_vanishes_far_sooner_than_descent():
    problem = replace(PENDULUM, constraints=None)
    plan = run(ILQR(15, iterations=20), problem, LATENT)
    assert int(plan.status) == Status.CONVERGED
    none = jnp.zeros((1, 1, 15, 0))
    _, gradient = lagrangian_and_gradient(problem, LATENT, plan.actions[None], none, 1.0)
    low, high = np.asarray(problem.actions.low), np.asarray(problem.actions.high)
    actions, gradient = np.asarray(plan.actions), np.asarray(gradient[0])
    outwards = (actions <= low) & (gradient > 0) | (actions >= high) & (gradient < 0)
    assert (np.abs(gradient[~outwards]) < 5e-3).all()
    descent = run(planners.Gradient(15, starts=1, iterations=20), problem, LATENT)
    assert float(plan.cost) < float(descent.cost)


def test_regularisation_rises_until_a_step_helps():
    """From the cold start the full steps lead into the NaNs; shorter ones and heavier damping get through."""
    case = problems.nan_pocket()
    planner = ILQR(case.horizon, iterations=30, steps=1)  # α = 1 only: what is left is regularisation
    plan = run(planner, case.problem, case.latent)
    assert float(plan.cost) < 0.5 * problems.do_nothing(case)


def test_rate_limits_hold_and_help():
    case = problems.linear_quadratic(start=(3.0, 2.0), rate=[0.5], previous=[0.0])
    plan = run(ILQR(case.horizon, iterations=10), case.problem, case.latent)
    before = np.concatenate([[0.0], plan.actions[:-1, 0]])
    assert (np.abs(plan.actions[:, 0] - before) <= 0.5 + 1e-6).all()
    assert float(plan.cost) < 0.8 * problems.do_nothing(case)


@pytest.mark.parametrize("settings", [{"steps": 0}, {"regularisation": -1.0}, {"penalty": 0.0}, {"iterations": 0}])
def test_settings_out_of_range_are_named(settings):
    with pytest.raises(SettingError, match=next(iter(settings))):
        ILQR(3, **settings)


def test_a_wall_is_approached_from_the_free_side():
    """The multipliers alone come from behind the wall, where no plan is feasible; with a margin the plan is, and near the optimum."""
    case = analytic.wall()
    planner = ILQR(case.horizon, iterations=12)
    plan, _ = planners.plan(planner, case.problem, case.latent, planner.init(case.problem), key=jax.random.key(0))
    assert float(plan.violation) == 0
    assert case.optimum - 1e-3 <= float(plan.cost) <= 1.01 * case.optimum
