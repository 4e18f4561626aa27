"""The warm start moves with time: fractions, skipped ticks, clocks that go backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planners
from planners.categorical_cem import CategoricalState
from planners.sampling import SamplingState
from planners.warm_start import shift
from tests import planner_problems as problems

RAMP = jnp.arange(6.0)[:, None] * jnp.array([1.0, -10.0])


@pytest.mark.parametrize(
    ("elapsed", "expected"),
    [
        (0.0, [0, 1, 2, 3, 4, 5]),
        (1.0, [1, 2, 3, 4, 5, 5]),  # one tick: the last entry is held
        (0.25, [0.25, 1.25, 2.25, 3.25, 4.25, 5]),  # jitter: between two entries
        (3.0, [3, 4, 5, 5, 5, 5]),  # skipped ticks
        (100.0, [5, 5, 5, 5, 5, 5]),  # later than the plan
        (-2.0, [0, 1, 2, 3, 4, 5]),  # time went back
        (float("nan"), [0, 1, 2, 3, 4, 5]),
        (float("inf"), [0, 1, 2, 3, 4, 5]),
        (3e38, [5, 5, 5, 5, 5, 5]),
    ],
)
def test_shifts_by_elapsed_time(elapsed, expected):
    np.testing.assert_allclose(shift(RAMP, jnp.float32(elapsed)), np.outer(expected, [1, -10]), rtol=1e-6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(first=st.integers(0, 8), second=st.integers(0, 8))
def test_two_shifts_are_one_longer_shift(first, second):
    sequence = jax.random.normal(jax.random.key(0), (7, 2))
    twice = shift(shift(sequence, jnp.float32(first)), jnp.float32(second))
    np.testing.assert_array_equal(twice, shift(sequence, jnp.float32(first + second)))


def test_integers_round_to_the_nearest_entry():
    doors = jnp.array([4, 3, 2, 1], jnp.int32)
    assert shift(doors, jnp.float32(1.0)).tolist() == [3, 2, 1, 1]
    assert shift(doors, jnp.float32(0.4)).tolist() == [4, 3, 2, 1]
    assert shift(doors, jnp.float32(0.6)).tolist() == [3, 2, 1, 1]


def test_a_shifted_value_stays_exact_where_no_fraction_is_left():
    huge = jnp.array([[jnp.inf], [8.0], [2.0]])
    np.testing.assert_array_equal(shift(huge, jnp.float32(1.0)), [[8.0], [2.0], [2.0]])


PLANNERS = [planners.CEM(5, samples=24, elites=4), planners.ICEM(5, samples=24, elites=4, keep=2), planners.MPPI(5, samples=24)]


@pytest.mark.parametrize("planner", PLANNERS, ids=lambda planner: type(planner).__name__)
@pytest.mark.parametrize("elapsed", [0.0, 1.0, 2.5])
def test_the_shifted_plan_is_the_first_candidate(planner, elapsed):
    case = problems.linear_quadratic(horizon=5)
    mean = jax.random.uniform(jax.random.key(3), (5, 1), minval=-1)
    state = planner.init(case.problem)
    state = SamplingState(mean, jnp.broadcast_to(mean, state.elites.shape))
    search = planner.begin(case.problem, case.latent, state, elapsed=elapsed, key=jax.random.key(0))
    expected = shift(mean, jnp.float32(elapsed))
    np.testing.assert_allclose(search.best.actions, expected, rtol=1e-6)
    np.testing.assert_allclose(search.mean, expected, rtol=1e-6)


def test_the_shifted_plan_keeps_the_rate_from_what_was_sent_last():
    case = problems.linear_quadratic(horizon=4, rate=[0.5], previous=[-1.0])
    state = SamplingState(jnp.ones((4, 1)), jnp.ones((1, 4, 1)))
    search = planners.CEM(4, samples=16, elites=4).begin(case.problem, case.latent, state, key=jax.random.key(0))
    np.testing.assert_allclose(search.best.actions[:, 0], [-0.5, 0.0, 0.5, 1.0])


def test_a_poisoned_state_is_healed():
    case = problems.linear_quadratic(horizon=4)
    bad = jnp.array([[jnp.nan], [jnp.inf], [-jnp.inf], [9.0]])
    state = SamplingState(bad, bad[None])
    search = planners.CEM(4, samples=16, elites=4).begin(case.problem, case.latent, state, elapsed=0.0, key=jax.random.key(0))
    np.testing.assert_array_equal(search.best.actions[:, 0], [0.0, 0.0, 0.0, 3.0])
    assert bool(jnp.isfinite(search.mean).all())


def test_categorical_warm_start_moves_its_probabilities():
    case = problems.puzzle(horizon=3)
    planner = planners.CategoricalCEM(3, samples=32, elites=8, forget=0.0)
    logits = jnp.log(jnp.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]))
    state = CategoricalState(logits, jnp.array([0, 1, 2], jnp.int32))
    search = planner.begin(case.problem, case.latent, state, elapsed=1.0, key=jax.random.key(0))
    np.testing.assert_allclose(search.probabilities, [[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.1, 0.1, 0.8]], rtol=1e-5)
    assert search.best.actions.tolist() == [1, 2, 2]
