"""Properties that hold for every input, found by hypothesis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planners
from planners import Box, Problem, sampling
from planners.plan import Incumbent
from tests.planner_problems import reference_cost

quick = settings(max_examples=25, deadline=None, derandomize=True)
number = st.floats(-100, 100, allow_subnormal=False, width=32)
any_number = st.floats(allow_subnormal=False, width=32)  # NaN and infinities among them

PLANNER = planners.CEM(4, samples=48, elites=8, iterations=3)


def _moved(place, latent, action, noise):
    return latent + 0.5 * (action - place)


def _scaled(goal, scale, offset, place, latent, action, step):
    return scale * (((latent - goal) ** 2).sum() + 0.1 * ((action - place) ** 2).sum()) + offset


def _problem(scale=1.0, offset=0.0, place=0.0):
    scale, offset, place = jnp.float32(scale), jnp.float32(offset), jnp.float32(place)
    dynamics = jax.tree_util.Partial(_moved, place)
    cost = jax.tree_util.Partial(_scaled, jnp.float32(1.0), scale, offset, place)
    return Problem(dynamics, cost, Box(jnp.array([-1.0, -1.0]) + place, jnp.array([1.0, 1.0]) + place))


def _plan(problem, seed, planner=PLANNER):
    latent = jnp.array([0.3, -0.8])
    return planners.plan(planner, problem, latent, planner.init(problem), key=jax.random.key(seed))[0]


@quick
@given(power=st.integers(-10, 10), seed=st.integers(0, 5))
@pytest.mark.parametrize("planner", [PLANNER, planners.MPPI(4, samples=48, iterations=3)], ids=["cem", "mppi"])
def test_scaling_the_cost_leaves_the_plan(planner, power, seed):
    """By powers of two, so that no rounding reorders the candidates."""
    plain, scaled = _plan(_problem(), seed, planner), _plan(_problem(scale=2.0**power), seed, planner)
    np.testing.assert_allclose(scaled.actions, plain.actions, atol=1e-5)
    np.testing.assert_allclose(scaled.cost, plain.cost * 2.0**power, rtol=1e-5)


@quick
@given(place=st.sampled_from([-64.0, -2.0, -0.5, 0.5, 8.0, 128.0]), seed=st.integers(0, 3))
def test_moving_the_box_moves_the_plan(place, seed):
    here, there = _plan(_problem(), seed), _plan(_problem(place=place), seed)
    np.testing.assert_allclose(there.cost, here.cost, rtol=0.02, atol=0.02)
    np.testing.assert_allclose(there.actions - place, here.actions, atol=0.15)  # rounding may swap near-equal elites


@quick
@given(offset=st.sampled_from([-8.0, -1.0, 4.0, 16.0]), seed=st.integers(0, 3))
def test_a_constant_cost_changes_nothing(offset, seed):
    plain, raised = _plan(_problem(), seed), _plan(_problem(offset=offset), seed)
    np.testing.assert_allclose(raised.cost, plain.cost + 4 * offset, rtol=1e-3, atol=0.05)
    np.testing.assert_allclose(raised.actions, plain.actions, atol=0.15)


@quick
@given(seed=st.integers(0, 1000), broken=st.integers(0, 20))
def test_refit_does_not_care_for_the_order_of_samples(seed, broken):
    key, order_key = jax.random.split(jax.random.key(seed))
    plans = jax.random.uniform(key, (48, 4, 2), minval=-1)
    cost = jnp.sum(plans**2, (1, 2)).at[:broken].set(jnp.inf)
    order = jax.random.permutation(order_key, 48)
    problem, violation = _problem(), jnp.zeros(48)
    search = PLANNER.begin(problem, jnp.zeros(2), PLANNER.init(problem), key=key)
    one = sampling.refit(PLANNER, problem, search, plans, cost, violation)
    other = sampling.refit(PLANNER, problem, search, plans[order], cost[order], violation)
    for a, b in zip(
        jax.tree.leaves((one.mean, one.scale, one.best)), jax.tree.leaves((other.mean, other.scale, other.best)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@st.composite
def boxes(draw, limited=False):
    size = draw(st.integers(1, 3))
    low = np.array(draw(st.lists(number, min_size=size, max_size=size)), np.float32)
    width = np.array(draw(st.lists(st.floats(0.125, 50, width=32), min_size=size, max_size=size)), np.float32)
    high = low + width
    if not limited:
        return Box(low, high)
    rate = np.array(draw(st.lists(st.floats(0.0625, 20, width=32), min_size=size, max_size=size)), np.float32)
    return Box(low, high, rate=rate, previous=low + width / 4 if draw(st.booleans()) else None)


@quick
@given(data=st.data(), limited=st.booleans())
def test_projection_is_inside_idempotent_and_keeps_what_is_inside(data, limited):
    box = data.draw(boxes(limited))
    size = box.shape[0]
    rows = data.draw(st.lists(st.lists(any_number, min_size=size, max_size=size), min_size=1, max_size=5))
    projected = np.asarray(box.project(jnp.asarray(rows, jnp.float32)))
    assert (projected >= np.asarray(box.low)).all() and (projected <= np.asarray(box.high)).all()
    np.testing.assert_array_equal(box.project(jnp.asarray(projected)), projected)
    if limited:
        before = projected[:-1] if box.previous is None else np.concatenate([np.asarray(box.previous)[None], projected[:-1]])
        after = projected[1:] if box.previous is None else projected
        assert (after <= before + np.asarray(box.rate)).all() and (after >= before - np.asarray(box.rate)).all()


def _towards(goal, latent, action, step):
    return jnp.abs(action - goal).sum()


def _still(latent, action, noise):
    return latent


KNOTTED = planners.CEM(5, samples=24, elites=4, iterations=2, parameterisation=planners.Knots(3))


@quick
@given(data=st.data(), limited=st.booleans())
@pytest.mark.parametrize("planner", [PLANNER, KNOTTED], ids=["per-step", "cubic"])
@pytest.mark.slow
def test_plans_stay_inside_any_box(planner, data, limited):
    box = data.draw(boxes(limited))
    goal = box.high + 1e3 if data.draw(st.booleans()) else box.low
    problem = Problem(_still, jax.tree_util.Partial(_towards, goal), box)
    plan, _ = planners.plan(planner, problem, jnp.zeros(1), planner.init(problem), key=jax.random.key(0))
    actions = np.asarray(plan.actions)
    assert (actions >= np.asarray(box.low)).all() and (actions <= np.asarray(box.high)).all()
    np.testing.assert_array_equal(box.project(plan.actions), actions)


@quick
@given(costs=st.lists(any_number, min_size=1, max_size=12), fraction=st.floats(0.01, 1))
def test_risk_is_the_mean_of_the_worst_futures(costs, fraction):
    values = np.array(costs, np.float32)
    worst = np.sort(np.where(np.isfinite(values), values, np.inf).astype(np.float64))[::-1]
    count = max(1, int(np.ceil(fraction * len(values) - 1e-9)))
    got = float(planners.cvar(fraction)(jnp.asarray(values)))
    expected = worst[:count].mean()
    if abs(expected) < 1e37:
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3 * np.abs(worst[:count]).max())
    else:
        assert not np.isfinite(got) or abs(got) > 1e36
    assert float(planners.WORST(jnp.asarray(values))) == np.float32(worst[0])


@quick
@given(cost=st.lists(any_number, min_size=4, max_size=12), violation=st.lists(any_number, min_size=12, max_size=12))
def test_the_incumbent_is_never_replaced_by_anything_worse(cost, violation):
    best = Incumbent.unknown(jnp.zeros((1, 1)))
    seen = []
    for c, v in zip(cost, violation, strict=False):
        v = max(v, 0.0)
        best = best.challenged(jnp.full((1, 1), len(seen), jnp.float32), jnp.float32(c), jnp.float32(v))
        seen.append((v, c))
    usable = [pair for pair in seen if np.isfinite(pair).all()]
    if usable:
        assert (float(best.violation), float(best.cost)) == min((np.float32(v), np.float32(c)) for v, c in usable)
    else:
        assert int(best.status()) == planners.Status.NO_FINITE_CANDIDATE


@quick
@given(discount=st.floats(0.1, 1), seed=st.integers(0, 100))
def test_the_score_is_the_definition(discount, seed):
    key = jax.random.key(seed)
    problem = Problem(_leaving, _priced, Box([-1.0], [1.0]), _end, continues=_may_end, discount=discount)
    actions = jax.random.uniform(key, (6, 1), minval=-1)
    latent = jax.random.normal(key, (1,))
    cost, _ = problem.score(latent, actions, problem.futures(6)[0])
    np.testing.assert_allclose(cost, reference_cost(problem, latent, actions), rtol=1e-4, atol=1e-5)
    latents = problem.unroll(latent, actions, problem.futures(6)[0])
    np.testing.assert_allclose(sum(problem.terms(latents, actions).values()), cost, rtol=1e-4, atol=1e-5)


def _leaving(latent, action, noise):
    return 1.2 * latent + action


def _priced(latent, action, step):
    return (latent**2).sum() + step * action[0]


def _end(latent):
    return 3.0 * jnp.abs(latent[0])


def _may_end(latent, action):
    return jnp.where(jnp.abs(latent[0]) < 1.5, 0.9, 0.0)
