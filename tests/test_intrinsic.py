"""Intrinsic costs: by hand, by finite differences, and changed at run time without compiling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
import planners
from mpc.costs import OnModel, check
from mpc.errors import CostError
from planners import Status
from tests import tiny
from tests.test_agent import true_model

MODEL = mpc.RememberingAction(true_model())
LATENT = {"latent": jnp.array([0.7, -0.4]), "previous": jnp.array([0.3])}
ACTION = jnp.array([-0.2])  # normalised: -0.4 in the tiny world's units

COSTS = {  # name: (cost, its value at LATENT and ACTION)
    "reach": (mpc.reach("position", 0.5), 0.5 * 0.2**2),
    "reach, smooth": (mpc.reach("velocity", 0.0, norm="smooth_abs"), np.sqrt(0.4**2 + 0.01) - 0.1),
    "inside": (mpc.within("position", -1.0, 1.0), 0.0),
    "above": (mpc.within("position", -1.0, 0.6), 0.5 * 0.1**2),
    "below": (mpc.within("velocity", 0.0, 1.0, index=0), 0.5 * 0.4**2),
    "effort": (mpc.effort(), 0.5 * 0.4**2),
    "smoothness": (mpc.smoothness(), 0.5 * (-0.4 - 0.6) ** 2),
    "residual": (mpc.residual(lambda r, a, s, gain: gain * r["position"] * r["velocity"], gain=3.0), 0.5 * (3 * 0.28) ** 2),
    "function": (mpc.cost(lambda r, a, s, w: w * jnp.sin(r["position"][0]) + a[0] ** 2, w=2.0), 2 * np.sin(0.7) + 0.16),
    "combined": (
        mpc.combine(near=(2.0, mpc.reach("position", 0.5)), still=(0.5, mpc.effort())),
        2.0 * 0.5 * 0.2**2 + 0.5 * 0.5 * 0.4**2,
    ),
    "goal": (mpc.goal(tiny.observation(0.5, 0.0)), (0.2**2 + 0.4**2) / 2 + 0.01 * 0.2**2),
}


def value(cost, latent=LATENT, action=ACTION):
    return OnModel(MODEL, cost)(latent, action, jnp.zeros((), jnp.int32))


@pytest.mark.parametrize("name", COSTS)
def test_a_cost_is_what_its_formula_says(name):
    cost, expected = COSTS[name]
    assert isinstance(cost, mpc.TaskCost)
    np.testing.assert_allclose(value(cost), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", COSTS)
def test_its_gradient_agrees_with_finite_differences(name):
    cost, _ = COSTS[name]

    def of(vector):
        return value(cost, {"latent": vector[:2], "previous": vector[2:3]}, vector[3:])

    point = jnp.concatenate([LATENT["latent"], LATENT["previous"], ACTION])
    step = 1e-2
    wanted = [(of(point.at[i].add(step)) - of(point.at[i].add(-step))) / (2 * step) for i in range(4)]
    np.testing.assert_allclose(jax.grad(of)(point), wanted, rtol=1e-2, atol=2e-3)


def test_terms_are_reported_by_name_and_sum_to_the_cost():
    cost, expected = COSTS["combined"]
    terms = OnModel(MODEL, cost).terms(LATENT, ACTION, jnp.zeros((), jnp.int32))
    assert set(terms) == {"near", "still"}
    np.testing.assert_allclose(terms["still"], 0.04, rtol=1e-6)
    np.testing.assert_allclose(sum(terms.values()), expected, rtol=1e-6)


def test_half_the_squared_residuals_are_the_cost():
    cost, expected = COSTS["combined"]
    r = OnModel(MODEL, cost).residuals(LATENT, ACTION, jnp.zeros((), jnp.int32))
    np.testing.assert_allclose(0.5 * (r**2).sum(), expected, rtol=1e-6)
    mixed = mpc.combine(near=(1.0, mpc.reach("position", 0.5)), learned=(1.0, mpc.goal(tiny.observation())))
    assert OnModel(MODEL, mixed).residuals(LATENT, ACTION, 0) is None


def test_a_plan_ends_with_the_state_and_pays_no_action_there():
    cost = mpc.combine(near=(2.0, mpc.reach("position", 0.5)), smooth=(5.0, mpc.smoothness()), still=(0.5, mpc.effort()))
    np.testing.assert_allclose(cost.terminal(MODEL, LATENT, 3), 2.0 * 0.5 * 0.2**2, rtol=1e-6)


def test_new_weights_and_targets_compile_nothing():
    traced = []

    @jax.jit
    def priced(cost):
        traced.append(None)
        return value(cost)

    for weight in (0.0, 1.0, 2.0):
        cost = mpc.combine(near=(weight, mpc.reach("position", weight)), still=(0.5, mpc.effort()))
        np.testing.assert_allclose(priced(cost), value(cost), rtol=1e-6)
        np.testing.assert_allclose(priced(cost.changed(still=weight)), value(cost.changed(still=weight)), rtol=1e-6)
    assert len(traced) == 1


def test_gauss_newton_reaches_the_target():
    cost = mpc.combine(near=(1.0, mpc.reach("position", 0.1)), still=(0.01, mpc.effort()))
    agent = mpc.PlanningAgent(true_model(), cost, planners.ILQR(horizon=12, iterations=8))
    observation = tiny.observation(0.0, 0.0)
    decision, _ = agent.act(agent.reset(observation), observation, key=jax.random.key(0))
    assert int(decision.plan.status) == Status.CONVERGED
    assert abs(float(decision.plan.latents[-1, 0]) - 0.1) < 0.02


def test_a_smooth_agent_changes_its_action_less():
    def roughness(weight):
        cost = mpc.combine(near=(1.0, mpc.reach("position", 0.5)), smooth=(weight, mpc.smoothness()))
        agent = mpc.PlanningAgent(MODEL, cost, planners.Gradient(horizon=8, starts=1, iterations=30))
        state, position, velocity, sent = agent.reset(tiny.observation(0.0, 0.0)), 0.0, 0.0, [0.0]
        for step in range(10):
            decision, state = agent.act(state, tiny.observation(position, velocity), key=jax.random.key(step))
            sent.append(float(decision.action[0]))
            position, velocity = tiny.step(position, velocity, sent[-1])
        return np.abs(np.diff(sent)).max()

    assert roughness(1.0) < 0.5 * roughness(0.0)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: mpc.combine(), "at least one term"),
        (lambda: mpc.combine(near=mpc.effort()), r"combine\(near="),
        (lambda: mpc.combine(near=(-1.0, mpc.effort())), "weight of near"),
        (lambda: mpc.combine(near=(1.0, mpc.effort())).changed(neer=1.0), "Did you mean near"),
        (lambda: mpc.combine(near=(1.0, mpc.effort())).changed(near=float("nan")), "near=nan"),
        (lambda: mpc.reach("position", 0.0).changed(target=[1.0, 2.0]), "of shape"),
        (lambda: mpc.reach("position", "far"), "target='far'"),
        (lambda: mpc.within("position", 1.0, -1.0), "low <= high"),
        (lambda: mpc.residual(lambda r, a, s: 0, norm="cubic"), "norm='cubic'"),
        (lambda: mpc.residual(3.0), "expected a function"),
        (lambda: mpc.reach("position", 0.0, index=0.5), "index=0.5: expected the number of an entry of 'position'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make, named):
    with pytest.raises(CostError, match=named):
        make()


def test_a_cost_of_an_unknown_readout_names_those_there_are():
    agent = mpc.PlanningAgent(true_model(), mpc.smoothness(), planners.CEM(horizon=4, samples=16, elites=4))
    with pytest.raises(CostError, match=r"previous_action.*position"):
        agent.reset(tiny.observation())


@pytest.mark.parametrize(
    ("cost", "named"),
    [
        (mpc.reach("positon", 0.0), r"reads 'positon'.*Did you mean position\?"),
        (mpc.within("velocty", 0.0, 1.0), r"reads 'velocty'.*Did you mean velocity\?"),
        (mpc.cost(lambda r, a, s: r["velocty"][0]), r"reads 'velocty'.*Did you mean velocity\?"),
        (
            mpc.combine(near=(1.0, mpc.reach("speed", 0.0))),
            r"reads 'speed' but the model's readouts are \['position', 'velocity'\]",
        ),
        (mpc.cost(lambda r, a, s: {"x": 1.0}["y"]), "the cost raised KeyError: 'y'"),
        (mpc.cost(lambda r, a, s: {"x": 1.0}["velocity"]), "the cost raised KeyError: 'velocity'"),
        (mpc.reach("position", 0.0, index=7), r"index=7: the readout 'position' has shape \(1,\)"),
        (mpc.within("position", 0.0, 1.0, index=-2), r"index=-2: the readout 'position' has shape \(1,\)"),
        (
            mpc.reach("position", [0.0, 1.0, 2.0]),
            r"target has shape \(3,\), what is read of 'position' \(1,\): expected the same",
        ),
        (mpc.reach("position", [0.0], index=0), r"target has shape \(1,\), what is read of 'position' \(\): expected the same"),
        (mpc.within("position", [0.0, 1.0], 2.0), r"low has shape \(2,\), what is read of 'position'"),
        (mpc.within("position", 0.0, [1.0, 2.0]), r"high has shape \(2,\), what is read of 'position'"),
    ],
)
def test_a_cost_that_does_not_fit_the_readouts_is_told_before_anything_is_planned(cost, named):
    with pytest.raises(CostError, match=named):
        check(true_model(), cost, tiny.observation())


def test_the_last_entry_and_a_target_of_the_readouts_shape_fit():
    np.testing.assert_allclose(value(mpc.reach("position", [0.5], norm="quadratic")), 0.5 * 0.2**2, rtol=1e-5)
    np.testing.assert_allclose(value(mpc.reach("position", 0.5, index=-1)), 0.5 * 0.2**2, rtol=1e-5)


def test_readouts_pass_through_what_jax_makes_of_pytrees():
    doubled = mpc.cost(lambda r, a, s: jax.tree.map(lambda x: 2 * x, r)["position"][0])
    np.testing.assert_allclose(value(doubled), 1.4, rtol=1e-5)
