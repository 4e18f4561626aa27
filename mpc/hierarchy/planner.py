"""Planning from the top down, each level at its own pace, behind the protocol of every other planner.

A decision begins with the levels above the lowest: those whose last plan has grown old search anew, whole, from where they stopped;
the others keep their subgoals. What is then left is an ordinary search of the lowest level's planner for the problem that the subgoals
make, and `improve` and `finish` are that planner's own: any-time, never worse than before, and with one level nothing else at all.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

import planners
from mpc.errors import HierarchyError
from mpc.hierarchy.problem import HierarchicalProblem, Level, Subgoals, guided
from mpc.hierarchy.reach import Legs, corrected, within_reach
from planners import Planner, Problem, Status, pytree

Latent = PyTree[Array]


@pytree
class Course:
    """What an upper level decided last.

    Attributes:
      warm: its planner's state.
      states: [M, H+1, ...], its latents along that plan, in each of its futures: the subgoals of the level below.
      age: steps of the lowest level since then; infinite before the first plan.
      known: whether there is a plan; without one the level below pays its own costs alone.
      replaced: whether its subgoal due next was out of reach, and one within reach has taken its place; it plans anew then.
      legs: its steps that were found to lead elsewhere; None for a level without `reach`.
    """

    warm: Any
    states: Latent
    age: Float[Array, ""]
    known: Array
    replaced: Array
    legs: Legs | None


@pytree
class HierarchicalState:
    """The warm start of every level."""

    lowest: Any
    courses: tuple[Course, ...]  # of levels 1, 2 …


@pytree
class HierarchicalSearch:
    """One decision: the lowest level's search, and the subgoals it is for. `courses` are those of the next state."""

    lowest: Any
    subgoals: Subgoals | None
    courses: tuple[Course, ...]
    improved: Array  # iterations of the lowest search


@dataclass(frozen=True)
class HierarchicalPlanner:
    """One planner a level over a `HierarchicalProblem`.

    Attributes:
      planners: the lowest level's first. Each horizon counts that level's own steps, and is a multiple of the stride above it.
      replan: for each level above the lowest, the steps of the lowest level after which it plans anew; one of its own steps unless
        given. 1 plans at every decision.
    """

    planners: tuple[Planner, ...]
    replan: tuple[float, ...] | None = None

    def __post_init__(self):
        if not self.planners or not all(isinstance(planner, Planner) for planner in self.planners):
            raise HierarchyError(f"planners={self.planners!r}: expected a tuple of planners, the lowest level's first.")
        if self.replan is not None and (
            len(self.replan) != len(self.planners) - 1 or not all(wait > 0 for wait in self.replan)
        ):
            raise HierarchyError(
                f"replan={self.replan} for {len(self.planners)} levels: expected {len(self.planners) - 1} positive numbers of steps."
            )

    @property
    def horizon(self) -> int:
        """Of the lowest level: actions in a plan."""
        return self.planners[0].horizon

    @property
    def iterations(self) -> int:
        """Of the lowest level. The levels above spend theirs in `begin`, when they plan."""
        return self.planners[0].iterations

    def init(self, problem: Any) -> HierarchicalState:
        """A cold start for a `HierarchicalProblem`. Raises `HierarchyError` where levels, strides and horizons do not fit."""
        if not isinstance(problem, HierarchicalProblem):
            raise HierarchyError(
                f"{type(problem).__name__}: expected an mpc.HierarchicalProblem. Plan one level by its own planner."
            )
        problem.fits(self.planners)
        latents = jax.eval_shape(problem.lifted, problem.example)
        courses = tuple(
            _no_course(level, planner, latent)
            for level, planner, latent in zip(problem.levels[1:], self.planners[1:], latents[1:], strict=True)
        )
        return HierarchicalState(self.planners[0].init(problem.lowest), courses)

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        elapsed = jnp.asarray(elapsed, jnp.float32)
        passed = jnp.where(jnp.isfinite(elapsed), jnp.maximum(elapsed, 0.0), 0.0)
        latents = problem.lifted(latent)
        courses, subgoals = list(state.courses), None
        for index in range(len(self.planners) - 1, 0, -1):
            own = self._problem(problem, index, subgoals)
            course = courses[index - 1]
            own = corrected(own, problem.levels[index], course.legs)
            aged = replace(course, age=course.age + passed)
            steps = problem.steps(index)
            due = aged.replaced | (aged.age >= (steps if self.replan is None else self.replan[index - 1]))
            # The lowest level draws from `key` itself, so that one level gives exactly what its planner gives alone.
            chosen = (self.planners[index], own, latents[index], aged, steps, jax.random.fold_in(key, index))
            courses[index - 1] = jax.lax.cond(due, lambda chosen=chosen: _decided(*chosen), lambda aged=aged: aged)
            if subgoals is not None:  # those of the level above that, which this one has just planned for, or has not
                states = jax.tree.map(lambda x: x[0], courses[index - 1].states)
                courses[index] = _within_reach(problem.levels[index + 1], subgoals, states, courses[index], due)
            subgoals = self._subgoals(problem, index, courses[index - 1])
        lowest = self._problem(problem, 0, subgoals)
        search = self.planners[0].begin(lowest, latent, state.lowest, elapsed=elapsed, key=key)
        return HierarchicalSearch(search, subgoals, tuple(courses), jnp.zeros((), jnp.int32))

    def improve(self, problem, search):
        lowest = self.planners[0].improve(self._problem(problem, 0, search.subgoals), search.lowest)
        return HierarchicalSearch(lowest, search.subgoals, search.courses, search.improved + 1)

    def finish(self, problem, search):
        plan, state = self.planners[0].finish(self._problem(problem, 0, search.subgoals), search.lowest)
        if search.subgoals is None:
            return plan, HierarchicalState(state, search.courses)
        # A search that a deadline cut says nothing of what can be reached.
        whole = search.improved >= self.planners[0].iterations
        sound = (whole & (plan.status == Status.BUDGET_SPENT)) | (plan.status == Status.CONVERGED)
        first = _within_reach(problem.levels[1], search.subgoals, plan.latents, search.courses[0], sound)
        courses = (first, *search.courses[1:])
        replaced = jnp.stack([course.replaced for course in courses]).any()
        status = jnp.where(sound & replaced, Status.SUBGOAL_REPLACED, plan.status).astype(plan.status.dtype)
        return replace(plan, status=status), HierarchicalState(state, courses)

    def _problem(self, problem: HierarchicalProblem, index: int, subgoals: Subgoals | None) -> Problem:
        """What level `index` has to solve, given what is asked of it."""
        own = problem.levels[index].problem
        return own if subgoals is None else guided(own, problem.levels[index + 1], subgoals)

    def _subgoals(self, problem: HierarchicalProblem, index: int, course: Course) -> Subgoals:
        """What the course of level `index` asks of the level below."""
        age = course.age / problem.steps(index - 1)
        return Subgoals.at(course.states, age, problem.levels[index].stride, self.planners[index - 1].horizon, course.known)


def _no_course(level: Level, planner: Planner, latent: Latent) -> Course:
    problem = level.problem
    warm = planner.init(problem)
    shapes = jax.eval_shape(lambda latent: _states(problem, latent, _actions(problem, planner)), latent)
    states = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    legs = None if math.isinf(level.reach) else Legs.none(jax.tree.map(lambda x: x[0, 0], states))
    return Course(warm, states, jnp.asarray(jnp.inf, jnp.float32), jnp.asarray(False), jnp.asarray(False), legs)


def _actions(problem: Problem, planner: Planner) -> Array:
    kind = jnp.int32 if isinstance(problem.actions, planners.Discrete) else jnp.float32
    return jnp.zeros((planner.horizon, *problem.actions.shape), kind)


def _states(problem: Problem, latent: Latent, actions: Array) -> Latent:
    """[M, H+1, ...], where a plan leads in each future."""
    return jax.vmap(problem.unroll, in_axes=(None, None, 0))(latent, actions, problem.futures(actions.shape[0]))


def _decided(planner: Planner, problem: Problem, latent: Latent, course: Course, steps: int, key: Array) -> Course:
    """A new course from the old one's warm start; the old one, grown older, where the search found nothing finite."""
    plan, warm = planners.plan(planner, problem, latent, course.warm, elapsed=course.age / steps, key=key)
    states = _states(problem, latent, plan.actions)
    finite = [jnp.isfinite(x).all() for x in jax.tree.leaves(states) if jnp.issubdtype(x.dtype, jnp.inexact)]
    sound = jnp.stack([plan.status != Status.NO_FINITE_CANDIDATE, *finite]).all()
    new = Course(warm, states, jnp.zeros((), jnp.float32), jnp.asarray(True), jnp.asarray(False), course.legs)
    return jax.tree.map(lambda new, old: jnp.where(sound, new, old), new, course)


def _within_reach(level: Level, subgoals: Subgoals, below: Latent, course: Course, planned: Array) -> Course:
    """The course of `level`, once the level below has `planned` for its subgoals; see `mpc.hierarchy.reach`."""
    if course.legs is None:
        return course
    states, legs, replaced = within_reach(level, subgoals, below, course.states, course.legs)
    new = replace(course, states=states, legs=legs, replaced=course.replaced | replaced)
    return jax.tree.map(lambda new, old: jnp.where(planned, new, old), new, course)
