"""Bad input is refused before anything is computed, by an error that names the field."""

import jax
import jax.numpy as jnp
import pytest

import planners
from planners import ActionSpaceError, Box, Discrete, PlannerError, Problem, ProblemShapeError, SettingError
from planners.sampling import SamplingState
from tests.planner_list import CONTINUOUS, DISCRETE


def move(latent, action, noise):
    return latent + action


def distance(latent, action, step):
    return (latent**2).sum()


BOX = Box([-1.0], [1.0])
PROBLEM = Problem(move, distance, BOX)
HOPS = Problem(move, distance, Discrete(3))
LATENT = jnp.zeros(1)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: planners.CEM(0), "horizon"),
        (lambda: planners.CEM(5, iterations=0), "iterations"),
        (lambda: planners.CEM(2.5), "horizon=2.5.*integer"),  # type: ignore[arg-type]
        (lambda: planners.CEM(True), "horizon=True.*integer"),
        (lambda: planners.CEM(5, samples=100.5), "samples=100.5"),  # type: ignore[arg-type]
        (lambda: planners.CEM(5, iterations=2.5), "iterations=2.5"),  # type: ignore[arg-type]
        (lambda: planners.CEM(5, proposals=1.5), "proposals=1.5"),  # type: ignore[arg-type]
        (lambda: planners.CEM(5, momentum="a"), "momentum='a'"),  # type: ignore[arg-type]
        (lambda: planners.Knots(2.5), "number=2.5"),  # type: ignore[arg-type]
        (lambda: planners.TreeSearch(5, candidates=3.5), "candidates=3.5"),  # type: ignore[arg-type]
        (lambda: planners.CategoricalCEM(5, samples=64.5), "samples=64.5"),  # type: ignore[arg-type]
        (lambda: planners.ICEM(5, keep=2.5), "keep=2.5"),  # type: ignore[arg-type]
        (lambda: Problem(move, distance, BOX, discount="a"), "discount='a'"),
        (lambda: Problem(move, distance, BOX, risk="mean"), "risk='mean'"),  # type: ignore[arg-type]
        (lambda: planners.CEM(5, elites=0), "elites"),
        (lambda: planners.CEM(5, samples=10, elites=20), "elites=20"),
        (lambda: planners.CEM(5, samples=2, elites=1), "samples=2"),
        (lambda: planners.CEM(5, spread=-0.1), "spread"),
        (lambda: planners.CEM(5, spread=float("nan")), "spread"),
        (lambda: planners.CEM(5, min_spread=0.0), "min_spread"),
        (lambda: planners.CEM(5, momentum=1.0), "momentum"),
        (lambda: planners.CEM(5, proposals=-1), "proposals"),
        (lambda: planners.CEM(5, samples=64, elites=8, proposals=64), "samples=64"),
        (lambda: planners.CEM(5, parameterisation=planners.Knots(6)), "number=6"),
        (lambda: planners.CEM(5, parameterisation=None), "parameterisation=None"),  # type: ignore[arg-type]
        (lambda: planners.Knots(0), "number"),
        (lambda: planners.Knots(3, "quartic"), "kind"),
        (lambda: planners.ICEM(5, keep=40, elites=32), "keep=40"),
        (lambda: planners.ICEM(5, keep=0), "keep"),
        (lambda: planners.ICEM(5, shrink=0.5), "shrink"),
        (lambda: planners.ICEM(5, samples=60, elites=8, keep=8, proposals=10, shrink=4.0), "samples=16"),
        (lambda: planners.MPPI(5, temperature=0.0), "temperature"),
        (lambda: planners.MPPI(5, temperature=float("nan")), "temperature=nan"),
        (lambda: planners.ICEM(5, exponent=float("nan")), "exponent=nan"),
        (lambda: planners.Gradient(5, learning_rate=float("nan")), "learning_rate=nan"),
        (lambda: planners.ILQR(5, penalty=float("nan")), "penalty=nan"),
        (lambda: planners.TreeSearch(5, widen=float("inf")), "widen=inf"),
        (lambda: planners.MPPI(5, smoothness=-1.0), "smoothness"),
        (lambda: planners.PredictiveSampling(5, spread=0.0), "spread"),
        (lambda: planners.RandomShooting(5, samples=0), "samples"),
        (lambda: planners.CEMGradient(5, steps=0), "steps"),
        (lambda: planners.CEMGradient(5, refined=500), "elites=500"),
        (lambda: planners.CEMGradient(5, learning_rate=0.0), "learning_rate"),
        (lambda: planners.CEMGradient(5, penalty=0.0), "penalty"),
        (lambda: planners.CategoricalCEM(5, min_probability=1.0), "min_probability"),
        (lambda: planners.CategoricalCEM(5, forget=1.5), "forget"),
        (lambda: planners.cvar(0.0), "cvar"),
        (lambda: planners.cvar(1.5), "cvar"),
        (lambda: Problem(move, distance, BOX, discount=0.0), "discount"),
        (lambda: Problem(move, distance, BOX, discount=1.1), "discount"),
    ],
)
def test_a_setting_out_of_range_is_named(make, named):
    with pytest.raises(SettingError, match=named):
        make()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Box([1.0], [-1.0]), "low < high"),
        (lambda: Box([0.0], [0.0]), "low < high"),
        (lambda: Box([-jnp.inf], [1.0]), "finite"),
        (lambda: Box([-1.0, 0.0], [1.0]), "same shape"),
        (lambda: Box([[-1.0]], [[1.0]]), "same shape"),
        (lambda: Box([-1.0], [1.0], rate=[0.0]), "rate"),
        (lambda: Box([-1.0], [1.0], rate=[0.1, 0.1]), "rate"),
        (lambda: Box([-1.0], [1.0], previous=[0.0]), "previous"),
        (lambda: Discrete(1), "n=1"),
        (lambda: Discrete(2.5), "n=2.5"),  # type: ignore[arg-type]
        (lambda: Discrete("3"), "n='3'"),  # type: ignore[arg-type]
        (lambda: Box([-3e38], [3e38]), "subtract"),
        (lambda: Box([], []), "at least one"),
        (lambda: Box(None, None), "low=None"),
        (lambda: Box("a", "b"), "low='a'"),
        (lambda: Box([[1.0], [1.0, 2.0]], [1.0]), "low="),
        (lambda: Problem(move, distance, (-1.0, 1.0)), "actions"),  # type: ignore[arg-type]
    ],
)
def test_an_action_space_that_cannot_be_planned_in_is_named(make, named):
    with pytest.raises(ActionSpaceError, match=named):
        make()


ONLY_CONTINUOUS = [member for member in CONTINUOUS if not isinstance(member.make(5), planners.TreeSearch)]


@pytest.mark.parametrize("member", ONLY_CONTINUOUS, ids=lambda member: member.name)
def test_continuous_planners_refuse_discrete_actions(member):
    planner = member.make(5)
    with pytest.raises(ActionSpaceError, match=f"{type(planner).__name__} plans continuous actions"):
        planner.init(HOPS)


@pytest.mark.parametrize("member", [m for m in DISCRETE if m.name == "categorical-cem"], ids=lambda member: member.name)
def test_discrete_planners_refuse_a_box(member):
    with pytest.raises(ActionSpaceError, match="plans discrete actions"):
        member.make(5).init(PROBLEM)


def wide(latent, action, noise):
    return jnp.concatenate([latent, action])


def whole(latent, action, noise):
    return jnp.zeros(1, jnp.int32)


def vector_cost(latent, action, step):
    return latent**2


def vector_end(latent):
    return latent


def vector_continues(latent, action):
    return jnp.ones(2)


def scalar_constraint(latent, action, step):
    return action[0]


def misfit(latent, action, noise):
    return jnp.ones((3, 3)) @ latent


def fails(latent, action, step):
    raise ZeroDivisionError("no")


class Wrong:
    def sample(self, *, key):
        return jnp.zeros(7)


def wrong_proposal(latent):
    return Wrong()


@pytest.mark.parametrize(
    ("problem", "named"),
    [
        (Problem(wide, distance, BOX), "dynamics turned"),
        (Problem(whole, distance, BOX), "dynamics turned"),
        (Problem(misfit, distance, BOX), "dynamics failed"),
        (Problem(move, fails, BOX), "cost failed"),
        (Problem(move, vector_cost, BOX), "cost returned"),
        (Problem(move, distance, BOX, vector_end), "terminal_cost returned"),
        (Problem(move, distance, BOX, continues=vector_continues), "continues returned"),
        (Problem(move, distance, BOX, constraints=scalar_constraint), "constraints returned"),
        (Problem(move, distance, BOX, proposal=wrong_proposal), "proposal sampled"),
        (Problem(move, distance, BOX, noise=jnp.zeros((2, 3, 1))), "noise has shape"),
        (Problem(move, distance, BOX, noise=jnp.zeros((0, 5, 1))), "noise has shape"),
        (Problem(move, distance, BOX, noise=jnp.zeros(5)), "noise has shape"),
    ],
)
def test_a_part_of_the_wrong_shape_is_named(problem, named):
    planner = planners.CEM(5, samples=16, elites=4)
    with pytest.raises(ProblemShapeError, match=named):
        planners.plan(planner, problem, LATENT, planner.init(problem), key=jax.random.key(0))


@pytest.mark.parametrize(
    ("planner", "problem", "named"),
    [("cem", PROBLEM, "planner='cem'"), (planners.CEM, PROBLEM, "planner=<class"), (planners.CEM(5), None, "problem=None")],
)
def test_what_is_no_planner_or_no_problem_is_refused(planner, problem, named):
    with pytest.raises(PlannerError, match=named):
        planners.plan(planner, problem, LATENT, jnp.zeros((5, 1)), key=jax.random.key(0))


def test_proposals_without_a_policy_are_refused():
    planner = planners.CEM(5, samples=16, elites=4, proposals=2)
    with pytest.raises(SettingError, match="no proposal"):
        planners.plan(planner, PROBLEM, LATENT, planner.init(PROBLEM), key=jax.random.key(0))


def test_another_horizons_state_is_refused():
    planner = planners.CEM(5, samples=16, elites=4)
    with pytest.raises(SettingError, match="own init"):
        planners.plan(planner, PROBLEM, LATENT, planners.CEM(4).init(PROBLEM), key=jax.random.key(0))
    crowded = SamplingState(jnp.zeros((5, 1)), jnp.zeros((9, 5, 1)))
    with pytest.raises(SettingError, match="9 plans"):
        planners.plan(planner, PROBLEM, LATENT, crowded, key=jax.random.key(0))


def test_a_tree_has_no_discount_of_its_own():
    """It could not agree with the problem's for long: what is set is refused, what holds is `Problem.discount`."""
    with pytest.raises(TypeError, match="discount"):
        planners.TreeSearch(5, discount=0.9)  # type: ignore[call-arg]


def test_every_error_is_a_planner_error_and_a_value_error():
    for error in (ActionSpaceError, ProblemShapeError, SettingError):
        assert issubclass(error, PlannerError)
        assert issubclass(error, ValueError)
