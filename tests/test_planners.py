"""The contract every planner keeps: members of `planner_list` x problems of known optimum."""

from functools import partial

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import planners
from planners import Status
from tests import planner_problems as problems
from tests.planner_list import CONTINUOUS, DISCRETE, MEMBERS, Member

KEY = jax.random.key(0)


@partial(jax.jit, static_argnums=0)
def begin(planner, problem, latent, state):
    return planner.begin(problem, latent, state, key=KEY)


@partial(jax.jit, static_argnums=0)
def improve(planner, problem, search):
    return planner.improve(problem, search)


@partial(jax.jit, static_argnums=0)
def finish(planner, problem, search):
    return planner.finish(problem, search)


def by_name(members):
    """Variants are slow tests: the planner they vary is tested on every change."""
    marks = {True: [pytest.mark.slow], False: []}
    return pytest.mark.parametrize(
        "member", [pytest.param(member, id=member.name, marks=marks[member.variant]) for member in members]
    )


every_planner = by_name(MEMBERS)
continuous = by_name(CONTINUOUS)


def default_case(member: Member) -> problems.Case:
    return problems.puzzle() if member.discrete else problems.linear_quadratic()


def solve(member: Member, case: problems.Case, key=KEY, state=None, elapsed=1.0):
    planner = member.make(case.horizon)
    state = planner.init(case.problem) if state is None else state
    return planners.plan(planner, case.problem, case.latent, state, elapsed=elapsed, key=key)


def assert_inside(problem, actions):
    """Finite, within bounds and rate, exactly: no tolerance."""
    actions = np.asarray(actions)
    if isinstance(problem.actions, planners.Discrete):
        assert actions.dtype == np.int32 and (actions >= 0).all() and (actions < problem.actions.n).all()
        return
    box = problem.actions
    low, high = np.asarray(box.low), np.asarray(box.high)
    assert np.isfinite(actions).all() and (actions >= low).all() and (actions <= high).all()
    if box.rate is not None:
        before = actions[:-1] if box.previous is None else np.concatenate([np.asarray(box.previous)[None], actions[:-1]])
        after = actions[1:] if box.previous is None else actions
        rate = np.asarray(box.rate)
        assert (after <= before + rate).all() and (after >= before - rate).all()


def keeps_its_promises(member: Member, case: problems.Case):
    """Solve, and hold what is promised on every problem: bounds, the same plan again, never worse than the warm start."""
    plan, state = solve(member, case)
    assert_inside(case.problem, plan.actions)
    again, _ = solve(member, case)
    chex.assert_trees_all_equal((again.actions, again.cost), (plan.actions, plan.cost))
    later, _ = solve(member, case, jax.random.key(9), state, elapsed=0.0)
    assert float(later.violation) <= float(plan.violation) + 1e-6
    if float(later.violation) == float(plan.violation):
        assert float(later.cost) <= float(plan.cost) + 1e-5 * abs(float(plan.cost)) + 1e-6
    return plan


# Known optimum


@continuous
@pytest.mark.parametrize(
    "make", [problems.linear_quadratic, problems.nan_pocket, problems.terminating], ids=lambda f: f.__name__
)
def test_reaches_the_optimum(member, make):
    case = make()
    plan = keeps_its_promises(member, case)
    gap = problems.do_nothing(case) - case.optimum
    assert case.optimum - 1e-3 <= float(plan.cost) <= case.optimum + member.accuracy * gap


@by_name([member for member in CONTINUOUS if not member.local])
def test_finds_the_better_of_two_wells(member):
    plan = keeps_its_promises(member, problems.multi_modal())
    assert float(plan.cost) < 0.15  # the nearer well ends at 0.3


@by_name([member for member in CONTINUOUS if member.constraints])
def test_stops_at_the_wall(member):
    case = problems.constrained()
    plan = keeps_its_promises(member, case)
    gap = problems.do_nothing(case) - case.optimum
    assert float(plan.violation) == 0
    assert float(plan.cost) <= case.optimum + max(member.accuracy, 0.05) * gap
    assert int(plan.status) != Status.INFEASIBLE


@by_name([member for member in CONTINUOUS if member.constraints])
def test_says_when_nothing_is_feasible(member):
    plan, _ = solve(member, problems.constrained(possible=False))
    assert int(plan.status) == Status.INFEASIBLE
    assert 1.0 <= float(plan.violation) < 1.1  # feasibility first: the least violation is 1, whatever the cost
    assert np.isfinite(float(plan.cost))


@by_name(DISCRETE)
def test_solves_the_puzzle(member):
    case = problems.puzzle()
    plan = keeps_its_promises(member, case)
    np.testing.assert_allclose(float(plan.cost), case.optimum, atol=1e-5)


# Honest prices


@continuous
@pytest.mark.parametrize(
    "make", [problems.linear_quadratic, problems.terminating, problems.multi_modal], ids=lambda f: f.__name__
)
def test_the_cost_is_that_of_the_actions_returned(member, make):
    case = make()
    plan, _ = solve(member, case)
    expected = problems.reference_cost(case.problem, case.latent, plan.actions)
    np.testing.assert_allclose(float(plan.cost), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(sum(float(x) for x in plan.terms.values()), expected, rtol=1e-4, atol=1e-4)


@every_planner
def test_predicts_where_the_plan_leads(member):
    case = default_case(member)
    plan, _ = solve(member, case)
    latent = case.latent
    for t, action in enumerate(plan.actions):
        latent = case.problem.dynamics(latent, action, jnp.zeros(0))
        np.testing.assert_allclose(plan.latents[t + 1], latent, rtol=1e-4, atol=1e-4)


@continuous
def test_prices_whole_trajectories_over_futures(member):
    case = problems.noisy(planners.cvar(0.5))
    plan, _ = solve(member, case)
    costs = np.sort([problems.reference_cost(case.problem, case.latent, plan.actions, future) for future in range(4)])
    np.testing.assert_allclose(float(plan.cost), costs[-2:].mean(), rtol=1e-4)


# Bounds, keys, slices, batches


@continuous
@pytest.mark.parametrize("box", [{}, {"rate": [0.4], "previous": [2.5]}], ids=["box", "rate"])
def test_bounds_hold_exactly(member, box):
    case = problems.linear_quadratic(start=(8.0, 3.0), **box)  # the optimum presses against the bounds
    state = None
    for seed in range(2):
        plan, state = solve(member, case, jax.random.key(seed), state, elapsed=0.7)
        assert_inside(case.problem, plan.actions)


@every_planner
def test_same_key_same_plan(member):
    case = default_case(member)
    chex.assert_trees_all_equal(solve(member, case), solve(member, case))


@every_planner
def test_slices_equal_one_run(member):
    case = default_case(member)
    planner = member.make(case.horizon)
    whole, whole_state = solve(member, case)
    search = begin(planner, case.problem, case.latent, planner.init(case.problem))
    for _ in range(planner.iterations):
        search = improve(planner, case.problem, search)
    plan, state = finish(planner, case.problem, search)
    chex.assert_trees_all_equal((plan.actions, plan.cost, state), (whole.actions, whole.cost, whole_state))


@every_planner
def test_can_be_cut_after_any_slice(member):
    case = default_case(member)
    planner = member.make(case.horizon)
    search = begin(planner, case.problem, case.latent, planner.init(case.problem))
    plan, _ = finish(planner, case.problem, search)
    assert_inside(case.problem, plan.actions)
    best = np.inf
    for _ in range(4):
        search = improve(planner, case.problem, search)
        plan, _ = finish(planner, case.problem, search)
        assert_inside(case.problem, plan.actions)
        assert np.isfinite(float(plan.cost)) and float(search.best.cost) <= best
        assert float(plan.cost) <= float(search.best.cost)
        best = float(search.best.cost)


@every_planner
def test_batch_equals_loop(member):
    case = default_case(member)
    planner = member.make(case.horizon)
    keys = jax.random.split(KEY, 3)
    latents = jnp.stack([case.latent] * 3) if member.discrete else case.latent * jnp.array([[1.0], [0.5], [-1.0]])
    state = planner.init(case.problem)
    one = lambda latent, key: planners.plan(planner, case.problem, latent, state, key=key)  # noqa: E731
    batch, _ = jax.vmap(one)(latents, keys)
    for index in range(3):
        single, _ = one(latents[index], keys[index])
        np.testing.assert_allclose(batch.actions[index], single.actions, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(batch.cost[index], single.cost, rtol=1e-3, atol=1e-4)


@by_name([member for member in CONTINUOUS if not member.variant])
@pytest.mark.slow
def test_slices_and_batches_equal_single_runs_under_constraints_too(member):
    """Where a search carries most: multipliers and margins beside the plans."""
    case = problems.constrained()
    planner = member.make(case.horizon)
    start, keys = planner.init(case.problem), jax.random.split(KEY, 2)
    plans = [planners.plan(planner, case.problem, case.latent, start, key=key)[0] for key in keys]
    batch, _ = jax.vmap(lambda key: planners.plan(planner, case.problem, case.latent, start, key=key))(keys)
    np.testing.assert_allclose(batch.cost, [plan.cost for plan in plans], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(batch.actions, [plan.actions for plan in plans], rtol=1e-2, atol=1e-2)
    search = begin(planner, case.problem, case.latent, start)
    for _ in range(planner.iterations):
        search = improve(planner, case.problem, search)
    sliced, _ = finish(planner, case.problem, search)
    whole, _ = planners.plan(planner, case.problem, case.latent, start, key=KEY)
    chex.assert_trees_all_equal((sliced.actions, sliced.cost), (whole.actions, whole.cost))


@every_planner
def test_never_worse_than_the_warm_start_it_is_given(member):
    """A plan made for another situation, priced step by step where it is handed on."""
    case = default_case(member)
    _, state = solve(member, case)
    elsewhere = case._replace(latent=(case.latent + 3) % 5 if member.discrete else -0.7 * case.latent)
    search = begin(member.make(case.horizon), case.problem, elsewhere.latent, state)
    given = problems.reference_cost(case.problem, elsewhere.latent, search.best.actions)
    plan, _ = solve(member, elsewhere, state=state)
    assert float(plan.cost) <= given + 1e-5 * abs(given)


@every_planner
def test_never_worse_where_nothing_changed(member):
    case = default_case(member)
    _, state = solve(member, case)
    plan, state = solve(member, case, jax.random.key(1), state, elapsed=0.0)
    for seed in range(2, 4):  # the same situation again: the plan at hand is a candidate
        again, state = solve(member, case, jax.random.key(seed), state, elapsed=0.0)
        assert float(again.cost) <= float(plan.cost) + 1e-5
        plan = again


# NaN


@continuous
def test_all_nan_gives_a_sendable_action_and_says_so(member):
    case = problems.all_nan()
    plan, state = solve(member, case)
    assert_inside(case.problem, plan.actions)
    assert int(plan.status) == Status.NO_FINITE_CANDIDATE
    chex.assert_tree_all_finite(state)
    after, _ = solve(member, problems.nan_pocket(edge=2.0), state=state)  # and the warm start is not poisoned
    assert np.isfinite(float(after.cost))


@every_planner
def test_a_broken_latent_or_clock_still_gives_a_sendable_action(member):
    case = default_case(member)
    for elapsed in (jnp.nan, jnp.inf, -3.0, 1e9):
        plan, _ = solve(member, case, elapsed=elapsed)
        assert_inside(case.problem, plan.actions)
        assert np.isfinite(float(plan.cost))
    if not member.discrete:
        plan, _ = solve(member, case._replace(latent=jnp.full_like(case.latent, jnp.nan)))
        assert_inside(case.problem, plan.actions)
        assert int(plan.status) == Status.NO_FINITE_CANDIDATE


# Compilation


@continuous
def test_new_weights_goals_and_noise_do_not_compile_again(member):
    planner, traces = member.make(3), []

    @jax.jit
    def decide(problem, latent, state, key):
        traces.append(1)
        search = planner.begin(problem, latent, state, key=key)
        return planner.finish(problem, planner.improve(problem, search))

    state = planner.init(_goal_problem(0.0))
    for seed in range(3):
        plan, state = decide(_goal_problem(float(seed)), jnp.zeros(1), state, jax.random.key(seed))
    assert np.isfinite(float(plan.cost)) and len(traces) == 1


def _goal_problem(value):
    weights, goal = jnp.asarray([value + 1.0]), jnp.asarray([value])
    noise = jax.random.normal(jax.random.key(int(value)), (2, 3, 1))
    dynamics = jax.tree_util.Partial(_weighted, weights)
    return planners.Problem(dynamics, jax.tree_util.Partial(_to_goal, goal), planners.Box([-1.0], [1.0 + value]), noise=noise)


def _weighted(weights, latent, action, noise):
    return latent + weights * action + 0.1 * noise


def _to_goal(goal, latent, action, step):
    return ((latent - goal) ** 2).sum() + 0.01 * (action**2).sum()


@every_planner
def test_lowers_for_accelerators(member):
    case = default_case(member)
    planner = member.make(case.horizon)
    state = planner.init(case.problem)
    decide = jax.jit(lambda latent, state, key: planners.plan(planner, case.problem, latent, state, key=key)[0].actions)
    exported = jax.export.export(decide, platforms=["cuda", "tpu"])(case.latent, state, KEY)
    assert exported.platforms == ("cuda", "tpu")
    assert [x.shape for x in exported.out_avals] == [(case.horizon, *case.problem.actions.shape)]


# The plan


@every_planner
def test_the_plan_reports_what_the_search_did(member):
    case = default_case(member)
    plan, _ = solve(member, case)
    planner = member.make(case.horizon)
    chex.assert_shape(plan.actions, (case.horizon, *case.problem.actions.shape))
    assert plan.diagnostics.best_cost.shape == (planner.iterations,)
    costs = np.asarray(plan.diagnostics.best_cost)
    assert np.isfinite(costs).all() and (np.diff(costs) <= 1e-6).all()
    np.testing.assert_allclose(float(plan.weights.sum()), 1.0, rtol=1e-5)
    assert plan.candidates.shape == (*plan.weights.shape, *case.problem.actions.shape)
    assert Status(int(plan.status)).sentence.endswith(".")
