"""The planning agent acts on observations, through any model and cost, and refuses what it cannot use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
import planners
import worldmodels
from mpc.costs import check
from mpc.errors import CostError
from planners import ProblemShapeError
from tests import tiny
from worldmodels import SpecError

PLANNER = planners.ICEM(horizon=8, samples=48, iterations=3, elites=8, keep=4)


class DoubleIntegrator(worldmodels.JEPA):
    """The tiny world's own physics in the place of a learned predictor: latents are [position, velocity]."""

    def start(self, observation):
        return self.spec.flatten(observation)

    def predict(self, latent, action, noise):
        force = self.spec.action.denormalise(action)[0]
        return jnp.stack(tiny.step(latent[0], latent[1], force))

    def readout(self, latent):
        return self.spec.unflatten(latent)


def true_model(spec=tiny.SPEC):
    return DoubleIntegrator(spec, latent=2, hidden=4, head=4, expander=4)


def reach(readout, action, step, target):
    return (readout["position"][0] - target) ** 2 + 0.01 * action[0] ** 2


def agent(target=0.0, model=None, planner=PLANNER, **settings):
    return mpc.PlanningAgent(model or true_model(), mpc.cost(reach, target=target), planner, **settings)


def drive(agent, steps=60, position=1.0):
    state, velocity = agent.reset(tiny.observation(position, 0.0)), 0.0
    for step in range(steps):
        decision, state = agent.act(state, tiny.observation(position, velocity), key=jax.random.key(step))
        position, velocity = tiny.step(position, velocity, float(decision.action[0]))
    return position


@pytest.mark.parametrize("planner", [PLANNER, planners.Gradient(horizon=8, starts=2, iterations=15)])
def test_it_drives_the_world_to_the_target(planner):
    assert abs(drive(agent(0.5, planner=planner)) - 0.5) < 0.1


def test_a_new_target_moves_it_elsewhere_and_compiles_nothing():
    from mpc import agent as module

    assert abs(drive(agent(0.5)) - 0.5) < 0.1
    compiled = module._act._cache_size()
    assert abs(drive(agent(-0.5)) + 0.5) < 0.1
    drive(agent(-0.5, model=jax.tree.map(lambda x: x + 1.0, true_model())), steps=2)
    assert module._act._cache_size() == compiled


def test_actions_are_in_environment_units_and_inside_their_bounds():
    acting = agent(100.0)
    state = acting.reset(tiny.observation())
    decision, state = acting.act(state, tiny.observation(), key=jax.random.key(0))
    assert 1.5 < float(decision.action[0]) <= 2.0
    np.testing.assert_allclose(decision.action, 2 * decision.plan.actions[0], rtol=1e-6)
    assert planners.Status(int(decision.status)).sentence
    np.testing.assert_allclose(sum(decision.plan.terms.values()), decision.cost, rtol=1e-4)


def test_exploration_adds_noise_only_when_asked_and_stays_inside():
    acting = agent(100.0, exploration=0.5)
    state = acting.reset(tiny.observation())
    explored = {
        float(acting.act(state, tiny.observation(), explore=True, key=jax.random.key(k))[0].action[0]) for k in range(20)
    }
    assert len(explored) > 5
    assert max(map(abs, explored)) <= 2.0


def test_the_same_key_gives_the_same_decision():
    acting = agent()
    state = acting.reset(tiny.observation())
    first, _ = acting.act(state, tiny.observation(), key=jax.random.key(3))
    again, _ = acting.act(state, tiny.observation(), key=jax.random.key(3))
    assert float(first.action[0]) == float(again.action[0])


def test_a_goal_observation_is_reached_and_may_change_without_compiling():
    from mpc import agent as module

    made = mpc.PlanningAgent(true_model(), mpc.goal(tiny.observation(0.5, 0.0)), PLANNER)
    assert abs(drive(made) - 0.5) < 0.15
    compiled = module._act._cache_size()
    assert abs(drive(mpc.PlanningAgent(true_model(), mpc.goal(tiny.observation(-0.5, 0.0)), PLANNER)) + 0.5) < 0.15
    assert module._act._cache_size() == compiled


def test_the_gradient_of_a_plans_cost_matches_finite_differences():
    problem = mpc.PlanningAgent(
        worldmodels.JEPA(tiny.SPEC, latent=8, hidden=16, head=16, expander=16), mpc.cost(reach, target=0.3), PLANNER
    ).problem()
    latent = jnp.linspace(-1, 1, 8)
    noise = problem.futures(8)[0]
    value = jax.jit(lambda actions: problem.score(latent, actions, noise)[0])
    point = 0.5 * jax.random.normal(jax.random.key(0), (8, 1))
    direction = jax.random.normal(jax.random.key(1), (8, 1))
    small = 1e-2
    numeric = (value(point + small * direction) - value(point - small * direction)) / (2 * small)
    np.testing.assert_allclose(jnp.vdot(jax.grad(value)(point), direction), numeric, rtol=2e-2)


def test_wrong_observations_are_refused_by_name():
    acting = agent()
    state = acting.reset(tiny.observation())
    for observation, words in [
        ({"position": np.zeros(1)}, "velocity"),
        ({"position": np.zeros(2), "velocity": np.zeros(1)}, r"position.*shape \(2,\)"),
        ({"position": np.array([np.nan]), "velocity": np.zeros(1)}, "NaN"),
        ({"position": np.array(["a"]), "velocity": np.zeros(1)}, "dtype"),
    ]:
        with pytest.raises(SpecError, match=words):
            acting.act(state, observation, key=jax.random.key(0))
        with pytest.raises(SpecError, match=words):
            acting.reset(observation)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda readout, action, step: readout["position"], r"shape \(1,\).*one number"),
        (lambda readout, action, step: jnp.log(-1.0 - readout["position"][0] ** 2), "nan.*finite"),
        (lambda readout, action, step: readout["speed"][0], r"speed.*position.*velocity"),
        (lambda readout, action: readout["position"][0], r"TypeError.*\(readout, action, step\)"),
        (lambda readout, action, step: None, "Expected a function"),
        (lambda readout, action, step: 1.0 if readout["position"][0] > 0 else 0.0, r"jnp\.where"),
        (lambda readout, action, step: readout["position"][0] * 1j, "complex"),
    ],
)
def test_wrong_costs_are_refused_at_reset(function, words):
    acting = mpc.PlanningAgent(true_model(), mpc.cost(function), PLANNER)
    with pytest.raises(CostError, match=words):
        acting.reset(tiny.observation())


def test_what_is_no_cost_is_refused():
    with pytest.raises(CostError, match="function"):
        mpc.cost("position")  # type: ignore[arg-type]
    with pytest.raises(CostError, match=r"mpc\.cost"):
        mpc.PlanningAgent(true_model(), reach, PLANNER).reset(tiny.observation())


def test_a_learned_cost_that_nothing_was_learned_for_is_refused():
    for costs in (None, np.zeros((9, 1), np.float32), np.arange(9, dtype=np.float32)[:, None]):
        model = true_model()
        if costs is not None:
            model.cost_normaliser.fit(costs)
        acting = mpc.PlanningAgent(model, mpc.LearnedCost(), PLANNER)
        if costs is None or not costs.any():
            with pytest.raises(CostError, match="no cost but zero was paid"):
                acting.reset(tiny.observation())
            check(model, mpc.LearnedCost(), tiny.observation(), critic=object())  # which tells plans apart instead
        else:
            acting.reset(tiny.observation())


def test_a_vector_cost_is_refused_by_the_problem_too():
    problem = planners.Problem(lambda s, a, z: s, lambda s, a, t: s, planners.Box([-1.0], [1.0]))
    with pytest.raises(ProblemShapeError, match="cost returned"):
        planners.plan(PLANNER, problem, jnp.zeros(2), PLANNER.init(problem), key=jax.random.key(0))
