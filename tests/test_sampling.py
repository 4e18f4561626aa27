"""What the sampling planners share and what each adds, against known answers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planners
from planners import Box, Knots, Problem, pytree, sampling
from planners.mppi import importance
from planners.noise import coloured_noise
from tests import planner_problems as problems

KEY = jax.random.key(0)

# Noise


@pytest.mark.parametrize(("exponent", "slope"), [(0.0, 0.0), (1.0, -1.0), (2.0, -2.0)])
def test_noise_has_the_power_law_it_is_asked_for(exponent, slope):
    noise = coloured_noise(4000, 64, 1, exponent, key=KEY)[..., 0]
    power = (jnp.abs(jnp.fft.rfft(noise, axis=1)) ** 2).mean(0)[1:-1]
    frequency = jnp.fft.rfftfreq(64)[1:-1]
    fitted = jnp.polyfit(jnp.log(frequency), jnp.log(power), 1)[0]
    np.testing.assert_allclose(fitted, slope, atol=0.08)
    np.testing.assert_allclose(noise.std(0), 1.0, atol=0.06)
    np.testing.assert_allclose(noise.mean(0), 0.0, atol=0.08)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 2), (5, 3, 1)])
def test_noise_of_any_size_is_finite_and_fresh(shape):
    noise = coloured_noise(shape[0], shape[1], shape[2], 1.0, key=KEY)
    assert noise.shape == shape and bool(jnp.isfinite(noise).all())
    assert len(np.unique(noise)) == noise.size


# Knots


@pytest.mark.parametrize("kind", ["hold", "linear", "cubic"])
@pytest.mark.parametrize(("number", "horizon"), [(1, 5), (2, 5), (3, 7), (4, 4), (5, 12)])
def test_fitting_recovers_the_knots(kind, number, horizon):
    knots = jax.random.normal(KEY, (2, number, 3))
    actions = Knots(number, kind).expand(knots, horizon)
    assert actions.shape == (2, horizon, 3)
    np.testing.assert_allclose(Knots(number, kind).fit(actions), knots, atol=1e-5)
    np.testing.assert_allclose(Knots(number, kind).expand(jnp.ones((number, 1)), horizon), 1.0, atol=1e-6)


def test_knots_have_the_shape_they_are_named_for():
    knots = jnp.array([[0.0], [1.0], [0.0]])
    np.testing.assert_allclose(Knots(3, "hold").expand(knots, 6)[:, 0], [0, 0, 1, 1, 0, 0])
    np.testing.assert_allclose(Knots(3, "linear").expand(knots, 5)[:, 0], [0, 0.5, 1, 0.5, 0])
    parabola = jnp.array([[0.0], [1.0], [4.0], [9.0], [16.0]])
    np.testing.assert_allclose(Knots(5, "cubic").expand(parabola, 9)[2:7, 0], [1, 2.25, 4, 6.25, 9], atol=1e-5)


def test_a_cubic_leaves_the_box_and_is_projected_back():
    knots = jnp.array([[-1.0], [1.0], [1.0], [-1.0]])
    curve = Knots(4).expand(knots, 31)
    assert float(curve.max()) > 1.1  # why bounds are kept after interpolating
    assert float(Box([-1.0], [1.0]).project(curve).max()) == 1.0


def test_the_spread_of_a_curve_is_that_of_its_samples():
    scale = jnp.array([[0.5], [1.0], [2.0]])
    curves = Knots(3).expand(scale * jax.random.normal(KEY, (20000, 3, 1)), 9)
    np.testing.assert_allclose(Knots(3).expand_spread(scale, 9), curves.std(0), rtol=0.03)


# Ranking and weighing

COST = jnp.array([5.0, 1.0, jnp.inf, 3.0, 2.0])


def test_feasible_plans_come_first_then_the_least_violation():
    violation = jnp.array([0.0, 2.0, 0.0, 0.0, 1.0])
    assert sampling.best_first(COST, violation, 5, constrained=True).tolist() == [3, 0, 4, 1, 2]
    assert sampling.best_first(COST, violation, 4, constrained=False).tolist() == [1, 4, 3, 0]


def test_importance_weights_are_the_softmax_of_the_cost():
    weights = importance(COST, jnp.zeros(5), 2.0, relative=False)
    expected = np.exp(-np.array([5.0, 1.0, np.inf, 3.0, 2.0]) / 2)
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-5)


def test_importance_counts_temperature_in_gaps_to_the_median():
    gap = 2.0 - 1.0  # finite costs 1, 2, 3, 5: the lower median is 2
    expected = importance(COST, jnp.zeros(5), 0.5 * gap, relative=False)
    for scale in (1.0, 1e-3, 1e6):
        np.testing.assert_allclose(importance(scale * COST, jnp.zeros(5), 0.5, relative=True), expected, rtol=1e-4)


def test_importance_prefers_feasible_plans_and_survives_without_any():
    violation = jnp.array([0.0, 2.0, 0.0, 0.0, 1.0])
    weights = importance(COST, violation, 2.0, relative=False)
    np.testing.assert_allclose(weights, np.array([np.exp(-1), 0, 0, 1, 0]) / (1 + np.exp(-1)), rtol=1e-5)
    weights = importance(COST, violation + 1, 1.0, relative=False)  # the violation takes the cost's place
    assert weights[2] == 0 and weights[0] == weights[3] > weights[4] > weights[1]
    np.testing.assert_array_equal(importance(jnp.full(3, jnp.inf), jnp.zeros(3), 1.0, relative=True), jnp.zeros(3))
    np.testing.assert_allclose(importance(jnp.ones(4), jnp.zeros(4), 0.1, relative=True), 0.25)  # no gap at all


def test_effective_samples_are_reported():
    case = problems.multi_modal()
    warm = planners.MPPI(5, samples=64, temperature=1e6)
    plan, _ = planners.plan(warm, case.problem, case.latent, warm.init(case.problem), key=KEY)
    np.testing.assert_allclose(plan.diagnostics.effective_samples, 64, rtol=1e-3)
    cold = planners.MPPI(5, samples=64, temperature=1e-4)
    plan, _ = planners.plan(cold, case.problem, case.latent, cold.init(case.problem), key=KEY)
    assert float(plan.diagnostics.effective_samples[0]) < 2


def _rough(latent, action, step):
    return (latent[0] - 1.0) ** 2 + 0.3 * jnp.sin(40 * action[0])


@pytest.mark.slow
def test_the_smoothed_form_is_smoother():
    problem = Problem(_drift, _rough, Box([-1.0], [1.0]))

    def roughness(smoothness):
        planner = planners.MPPI(10, smoothness=smoothness, temperature=0.3)
        state = jax.vmap(lambda key: planners.plan(planner, problem, jnp.zeros(1), planner.init(problem), key=key)[1])
        return jnp.square(jnp.diff(state(jax.random.split(KEY, 4)).mean, axis=1)).sum()

    assert float(roughness(1.0)) < 0.5 * float(roughness(0.0))


def _drift(latent, action, noise):
    return latent + 0.3 * action


# Several futures


def test_futures_are_scored_by_hand():
    problem = problems.noisy(planners.MEAN).problem
    noise = jnp.array([[[0.0], [0.0]], [[1.0], [0.0]], [[0.0], [-1.0]]])  # 3 futures of 2 steps
    latent, actions = jnp.zeros(1), jnp.array([[[1.0], [0.0]]])
    # cost |s - 1| at s_0, s_1, s_2: the first future 1 + 0 + 0, the second 1 + 1 + 1, the third 1 + 0 + 1
    np.testing.assert_allclose(problem.rollout(latent, actions, noise).cost, [[1.0, 3.0, 2.0]])
    for risk, expected in ((planners.MEAN, 2.0), (planners.WORST, 3.0), (planners.cvar(0.5), 2.5), (planners.cvar(1.0), 2.0)):
        cost, _ = sampling.evaluate(_replaced(problem, noise, risk), latent, actions)
        np.testing.assert_allclose(cost, [expected])


def test_one_broken_future_breaks_the_plan_and_the_worst_violation_counts():
    noise = jnp.array([[[0.0]], [[jnp.nan]]])
    cost, violation = sampling.evaluate(
        _replaced(problems.noisy(planners.MEAN).problem, noise, planners.MEAN), jnp.zeros(1), jnp.ones((1, 1, 1))
    )
    assert np.isinf(cost[0]) and np.isinf(violation[0])
    walled = Problem(
        problems._noisy,
        problems._distance,
        Box([-1.0], [1.0]),
        noise=jnp.array([[[0.0], [0.0]], [[3.0], [0.0]]]),
        constraints=_below_two,
    )
    _, violation = sampling.evaluate(walled, jnp.zeros(1), jnp.ones((1, 2, 1)))
    np.testing.assert_allclose(violation, [2.0])  # s_1 = 0 + 1 + 3 in the second future


def _below_two(latent, action, step):
    return latent - 2.0


def _replaced(problem, noise, risk):
    return Problem(problem.dynamics, problem.cost, problem.actions, problem.terminal_cost, noise=noise, risk=risk)


# Ending


def _one(latent, action, step):
    return jnp.ones(())


def _ends_above(latent, action):
    return jnp.where(action[0] > 0.9, 0.0, 1.0)


def _breaks_after_the_end(latent, action, noise):
    return jnp.where((action > 0.9) | (latent > 5), jnp.nan, latent)


def test_ending_early_is_worth_what_it_is_worth():
    """A cost of 1 a step, and a way out: the best plan leaves at once, and what the model says after that is of no interest."""
    problem = Problem(_breaks_after_the_end, _one, Box([-1.0], [1.0]), continues=_ends_above)
    planner = planners.CEM(8, samples=128, elites=16)
    plan, _ = planners.plan(planner, problem, jnp.zeros(1), planner.init(problem), key=KEY)
    assert float(plan.cost) == 1.0 and float(plan.actions[0, 0]) > 0.9
    np.testing.assert_allclose(plan.terms["cost"], 1.0)


def _nan_continues(latent, action):
    return jnp.where(action[0] > 0.0, jnp.nan, 1.0)


def test_a_nan_in_the_ending_is_not_an_ending():
    problem = Problem(_drift, _one, Box([-1.0], [1.0]), continues=_nan_continues)
    cost, _ = sampling.evaluate(problem, jnp.zeros(1), jnp.array([[[1.0], [0.0]], [[-1.0], [-1.0]]]))
    assert cost.tolist() == [float("inf"), 2.0]


def test_a_model_that_breaks_unseen_by_the_cost_does_not_win():
    case = problems.nan_pocket()
    broken = jnp.full((1, case.horizon, 1), 0.2).at[0, -1].set(0.8)
    assert np.isinf(sampling.evaluate(case.problem, case.latent, broken)[0][0])


# Proposals


@pytree
class Always:
    """A policy that knows the answer, give or take its scale."""

    mean: jax.Array
    scale: jax.Array

    def sample(self, *, key):
        return self.mean + self.scale * jax.random.normal(key, self.mean.shape)

    def log_prob(self, action):
        return -(((action - self.mean) / self.scale) ** 2).sum()


def _needle(latent, action, step):
    return jnp.where(jnp.abs(action[0] - 0.777) < 0.01, 0.0, 1.0)


def _knowing(latent):
    return Always(jnp.array([0.777]), jnp.array([0.3]))


NEEDLE = Problem(_drift, _needle, Box([-1.0], [1.0]), proposal=_knowing)


@pytest.mark.parametrize(
    "planner",
    [
        planners.CEM(6, samples=32, elites=4, iterations=2, proposals=4),
        planners.ICEM(6, samples=32, elites=4, keep=2, iterations=2, proposals=4),
        planners.MPPI(6, samples=32, iterations=2, proposals=4),
        planners.PredictiveSampling(6, samples=32, proposals=4),
        planners.RandomShooting(6, samples=32, iterations=1, proposals=4),
        planners.CEMGradient(6, samples=32, elites=4, refined=4, iterations=2, proposals=4),
    ],
    ids=lambda planner: type(planner).__name__,
)
def test_a_proposal_finds_the_needle_that_sampling_misses(planner):
    plan, _ = planners.plan(planner, NEEDLE, jnp.zeros(1), planner.init(NEEDLE), key=KEY)
    assert float(plan.cost) == 0.0  # its mode, followed for six steps


def _greedy(room):
    return Doors(-jnp.asarray(problems.TOLLS)[room])


@pytree
class Doors:
    logits: jax.Array

    def sample(self, *, key):
        return jax.random.categorical(key, self.logits).astype(jnp.int32)

    def log_prob(self, action):
        return jax.nn.log_softmax(self.logits)[action]


def test_proposals_of_discrete_actions_are_rolled_through_the_dynamics():
    case = problems.puzzle(horizon=4)
    problem = Problem(
        case.problem.dynamics, case.problem.cost, case.problem.actions, case.problem.terminal_cost, proposal=_greedy
    )
    plans = sampling.propose(problem, case.latent, 3, 4, key=KEY)
    room, cheapest = 0, []
    for _ in range(4):
        cheapest.append(int(np.argmin(problems.TOLLS[room])))
        room = problems.ROOMS[room, cheapest[-1]]
    assert plans.dtype == jnp.int32 and plans.shape == (3, 4) and plans[0].tolist() == cheapest
    planner = planners.CategoricalCEM(4, proposals=3)
    plan, _ = planners.plan(planner, problem, case.latent, planner.init(problem), key=KEY)
    np.testing.assert_allclose(float(plan.cost), case.optimum, atol=1e-5)


# One planner at a time


def test_icem_shrinks_as_the_paper_says():
    planner = planners.ICEM(5, samples=100, elites=10, keep=4, iterations=6, shrink=1.25)
    assert planner.population == (100, 80, 64, 51, 40, 32)
    assert planners.ICEM(5, samples=100, elites=20, keep=4, iterations=6, shrink=2.0).population == (100, 50, 40, 40, 40, 40)


def test_cem_converges_and_says_so():
    case = problems.linear_quadratic(horizon=3)
    planner = planners.CEM(3, samples=128, elites=8, iterations=20)
    plan, _ = planners.plan(planner, case.problem, case.latent, planner.init(case.problem), key=KEY)
    assert planners.Status(int(plan.status)) == planners.Status.CONVERGED
    np.testing.assert_allclose(plan.spread, 0.05 * 3.0, rtol=1e-5)
    hasty = planners.CEM(3, samples=128, elites=8, iterations=1)
    plan, _ = planners.plan(hasty, case.problem, case.latent, hasty.init(case.problem), key=KEY)
    assert planners.Status(int(plan.status)) == planners.Status.BUDGET_SPENT


def test_gradients_sharpen_cem():
    """At equal samples and iterations the hybrid comes nearer to Riccati's optimum."""
    case = problems.linear_quadratic()
    gaps = []
    for planner in (planners.CEM(10, 64, 3, 8), planners.CEMGradient(10, 64, 3, 8)):
        run = jax.vmap(
            lambda key, p=planner: planners.plan(p, case.problem, case.latent, p.init(case.problem), key=key)[0].cost
        )
        gaps.append(float(run(jax.random.split(KEY, 4)).mean()) - case.optimum)
    assert gaps[1] < 0.2 * gaps[0]


@pytest.mark.slow
def test_memory_does_not_hold_a_copy_of_the_parameters_per_sample():
    weights = jnp.ones((64, 64)) / 64

    def decide(samples, horizon):
        planner = planners.CEM(horizon, samples=samples, elites=8, iterations=2)
        problem = Problem(jax.tree_util.Partial(_through, weights), _far, Box([-1.0], [1.0]))
        arguments = (problem, jnp.zeros(64), planner.init(problem), KEY)
        whole = jax.jit(lambda problem, latent, state, key: planners.plan(planner, problem, latent, state, key=key))
        analysis: Any = whole.lower(*arguments).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    few, many, long = decide(64, 5), decide(256, 5), decide(64, 20)
    assert many < 4.5 * few  # linear in samples
    assert long < 4.5 * few  # and in the horizon
    assert many < 256 * weights.nbytes / 4


def _through(weights, latent, action, noise):
    return jnp.tanh(weights @ latent + action)


def _far(latent, action, step):
    return ((latent - 1) ** 2).sum()
