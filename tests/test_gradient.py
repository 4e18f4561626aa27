"""Gradient descent on actions, its constraints and its recovery, against known answers."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import planners
from planners import (
    ActionSpaceError,
    Box,
    Discrete,
    Gradient,
    Problem,
    ProblemShapeError,
    SettingError,
    Status,
    augmented_lagrangian,
)
from planners.gradient import lagrangian_and_gradient
from tests import planner_problems as problems

KEY = jax.random.key(0)


def pendulum(latent, action, noise):
    angle, velocity = latent
    velocity = velocity + 0.1 * (jnp.sin(angle) + action[0] * action[1])
    return jnp.stack([angle + 0.1 * velocity, velocity])


def upright(latent, action, step):
    return (1 - jnp.cos(latent[0])) * (1 + 0.1 * step) + 0.1 * latent[1] ** 2 + 0.01 * (action**2).sum()


def may_end(latent, action):
    return jax.nn.sigmoid(3 - latent[1] ** 2 + action[0])


def slow_enough(latent, action, step):
    return jnp.stack([latent[1] - 0.2, action[0] * latent[0] - 0.3])


PENDULUM = Problem(
    pendulum,
    upright,
    Box([-2.0, -1.0], [1.0, 3.0]),
    lambda latent: latent[0] ** 2,
    may_end,
    discount=jnp.float32(0.9),
    constraints=slow_enough,
)
LATENT = jnp.array([0.6, 0.3])


def slope(latent, action, step):
    return action[0]


FALLING = Problem(lambda latent, action, noise: latent, slope, Box([-100.0], [100.0]))


def run(planner, problem, latent, key=KEY, state=None):
    state = planner.init(problem) if state is None else state
    return planners.plan(planner, problem, latent, state, elapsed=0.0, key=key)[0]


# Derivatives


@pytest.mark.parametrize("constraints", [slow_enough, None], ids=["constrained", "free"])
def test_gradients_agree_with_finite_differences(constraints):
    problem = replace(PENDULUM, constraints=constraints)
    actions = jax.random.uniform(KEY, (5, 2))
    multipliers = jax.random.uniform(KEY, augmented_lagrangian.no_multipliers(problem, LATENT, 5).shape)
    _, gradient = lagrangian_and_gradient(problem, LATENT, actions[None], multipliers[None], 4.0)
    steps = 5e-3 * np.eye(10, dtype=np.float32).reshape(10, 5, 2)
    value = jax.jit(jax.vmap(lambda actions: augmented_lagrangian.lagrangian(problem, LATENT, actions, multipliers, 4.0).value))
    differences = (value(actions + steps) - value(actions - steps)) / 1e-2
    np.testing.assert_allclose(gradient[0].ravel(), differences, rtol=0.01, atol=3e-3)


# Steps


def test_adam_moves_as_its_schedule_says():
    """Under a constant slope every Adam step is the step size itself, in half-ranges; the last one is taken too."""
    planner = Gradient(3, starts=1, iterations=5, learning_rate=0.02, decay=0.25)
    expected = -100 * sum(float(optax.cosine_decay_schedule(0.02, 5, 0.25)(step)) for step in range(5))
    np.testing.assert_allclose(run(planner, FALLING, jnp.zeros(1)).actions, expected, rtol=1e-4)


def test_any_optax_optimizer_does():
    """Gradient descent: u ← u − rate · dJ/du, with dJ/du = half_range · 1."""
    planner = Gradient(3, starts=1, iterations=2, optimizer=optax.sgd(1e-4))
    np.testing.assert_allclose(run(planner, FALLING, jnp.zeros(1)).actions, -2 * 100 * 1e-4 * 100, rtol=1e-5)


def test_starts_do_not_see_each_other():
    """An optimizer that looks at the whole gradient, as clipping by its norm does, sees one start only."""
    optimizer = optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.1))
    problem = replace(PENDULUM, constraints=None)

    def ends(starts):
        planner = Gradient(5, starts=starts, iterations=3, optimizer=optimizer)
        search = planner.begin(problem, LATENT, planner.init(problem), key=KEY)
        return jax.lax.fori_loop(0, 3, lambda _, search: planner.improve(problem, search), search).actions[0]

    np.testing.assert_allclose(ends(4), ends(1), rtol=1e-5, atol=1e-6)


def test_the_warm_start_is_priced_before_it_is_left():
    state = jnp.full((4, 1), 0.49)
    case = problems.nan_pocket()
    planner = Gradient(4, starts=1, iterations=1, learning_rate=1.0)  # its first step leaves for the NaNs
    plan = run(planner, case.problem, case.latent, state=state)
    np.testing.assert_array_equal(plan.actions, state)
    np.testing.assert_allclose(plan.cost, 4 * 0.31**2, rtol=1e-5)


@pytest.mark.parametrize("bound", ["project", "tanh"])
def test_both_bounds_reach_an_optimum_on_the_bound(bound):
    plan = run(Gradient(3, iterations=60, bound=bound), replace(FALLING, actions=Box([-2.0], [5.0])), jnp.zeros(1))
    np.testing.assert_allclose(plan.actions, -2.0, atol=0.1)
    assert (np.asarray(plan.actions) >= -2).all()


# Starts


class Fixed:
    """A policy that always says the same."""

    def __init__(self, mean):
        self.mean, self.scale = mean, jnp.full_like(mean, 1e-3)

    def sample(self, *, key):
        return self.mean + self.scale * jax.random.normal(key, self.mean.shape)

    def log_prob(self, action):
        return jnp.zeros(())


def test_a_quarter_of_the_starts_follow_the_proposal():
    problem = replace(FALLING, proposal=jax.tree_util.Partial(lambda latent: Fixed(jnp.array([70.0]))))
    planner = Gradient(4, starts=8, spread=0.1)
    state = jnp.full((4, 1), 3.0)
    starts = planner.begin(problem, jnp.zeros(1), state, elapsed=0.0, key=KEY).actions
    np.testing.assert_array_equal(starts[0], state)
    np.testing.assert_array_equal(starts[1], 70.0)  # the mode
    np.testing.assert_allclose(starts[2], 70.0, atol=0.01)  # a sample
    assert (np.abs(starts[3:] - 3.0) < 60).all() and np.std(starts[3:]) > 3


# NaN


def test_a_single_start_retreats_from_a_pocket_and_goes_on():
    case = problems.nan_pocket()
    plan = run(Gradient(4, starts=1, iterations=40), case.problem, case.latent)
    assert case.optimum <= float(plan.cost) < case.optimum + 0.05 * (problems.do_nothing(case) - case.optimum)


def kinked(latent, action, step):
    return jnp.sqrt(jnp.sum(action**2)) + (action[0] - 0.3) ** 2 * 10  # its derivative at zero is 0 / 0


def test_a_derivative_that_is_not_finite_poisons_nothing():
    problem = replace(FALLING, cost=kinked, actions=Box([-1.0], [1.0]))
    planner = Gradient(3, starts=4, iterations=30, spread=0.2)
    search = planner.begin(problem, jnp.zeros(1), planner.init(problem), key=KEY)
    improve = jax.jit(planner.improve)
    for _ in range(30):
        search = improve(problem, search)
        chex.assert_tree_all_finite((search.points, search.actions, search.optimizer))
    np.testing.assert_allclose(search.best.actions, 0.25, atol=0.02)  # d/da: 1 + 20 (a − 0.3) = 0


# Constraints


def test_the_penalty_is_the_augmented_lagrangian():
    """Active: λ c + ½ μ c². Inactive: −λ² / 2μ. The multiplier never turns negative."""
    constraints, multipliers = jnp.array([0.5, -3.0]), jnp.array([2.0, 2.0])
    np.testing.assert_allclose(augmented_lagrangian.penalty(constraints, multipliers, 4.0), [1.5, -0.5])
    np.testing.assert_allclose(augmented_lagrangian.updated(constraints, multipliers, 4.0), [4.0, 0.0])
    broken = augmented_lagrangian.updated(jnp.array([jnp.nan]), jnp.array([2.0]), 4.0)
    np.testing.assert_allclose(broken, [2.0])


def beyond(latent, action, step):
    return (action[0] - 2.0) ** 2


def at_most_one(latent, action, step):
    return action - 1.0


def test_multipliers_find_the_price_of_the_constraint():
    """minimise (a − 2)² subject to a <= 1: a = 1 and λ = 2."""
    problem = replace(FALLING, cost=beyond, actions=Box([-3.0], [3.0]), constraints=at_most_one)
    planner = Gradient(2, starts=1, iterations=300, learning_rate=0.03, decay=0.1)
    search = planner.begin(problem, jnp.zeros(1), planner.init(problem), key=KEY)
    search = jax.lax.fori_loop(0, 300, lambda _, search: planner.improve(problem, search), search)
    np.testing.assert_allclose(search.multipliers[0], 2.0, atol=0.1)
    np.testing.assert_allclose(search.actions[0], 1.0, atol=0.02)
    assert float(search.best.violation) == 0


# What it says


def test_converged_is_said_at_an_optimum_inside_and_on_a_bound_and_not_before():
    case = problems.linear_quadratic()
    assert int(run(Gradient(case.horizon, iterations=300), case.problem, case.latent).status) == Status.CONVERGED
    assert int(run(Gradient(case.horizon, iterations=2), case.problem, case.latent).status) == Status.BUDGET_SPENT
    walled = replace(FALLING, actions=Box([-1.0], [1.0]))
    assert int(run(Gradient(3, iterations=40), walled, jnp.zeros(1)).status) == Status.CONVERGED


class Simulator(Problem):
    @property
    def differentiable(self):
        return False


@pytest.mark.parametrize("planner", [Gradient(3), planners.ILQR(3)], ids=["gradient", "ilqr"])
def test_what_has_no_derivative_is_refused(planner):
    name = type(planner).__name__
    with pytest.raises(ActionSpaceError, match=name):
        planner.init(replace(FALLING, actions=Discrete(3)))
    with pytest.raises(ProblemShapeError, match=name):
        planner.init(Simulator(FALLING.dynamics, FALLING.cost, FALLING.actions))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"starts": 0}, "starts"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"decay": 1.5}, "decay"),
        ({"bound": "clip"}, "bound"),
        ({"penalty": -1.0}, "penalty"),
    ],
)
def test_settings_out_of_range_are_named(settings, named):
    with pytest.raises(SettingError, match=named):
        Gradient(3, **settings)
