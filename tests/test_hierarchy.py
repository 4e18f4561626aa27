"""Plans of plans: a maze of known shortest path, rates and warm starts of levels, subgoal costs, and bad hierarchies."""

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import mpc
import planners
from mpc.hierarchy.problem import LastSubgoal, SubgoalCost, Subgoals, guided
from mpc.hierarchy.reach import Legs, within_reach
from planners import FunctionCost, sampling
from tests import planner_problems as known

WALLS = np.array([[0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]], bool)  # a U, its two ends near each other as the crow flies
START, GOAL = (0, 0), (0, 2)
MOVES = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
STRIDE = 4  # steps of the point from one room to the next
SPEED = 1 / STRIDE


def shortest(start=START, goal=GOAL) -> int:
    """Rooms to go through, by breadth-first search."""
    distances, queue = {start: 0}, deque([start])
    while queue:
        room = queue.popleft()
        for move in MOVES:
            following = (room[0] + int(move[0]), room[1] + int(move[1]))
            if (
                all(0 <= x < n for x, n in zip(following, WALLS.shape, strict=True))
                and not WALLS[following]
                and following not in distances
            ):
                distances[following] = distances[room] + 1
                queue.append(following)
    return distances[goal]


def free(position):
    """Whether a position [2] is in a room and no wall; rooms are unit squares around integers."""
    room = jnp.round(position).astype(jnp.int32)
    size = jnp.asarray(WALLS.shape)
    inside = ((room >= 0) & (room < size)).all()
    return inside & ~jnp.asarray(WALLS)[tuple(jnp.clip(room, 0, size - 1))]


def glide(position, action, noise):
    """Along one axis, then the other; walls stop it."""
    for axis in (0, 1):
        moved = position.at[axis].add(SPEED * action[axis])
        position = jnp.where(free(moved), moved, position)
    return position


def room_to_room(position, move, noise):
    """From the middle of a room to the middle of the next."""
    following = jnp.round(position) + jnp.asarray(MOVES, jnp.float32)[move]
    return jnp.where(free(following), following, jnp.round(position))


def effort(position, action, step):
    return 1e-3 * (action**2).sum()


def to_goal(position, action=None, step=None):
    return jnp.abs(position - jnp.asarray(GOAL, jnp.float32)).sum()


def not_there(position, move, step):
    return 0.1 * (to_goal(position) > 0.5)


def same(position):
    return position


POINT = planners.ICEM(2 * STRIDE, samples=64, iterations=4, elites=8, keep=2)


def maze() -> Any:
    box = planners.Box([-1.0, -1.0], [1.0, 1.0])
    rooms = planners.Problem(room_to_room, not_there, planners.Discrete(4), to_goal)
    levels = (mpc.Level(planners.Problem(glide, effort, box)), mpc.Level(rooms, lift=same, stride=STRIDE))
    return mpc.HierarchicalProblem(levels, jnp.zeros(2))


def walk(planner, problem, steps: int):
    """Positions [steps+1, 2] of a point that plans at every step."""

    def step(carry, key):
        position, state = carry
        plan, state = planners.plan(planner, problem, position, state, key=key)
        position = glide(position, plan.actions[0], None)
        return (position, state), position

    start = jnp.asarray(START, jnp.float32)
    keys = jax.random.split(jax.random.key(0), steps)
    return np.asarray(jax.jit(lambda: jax.lax.scan(step, (start, planner.init(problem)), keys)[1])())


ROOMS = planners.CategoricalCEM(10, samples=2048, iterations=8, elites=32)


@pytest.mark.slow
def test_two_levels_leave_a_dead_end_that_holds_one():
    steps = STRIDE * shortest() + STRIDE
    path = walk(mpc.HierarchicalPlanner((POINT, ROOMS)), maze(), steps)
    assert all(bool(free(jnp.asarray(position))) for position in path)
    assert np.abs(path[-1] - GOAL).max() < 0.2
    box = planners.Box([-1.0, -1.0], [1.0, 1.0])
    stuck = walk(POINT, planners.Problem(glide, to_goal, box, to_goal), steps)  # the same horizon, the goal as its cost
    assert np.abs(stuck - GOAL).sum(1).min() > 1.0


@pytest.mark.slow
def test_the_upper_level_finds_the_shortest_way_and_asks_for_its_rooms():
    planner, problem = mpc.HierarchicalPlanner((POINT, ROOMS)), maze()
    start = jnp.asarray(START, jnp.float32)
    search = jax.jit(planner.begin)(problem, start, planner.init(problem), key=jax.random.key(0))
    rooms = np.asarray(search.courses[0].states[0])
    away = np.abs(rooms - GOAL).sum(1)
    assert shortest() == 8 and (away < 0.5).argmax() == 8
    due = np.flatnonzero(search.subgoals.due)
    assert due.tolist() == [STRIDE, 2 * STRIDE]
    np.testing.assert_array_equal(search.subgoals.aims[0][due], rooms[1:3])


def through_a_wall(position, move, noise):
    """As `room_to_room`, for somebody who takes the wall between start and goal for a room."""
    following = jnp.round(position) + jnp.asarray(MOVES, jnp.float32)[move]
    inside = ((following >= 0) & (following < jnp.asarray(WALLS.shape))).all()
    return jnp.where(free(following) | (inside & (following == jnp.array([0.0, 1.0])).all()), following, jnp.round(position))


def straight(reached, aimed):
    return jnp.abs(reached - aimed).sum()


@pytest.mark.slow
def test_a_wall_that_only_the_lower_level_knows_of_is_gone_round():
    planner, known = mpc.HierarchicalPlanner((POINT, ROOMS)), maze()
    rooms = replace(known.levels[1], problem=replace(known.levels[1].problem, dynamics=through_a_wall), distance=straight)
    steps = STRIDE * (shortest() + 3)
    ends = []
    for reach in (np.inf, 0.45):
        path = walk(planner, mpc.HierarchicalProblem((known.levels[0], replace(rooms, reach=reach)), jnp.zeros(2)), steps)
        ends.append(np.abs(path - GOAL).sum(1).min())
    assert ends[0] > 1.4  # it stays before the wall
    assert ends[1] < 0.2


def test_one_level_is_the_flat_planner_to_the_last_bit():
    case = known.linear_quadratic()
    flat = planners.RandomShooting(case.horizon, samples=16, iterations=2)
    planner = mpc.HierarchicalPlanner((flat,))
    problem: Any = mpc.HierarchicalProblem((mpc.Level(case.problem),), case.latent)
    state, flat_state = planner.init(problem), flat.init(case.problem)
    assert (planner.horizon, planner.iterations) == (flat.horizon, flat.iterations)
    for number in range(2):
        key = jax.random.key(number)
        plan, state = planners.plan(planner, problem, case.latent, state, key=key)
        flat_plan, flat_state = planners.plan(flat, case.problem, case.latent, flat_state, key=key)
        jax.tree.map(np.testing.assert_array_equal, (plan, state.lowest), (flat_plan, flat_state))


@dataclass(frozen=True)
class Clock:
    """A planner that does nothing but note, in its state and its actions, the time that has passed since its last plan."""

    horizon: int
    iterations: int = 1

    def init(self, problem):
        return jnp.zeros((), jnp.float32)

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        return sampling.SamplingState(latent, jnp.asarray(elapsed, jnp.float32))

    def improve(self, problem, search):
        return search

    def finish(self, problem, search):
        actions = jnp.full((self.horizon, 1), search.elites)
        best = planners.Incumbent(jnp.clip(actions, -9, 9), jnp.zeros(()), jnp.zeros(()))
        diagnostics = sampling.no_diagnostics(1)
        plan = sampling.make_plan(
            problem, search.mean, best, spread=actions, candidates=actions[:1, 0], weights=jnp.ones(1), diagnostics=diagnostics
        )
        return plan, search.elites


def stay(latent, action, noise):
    return latent


def add(latent, action, noise):
    return latent + action


def nothing(latent, action, step):
    return jnp.zeros(())


def half(latent):
    return latent / 2


def counting(strides=(2, 3), dynamics=stay) -> Any:
    problem = planners.Problem(dynamics, nothing, planners.Box([-9.0], [9.0]))
    upper = (mpc.Level(problem, lift=half, stride=stride) for stride in strides)
    return mpc.HierarchicalProblem((mpc.Level(problem), *upper), jnp.zeros(1))


@pytest.mark.parametrize(
    ("replan", "ages"),
    [(None, [(0, 0), (1, 1), (0, 2), (1, 3), (0, 4), (1, 5), (0, 0)]), ((1, 3), [(0, 0), (0, 1), (0, 2), (0, 0)])],
)
def test_levels_plan_at_their_own_pace_from_where_they_stopped(replan, ages):
    planner, problem = mpc.HierarchicalPlanner((Clock(4), Clock(3), Clock(2)), replan), counting()
    state, begun, aged = planner.init(problem), [], []
    for decision in range(len(ages)):
        latent, elapsed = jnp.full(1, float(decision)), float(decision > 0)
        _, state = planners.plan(planner, problem, latent, state, elapsed=elapsed, key=jax.random.key(0))
        aged.append(tuple(int(course.age) for course in state.courses))
        begun.append(tuple(float(course.warm) for course in state.courses))
    assert aged == ages
    middle, top = state.courses
    made = [max(n for n in range(len(ages)) if ages[n][level] == 0) for level in (0, 1)]
    assert float(middle.states[0, 0, 0]) == made[0] / 2 and float(top.states[0, 0, 0]) == made[1] / 4
    assert begun[-1] == ((1.0, 1.0) if replan is None else (0.5, 0.5))  # own steps of 2 and of 6 since the last plan


def test_a_subgoal_is_due_when_its_time_has_come():
    states = jnp.arange(4.0)[None]  # h_0 … h_3, one every 2 steps
    at = jax.jit(lambda age, known: Subgoals.at(states, age, 2, 4, known))
    for age, due, aims in (
        (0, [2, 4], [1, 2]),
        (1, [1, 3, 4], [1, 2, 3]),
        (0.5, [2, 4], [1, 3]),
        (40, [2, 4], [3, 3]),  # beyond the plan its last state is held
    ):
        subgoals = at(jnp.float32(age), True)
        assert np.flatnonzero(subgoals.due).tolist() == due
        assert np.asarray(subgoals.aims[0])[due].tolist() == aims
    assert not at(jnp.float32(jnp.inf), False).due.any()


def test_the_subgoal_cost_is_the_mean_over_futures_and_has_the_right_gradient():
    level = replace(counting().levels[1], lift=jnp.tanh)
    aims = jnp.asarray([[[0.0], [0.3], [0.2]], [[0.0], [-0.5], [0.6]]])
    subgoals = Subgoals(aims, jnp.asarray([0.0, 1.0, 1.0]), jnp.arange(3))
    cost, end = SubgoalCost(FunctionCost(nothing), level, subgoals), LastSubgoal(level, subgoals)
    at = jnp.asarray([0.4])
    expected = np.mean([(np.tanh(0.4) - 0.2) ** 2, (np.tanh(0.4) - 0.6) ** 2])
    assert float(jax.jit(lambda at: end(at))(at)) == pytest.approx(expected, rel=1e-5)
    costs, terms = jax.jit(jax.vmap(lambda t: (cost(at, at, t), cost.terms(at, at, t)["subgoal"])))(jnp.arange(2))
    expected = np.mean([(np.tanh(0.4) - 0.3) ** 2, (np.tanh(0.4) + 0.5) ** 2])
    np.testing.assert_allclose(costs, np.asarray([0.0, expected]), rtol=1e-5)
    np.testing.assert_array_equal(costs, terms)
    problem = guided(planners.Problem(add, nothing, planners.Box([-9.0], [9.0])), level, subgoals)
    price = jax.jit(lambda actions: problem.score(at, actions, jnp.zeros((2, 0)))[0])
    check_grads(price, (jnp.asarray([[0.2], [-0.3]]),), order=1, modes=("rev",), atol=1e-2, rtol=1e-2)


def breaks(latent, action, noise):
    return latent * jnp.nan


def test_an_upper_level_that_finds_nothing_leaves_the_lower_to_its_own_costs():
    problem = counting((2,), dynamics=add)
    above = replace(problem.levels[1], problem=replace(problem.lowest, dynamics=breaks))
    problem: Any = mpc.HierarchicalProblem((problem.levels[0], above), jnp.zeros(1))
    planner = mpc.HierarchicalPlanner((Clock(2), Clock(2)))
    plan, state = planners.plan(planner, problem, jnp.ones(1), planner.init(problem), key=jax.random.key(0))
    assert not bool(state.courses[0].known) and float(plan.terms["terminal"]) == 0 and np.isfinite(plan.latents).all()


def test_a_subgoal_out_of_reach_gives_its_place_and_the_step_is_known_from_then_on():
    """A lower level that stays where it is, an upper one that says so of itself too, and another that moves 3 a step."""
    problem = counting((2,), dynamics=stay)
    away = replace(problem.levels[1], problem=replace(problem.lowest, dynamics=lambda latent, action, noise: latent + 3.0))
    planner = mpc.HierarchicalPlanner((Clock(2), Clock(2)), (5,))
    for reach, status in ((20.0, planners.Status.BUDGET_SPENT), (2.0, planners.Status.SUBGOAL_REPLACED)):
        hierarchy: Any = mpc.HierarchicalProblem((problem.levels[0], replace(away, reach=reach)), jnp.zeros(1))
        plan, state = planners.plan(planner, hierarchy, jnp.full(1, 4.0), planner.init(hierarchy), key=jax.random.key(0))
        assert int(plan.status) == status and planners.Status(int(plan.status)).sentence
        (course,) = state.courses
        replaced = status == planners.Status.SUBGOAL_REPLACED
        assert course.states[0, :, 0].tolist() == [2.0, 2.0 if replaced else 5.0, 8.0]  # 4, halved, is where it stays
        assert bool(course.replaced) == replaced and int(course.legs.count) == replaced
        plan, state = planners.plan(planner, hierarchy, jnp.full(1, 4.0), state, key=jax.random.key(0))
        (course,) = state.courses
        assert int(plan.status) == planners.Status.BUDGET_SPENT
        assert float(course.age) == (0.0 if replaced else 1.0)  # planned anew, though not due for five steps
        assert course.states[0, :, 0].tolist() == ([2.0, 2.0, 2.0] if replaced else [2.0, 5.0, 8.0])


def test_a_search_that_was_cut_short_replaces_no_subgoal():
    problem = counting((2,), dynamics=stay)
    away = replace(
        problem.levels[1], problem=replace(problem.lowest, dynamics=lambda latent, action, noise: latent + 3.0), reach=2.0
    )
    hierarchy: Any = mpc.HierarchicalProblem((problem.levels[0], away), jnp.zeros(1))
    planner = mpc.HierarchicalPlanner((Clock(2), Clock(2)), (5,))
    search = planner.begin(hierarchy, jnp.full(1, 4.0), planner.init(hierarchy), key=jax.random.key(0))
    plan, state = planner.finish(hierarchy, search)
    assert int(plan.status) == planners.Status.BUDGET_SPENT and not bool(state.courses[0].replaced)
    for _ in range(planner.planners[0].iterations):
        search = planner.improve(hierarchy, search)
    plan, state = planner.finish(hierarchy, search)
    assert int(plan.status) == planners.Status.SUBGOAL_REPLACED and bool(state.courses[0].replaced)


def test_a_subgoal_that_is_near_in_one_of_its_futures_is_within_reach():
    level = replace(counting((1,)).levels[1], distance=straight, reach=1.0)
    states = jnp.asarray([[[0.0], [9.0], [9.0]], [[0.0], [0.5], [9.0]]])
    subgoals = Subgoals.at(states, jnp.float32(0), 1, 2, jnp.asarray(True))
    legs = Legs.none(jnp.zeros(1))
    assert not bool(within_reach(level, subgoals, jnp.zeros((3, 1)), states, legs)[2])
    far = states.at[1, 1].set(4.0)
    subgoals = Subgoals.at(far, jnp.float32(0), 1, 2, jnp.asarray(True))
    placed, legs, replaced = within_reach(level, subgoals, jnp.full((3, 1), 2.0), far, legs)  # 2, halved, is reached
    assert bool(replaced) and placed[:, 1, 0].tolist() == [1.0, 1.0] and placed[:, 2, 0].tolist() == [9.0, 9.0]
    assert (float(legs.starts[0, 0]), float(legs.aims[0, 0]), float(legs.reached[0, 0])) == (0.0, 4.0, 1.0)


def two(latent):
    return jnp.zeros(2)


def vector(reached, aimed):
    return reached - aimed


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mpc.HierarchicalPlanner((Clock(3), Clock(2))).init(counting((2,))), "stride 2"),
        (lambda: mpc.HierarchicalPlanner((Clock(4),)).init(counting((2,))), "1 planners for 2 levels"),
        (lambda: mpc.HierarchicalPlanner(()), "tuple of planners"),
        (lambda: mpc.HierarchicalPlanner((Clock(4), Clock(2)), (0,)), "replan"),
        (lambda: mpc.HierarchicalPlanner((Clock(4),)).init(known.linear_quadratic().problem), "HierarchicalProblem"),
        (lambda: replace(counting().levels[1], stride=0), "stride=0"),
        (lambda: replace(counting().levels[1], reach=0.0), "reach=0.0"),
        (lambda: mpc.HierarchicalProblem(counting().levels[1:], jnp.zeros(1)), "lift"),
        (lambda: mpc.HierarchicalProblem((), jnp.zeros(1)), "at least one"),
        (lambda: fit(lift=two, dynamics=lambda latent, action, noise: latent[:1]), "level 1 does not fit"),
        (lambda: fit(distance=vector), "one scalar"),
    ],
)
def test_levels_that_do_not_fit_are_refused(make, words):
    with pytest.raises(mpc.HierarchyError, match=words):
        make()


def fit(*, dynamics: Any = stay, **changes: Any):
    """Start a hierarchy of two whose upper level is changed."""
    problem = counting((2,))
    above = replace(problem.levels[1], problem=replace(problem.lowest, dynamics=dynamics), **changes)
    return mpc.HierarchicalPlanner((Clock(2), Clock(2))).init(mpc.HierarchicalProblem((problem.levels[0], above), jnp.zeros(1)))
