"""Tree search against brute force, and its arithmetic against the definition of J."""

import itertools
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planners
from planners import Box, Discrete, Problem, SettingError, TreeSearch, tree_model
from tests import planner_problems as problems
from tests.test_gradient import Fixed

KEY = jax.random.key(0)


def run(planner, problem, latent, key=KEY):
    return planners.plan(planner, problem, latent, planner.init(problem), key=key)[0]


def grown(planner, problem, latent, key=KEY):
    """The search after all its iterations."""
    search = planner.begin(problem, latent, planner.init(problem), key=key)
    return jax.lax.fori_loop(0, planner.iterations, lambda _, search: planner.improve(problem, search), search)


# Small decision processes, by tables


def _hop(table, state, action, noise):
    return table[state, action]


def _look_up(table, state, action, step):
    return table[state, action]


def _worth(table, state):
    return table[state]


def decision_process(seed: int, actions: int = 3, states: int = 6, **fields) -> Problem:
    """Random transitions and costs of either sign."""
    draw = np.random.default_rng(seed)
    hop = jnp.asarray(draw.integers(states, size=(states, actions)), jnp.int32)
    costs = jnp.asarray(draw.normal(size=(states, actions)), jnp.float32)
    worth = jnp.asarray(draw.normal(size=states), jnp.float32)
    partial = jax.tree_util.Partial
    return Problem(partial(_hop, hop), partial(_look_up, costs), Discrete(actions), partial(_worth, worth), **fields)


def all_costs(problem: Problem, state, horizon: int) -> np.ndarray:
    """J of every plan there is, [n, n, ... n]."""
    plans = jnp.asarray(list(itertools.product(range(problem.actions.n), repeat=horizon)), jnp.int32)
    costs = problem.rollout(state, plans, problem.futures(horizon)).cost.mean(1)
    return np.asarray(costs).reshape([problem.actions.n] * horizon)


STATE = jnp.zeros((), jnp.int32)


def test_agrees_with_brute_force():
    for seed in range(8):
        problem = decision_process(seed, discount=jnp.float32(0.7 if seed % 2 else 1.0))
        plan = run(TreeSearch(4, simulations=240), problem, STATE)
        np.testing.assert_allclose(plan.cost, all_costs(problem, STATE, 4).min(), atol=1e-4)


# A corridor: 1 leads on at a price, 0 and 2 lead back to its start for nothing; a prize waits behind three doors.
CORRIDOR = jnp.array([[0, 1, 0], [0, 2, 0], [0, 3, 0], [3, 3, 3]], jnp.int32)
FEES = jnp.array([[0.0, 0.1, 0.0], [0.0, 0.2, 0.0], [0.0, 0.2, 0.0], [-1.0, -1.0, -1.0]], jnp.float32)


@pytest.mark.slow
def test_looks_three_steps_ahead_where_a_root_only_search_fails():
    partial = jax.tree_util.Partial
    problem = Problem(partial(_hop, CORRIDOR), partial(_look_up, FEES), Discrete(3))
    costs = all_costs(problem, STATE, 4)
    assert costs[1].min() < costs[0].min() - 0.3  # on is right
    assert FEES[0, 1] > FEES[0, 0]  # a greedy step stays
    deep, shallow = TreeSearch(4, simulations=128), TreeSearch(4, simulations=3, iterations=1)
    keys = [jax.random.key(seed) for seed in range(10)]
    solved = [
        sum(float(run(planner, problem, STATE, key).cost) < costs.min() + 1e-5 for key in keys) for planner in (deep, shallow)
    ]
    assert solved[0] == 10
    assert solved[1] <= 4  # by luck of the plans it was begun with


@pytest.mark.slow
def test_by_default_it_is_a_tree():
    """At least fifty simulations, to depth three and more, in both kinds of space."""
    assert TreeSearch(8).simulations >= 50
    case = problems.linear_quadratic()
    for problem, latent in ((decision_process(1), STATE), (case.problem, case.latent)):
        tree = grown(TreeSearch(10), problem, latent).tree
        assert int((tree.node_visits[0] > 0).sum()) > 50
        assert int(tree.embeddings.situation.step.max()) >= 3


@pytest.mark.slow
def test_targets_sum_to_one_and_favour_the_better_action():
    for seed in range(6):
        problem = decision_process(seed)
        plan = run(TreeSearch(3, simulations=120), problem, STATE)
        np.testing.assert_allclose(plan.weights.sum(), 1.0, rtol=1e-5)
        np.testing.assert_array_equal(plan.candidates, np.arange(3))
        best = all_costs(problem, STATE, 3).min((1, 2))
        np.testing.assert_array_equal(np.argsort(-plan.weights), np.argsort(best))


# The arithmetic: costs, discount, ends, futures


def _may_go_on(state, action):
    return jnp.where(state == 2, 0.5, jnp.where(state == 4, 0.0, 1.0))


def paths(tree):
    """The actions to every node but the root, with the node's number and the tree without its batch."""
    tree = jax.tree.map(lambda x: np.asarray(x[0]), tree)
    for node in np.flatnonzero(tree.node_visits)[1:]:  # a simulation that ends in a known leaf leaves its own place empty
        actions, above = [], node
        while above > 0:
            parent = tree.parents[above]
            actions.insert(0, tree.embeddings.candidates[parent, tree.action_from_parent[above]])
            above = parent
        yield np.stack(actions), node, tree


@pytest.mark.parametrize("rollout", [True, False])
@pytest.mark.slow
def test_what_a_path_earns_is_minus_its_cost(rollout):
    """Costs enter as their negatives, discount and termination as the problem has them, the last value as −terminal_cost."""
    problem = decision_process(3, continues=_may_go_on, discount=jnp.float32(0.8))
    search = grown(TreeSearch(4, simulations=80, rollout=rollout), problem, STATE)
    whole_plans = 0
    for actions, node, tree in paths(search.tree):
        if len(actions) == 4 or rollout:  # the rest of a plan follows the warm start, here zeros
            plan = jnp.asarray(np.pad(actions, (0, 4 - len(actions))))
            expected = -problems.reference_cost(problem, STATE, plan)
            np.testing.assert_allclose(tree.embeddings.total[node], expected, rtol=1e-4, atol=1e-5)
            whole_plans += len(actions) == 4
        else:
            state = STATE
            for action in actions:
                state = problem.dynamics(state, action, None)
            ended = tree.children_discounts[tree.parents[node], tree.action_from_parent[node]] == 0
            expected = 0.0 if ended else -float(problem.terminal_cost(state))
            np.testing.assert_allclose(tree.raw_values[node], expected, rtol=1e-5)
    assert whole_plans > 1


def _near(latent, action):
    return jax.nn.sigmoid(2 - latent[0])


@pytest.mark.slow
def test_several_futures_are_searched_by_their_mean():
    """Futures that end at different times keep their own weights: the tree's sum is still minus the mean of J."""
    case = problems.noisy(planners.MEAN, futures=3)
    problem = replace(case.problem, continues=_near, discount=jnp.float32(0.9))
    search = grown(TreeSearch(3, simulations=32, candidates=3), problem, case.latent)
    plans, totals = zip(
        *[
            (np.pad(actions, ((0, 3 - len(actions)), (0, 0))), tree.embeddings.total[node])
            for actions, node, tree in paths(search.tree)
        ],
        strict=True,
    )
    expected = -problem.rollout(case.latent, jnp.asarray(plans), problem.futures(3)).cost.mean(1)
    assert len(plans) > 20
    np.testing.assert_allclose(totals, expected, rtol=1e-4)


@pytest.mark.slow
def test_nothing_that_is_not_finite_enters_the_tree():
    planner = TreeSearch(4, simulations=128)
    for case in (problems.nan_pocket(), problems.all_nan()):
        search = grown(planner, case.problem, case.latent)
        chex.assert_tree_all_finite(replace(search.tree, embeddings=search.tree.embeddings._replace(situation=None)))
    search = grown(planner, problems.nan_pocket().problem, jnp.zeros(1))
    broken = search.tree.embeddings.candidates[0, 0, :, 0] > 0.5
    visits = np.asarray(search.tree.children_visits[0, 0])
    assert broken.any() and visits[~broken].mean() > visits[broken].mean()


# Continuous actions


@pytest.mark.slow
def test_beats_uniform_sampling_at_equal_model_evaluations():
    """The tree is charged a whole rollout a simulation; it must beat the best of as many uniform plans by a fifth of the gap."""
    planner = TreeSearch(6, simulations=96)
    rollouts = planner.simulations + 8 + 2 * planner.iterations + 1  # what begin, the readings and finish price is charged too
    case = problems.linear_quadratic(horizon=6)
    problem, box = case.problem, case.problem.actions
    plans = jax.random.uniform(KEY, (12, rollouts, 6, 1), minval=box.low, maxval=box.high)
    uniform = np.asarray([problem.rollout(case.latent, batch, problem.futures(6)).cost.min() for batch in plans])
    tree = np.asarray([float(run(planner, problem, case.latent, jax.random.key(seed)).cost) for seed in range(12)])
    assert (tree - case.optimum).mean() < 0.8 * (uniform - case.optimum).mean()


def _confident(mean, latent):
    return Fixed(mean)


def candidates_at_root(problem, **settings):
    planner = TreeSearch(3, **settings)
    guide = planner._guide(planner.init(problem), jnp.ones(()))
    _, logits, node = tree_model.root(problem, guide, jnp.zeros(2), key=KEY)
    np.testing.assert_array_equal(logits, 0)
    return np.asarray(node.candidates[:, 0])


def test_candidates_come_from_the_proposal_and_from_a_wider_one():
    proposal = jax.tree_util.Partial(_confident, jnp.array([0.5]))
    problem = replace(problems.linear_quadratic().problem, proposal=proposal)
    offsets = candidates_at_root(problem, candidates=401, widen=4.0) - 0.5
    assert offsets[0] == 0
    np.testing.assert_allclose(offsets[1:201].std(), 1e-3, rtol=0.2)
    np.testing.assert_allclose(offsets[201:].std(), 4e-3, rtol=0.2)


def test_without_a_proposal_they_surround_the_warm_start_and_fill_the_box():
    free = problems.linear_quadratic().problem
    candidates = candidates_at_root(free, candidates=65, spread=0.1)
    assert candidates[0] == 0
    assert candidates[1:33].std() < 0.5 and candidates[33:].std() > 1.2
    slow = replace(free, actions=Box([-3.0], [3.0], rate=[0.4], previous=[1.0]))
    candidates = candidates_at_root(slow, candidates=64)
    assert (candidates >= np.float32(0.6)).all() and (candidates <= np.float32(1.4)).all()


def _distance_to_go(latent):
    return jnp.maximum(jnp.abs(latent[0] - 1.0) - 0.5, 0.0)


@pytest.mark.slow
def test_a_critic_needs_no_rollouts():
    """Valued where it stands by what is left to do, an action is judged at depth one: the boldest lead."""
    case = problems.noisy(planners.MEAN, futures=1)
    problem = replace(case.problem, noise=jnp.zeros((1, 3, 1)), terminal_cost=_distance_to_go)
    search = grown(TreeSearch(3, rollout=False, gumbel=0.0, candidates=16), problem, case.latent)
    visits, candidates = (
        np.asarray(search.tree.children_visits[0, 0]),
        np.asarray(search.tree.embeddings.candidates[0, 0, :, 0]),
    )
    assert candidates[visits.argmax()] >= np.sort(candidates)[-3] > 0.4  # among the three boldest of sixteen


# Slices


def test_a_tree_is_resumed_and_full_is_full():
    case = problems.puzzle()
    planner = TreeSearch(4, simulations=32, iterations=4)
    search = jax.jit(planner.begin)(case.problem, case.latent, planner.init(case.problem), key=KEY)
    improve = jax.jit(planner.improve)
    counts = []
    for _ in range(6):
        search = improve(case.problem, search)
        counts.append(int(search.tree.children_visits[0, 0].sum()))
    assert counts == [8, 16, 24, 32, 32, 32]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"candidates": 1}, "candidates"),
        ({"simulations": 65}, "multiple"),
        ({"gumbel": -1.0}, "gumbel"),
        ({"simulations": 0}, "simulations"),
    ],
)
def test_settings_out_of_range_are_named(settings, named):
    with pytest.raises(SettingError, match=named):
        TreeSearch(3, **settings)
