"""Gradient descent on the action sequence, through the model, from several starts at once.

The oldest form of model-predictive control with a learned model: back-propagation through time to the
actions (Henaff et al. 2017, "Model-based planning with discrete and continuous actions"; LeCun 2022, section 3.1.2, "Mode-2").

    u ← u − optimizer(∂L/∂u),    a = middle + half_range · u projected into the box,  or  a = middle + half_range · tanh(u)
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from planners import augmented_lagrangian, proposals, sampling
from planners.actions import Box, require_box
from planners.errors import ProblemShapeError, SettingError, require_counts, require_finite
from planners.noise import coloured_noise
from planners.plan import Diagnostics, Incumbent, finite_or_inf
from planners.problem import Latent, Problem
from planners.pytree import pytree
from planners.warm_start import shift

DUAL_STEP = 0.05  # multipliers move by this share of the textbook's step, since one gradient step is no minimisation
TANH_EDGE = 0.99  # where tanh has 2 % of its slope left: starts further out would hardly move


@pytree
class GradientSearch:
    """One decision's search over S starts. `points` and `anchors` are u, in half-ranges of the box."""

    latent: Latent
    points: Float[Array, "S H A"]
    actions: Float[Array, "S H A"]  # what `points` stand for, always inside the box
    anchors: Float[Array, "S H A"]  # each start's last point with a finite cost and gradient
    optimizer: Any
    multipliers: Float[Array, "S M H C"]
    costs: Float[Array, " S"]  # at the anchors; inf for a start that was never finite
    best: Incumbent
    gradient_norm: Float[Array, ""]  # at `best`, of the part that the box lets through
    diagnostics: Diagnostics
    iteration: Int[Array, ""]


@dataclass(frozen=True)
class Gradient:
    """Adam (or any optax optimiser) on the actions of `starts` plans side by side; the best plan seen is kept.

    An iteration prices every start, then moves it; so the first one prices the warm start itself, and `finish` prices the
    points that the last step led to. A start that becomes non-finite retreats half-way to its last finite point.

    Attributes:
      horizon: actions in a plan.
      starts: plans optimised: the warm start, where the problem has a `proposal` a quarter rolled from it, noise for the rest.
      iterations: gradient steps a decision.
      learning_rate: first step size, in half-ranges of the box.
      decay: the step size falls along a cosine to this fraction of the first over `iterations`.
      bound: "project" steps back into the box, "tanh" optimises what tanh squashes into it.
      spread: standard deviation of the noisy starts around the warm start, in half-ranges.
      exponent: power-law exponent of that noise.
      tolerance: CONVERGED once the gradient norm of the best plan, in cost per half-range, is below this.
      penalty: weight μ of violated constraints, in cost per squared unit of the constraint.
      optimizer: an optax transformation in place of Adam and its schedule; build it once and reuse it, a new one compiles anew.
    """

    horizon: int
    starts: int = 16
    iterations: int = 10
    learning_rate: float = 0.2
    decay: float = 0.3
    bound: str = "project"
    spread: float = 0.5
    exponent: float = 2.0
    tolerance: float = 1e-3
    penalty: float = 30.0
    optimizer: optax.GradientTransformation | None = None

    def __post_init__(self):
        require_counts(horizon=self.horizon, starts=self.starts, iterations=self.iterations)
        require_finite(spread=self.spread, exponent=self.exponent, tolerance=self.tolerance)
        for name in ("learning_rate", "penalty"):
            if not 0 < getattr(self, name) < float("inf"):
                raise SettingError(f"{name}={getattr(self, name)}: expected a positive number.")
        if not 0 <= self.decay <= 1:
            raise SettingError(f"decay={self.decay}: expected the last step size as a fraction of the first, in [0, 1].")
        if self.bound not in ("project", "tanh"):
            raise SettingError(f"bound={self.bound!r}: expected 'project' or 'tanh'.")

    def init(self, problem: Problem) -> Float[Array, "H A"]:
        box = differentiable_box(problem, "Gradient")
        return jnp.broadcast_to(box.middle, (self.horizon, *box.shape))

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        box = differentiable_box(problem, "Gradient")
        warm = box.project(shift(state, jnp.asarray(elapsed, jnp.float32)))
        actions = self._starts(problem, latent, warm, key)
        points = self._encode(box, actions)
        multipliers = augmented_lagrangian.no_multipliers(problem, latent, self.horizon)
        return GradientSearch(
            latent=latent,
            points=points,
            actions=actions,
            anchors=points,
            optimizer=jax.vmap(self._optimizer().init)(points),
            multipliers=jnp.broadcast_to(multipliers, (self.starts, *multipliers.shape)),
            costs=jnp.full((self.starts,), jnp.inf, jnp.float32),
            best=Incumbent.unknown(warm),
            gradient_norm=jnp.asarray(jnp.inf, jnp.float32),
            diagnostics=sampling.no_diagnostics(self.iterations),
            iteration=jnp.zeros((), jnp.int32),
        )

    def improve(self, problem, search):
        box: Box = problem.actions
        priced, gradients = lagrangian_and_gradient(problem, search.latent, search.actions, search.multipliers, self.penalty)
        costs = finite_or_inf(priced.cost)
        usable = jnp.isfinite(priced.value) & jnp.isfinite(gradients).all((1, 2))
        best, winner = _challenge(problem, search.best, search.actions, costs, priced.violation)
        norms = _gradient_norm(box, search.actions, gradients)
        won = (best.cost != search.best.cost) | (best.violation != search.best.violation)
        as_good = costs[winner] <= best.cost + 1e-6 * jnp.abs(best.cost)  # to rounding
        smallest = jnp.minimum(norms[winner], jnp.where(won, jnp.inf, search.gradient_norm))
        gradient_norm = jnp.where(as_good, smallest, search.gradient_norm)

        slopes = gradients * self._slope(box, search.points)
        updates, optimizer = jax.vmap(self._optimizer().update)(
            jnp.where(_like(usable, slopes), slopes, 0.0), search.optimizer, search.points
        )
        stepped = search.points + updates
        ever = jnp.isfinite(search.costs)
        home = jnp.where(_like(ever, stepped), search.anchors, self._encode(box, best.actions))
        anchors = jnp.where(_like(usable, stepped), search.points, home)
        points = jnp.where(_like(usable, stepped) & jnp.isfinite(stepped), stepped, (search.points + anchors) / 2)
        points, actions = self._decode(box, points)
        multipliers = augmented_lagrangian.updated(priced.constraints, search.multipliers, DUAL_STEP * self.penalty)
        finite = jnp.isfinite(costs).sum().astype(jnp.float32)
        return GradientSearch(
            latent=search.latent,
            points=points,
            actions=actions,
            anchors=anchors,
            optimizer=_where(usable, optimizer, search.optimizer),
            multipliers=_where(usable, multipliers, search.multipliers),
            costs=jnp.where(usable, costs, search.costs),
            best=best,
            gradient_norm=gradient_norm,
            diagnostics=sampling.record(search.diagnostics, search.iteration, best.cost, norms[winner], finite),
            iteration=search.iteration + 1,
        )

    def finish(self, problem, search):
        costs, violations = sampling.evaluate(problem, search.latent, search.actions)
        costs = finite_or_inf(costs)
        best, _ = _challenge(problem, search.best, search.actions, costs, violations)
        plan = sampling.make_plan(
            problem,
            search.latent,
            best,
            spread=jnp.zeros_like(best.actions),
            candidates=search.actions[:, 0],
            weights=jax.nn.softmax(-costs.clip(max=1e30)),
            diagnostics=search.diagnostics,
            converged=search.gradient_norm < self.tolerance,
        )
        return plan, best.actions

    def _starts(self, problem: Problem, latent: Latent, warm: Array, key: Array) -> Float[Array, "S H A"]:
        """The warm start first, unchanged; then plans of the proposal; then noise around the warm start."""
        box: Box = problem.actions  # type: ignore[assignment]
        proposed = 0 if problem.proposal is None else min(self.starts - 1, max(1, self.starts // 4))
        noise_key, proposal_key = jax.random.split(key)
        noisy = self.starts - 1 - proposed
        noise = coloured_noise(noisy, self.horizon, box.shape[0], self.exponent, key=noise_key)
        starts = [warm[None]]
        if proposed:
            starts.append(proposals.rollouts(problem, latent, proposed, self.horizon, key=proposal_key))
        starts.append(jax.vmap(box.project)(warm + self.spread * box.half_range * noise))
        return jnp.concatenate(starts)

    def _encode(self, box: Box, actions: Array) -> Array:
        """u for given actions."""
        unit = (actions - box.middle) / box.half_range
        return jnp.clip(unit, -1, 1) if self.bound == "project" else jnp.arctanh(jnp.clip(unit, -TANH_EDGE, TANH_EDGE))

    def _decode(self, box: Box, points: Float[Array, "S H A"]) -> tuple[Array, Array]:
        """The actions of u, and u itself; where it is projected, u does not wind up outside what the actions can follow."""
        unit = jnp.clip(points, -1, 1) if self.bound == "project" else jnp.tanh(points)
        actions = jax.vmap(box.project)(box.middle + box.half_range * unit)
        if self.bound == "tanh":
            return points, actions
        return (unit if box.rate is None else self._encode(box, actions)), actions

    def _slope(self, box: Box, points: Array) -> Array:
        """da/du."""
        return box.half_range if self.bound == "project" else box.half_range * (1 - jnp.tanh(points) ** 2)

    def _optimizer(self) -> optax.GradientTransformation:
        schedule = optax.cosine_decay_schedule(self.learning_rate, self.iterations, self.decay)
        return self.optimizer or optax.adam(schedule)


def lagrangian_and_gradient(
    problem: Problem, latent: Latent, actions: Float[Array, "S H A"], multipliers: Float[Array, "S M H C"], penalty: float
) -> tuple[augmented_lagrangian.Lagrangian, Float[Array, "S H A"]]:
    """The augmented Lagrangian of every plan, and its derivative in the actions; J and dJ/da without constraints."""

    def value(actions, multipliers):
        priced = augmented_lagrangian.lagrangian(problem, latent, actions, multipliers, penalty)
        return priced.value, priced

    (_, priced), gradients = jax.vmap(jax.value_and_grad(value, has_aux=True))(actions, multipliers)
    return priced, gradients


def differentiable_box(problem: Problem, planner: str) -> Box:
    """The problem's box; typed errors where actions are discrete or the dynamics have no derivative."""
    if not problem.differentiable:
        raise ProblemShapeError(
            f"{planner} needs dynamics it can differentiate; this problem's leave JAX. Use a sampling planner."
        )
    return require_box(problem.actions, planner)


def _challenge(problem, best: Incumbent, actions, costs, violations) -> tuple[Incumbent, Array]:
    winner = sampling.best_first(costs, violations, 1, constrained=problem.constraints is not None)[0]
    return best.challenged(actions[winner], costs[winner], violations[winner]), winner


def _gradient_norm(box: Box, actions: Float[Array, "S H A"], gradients: Float[Array, "S H A"]) -> Float[Array, " S"]:
    """‖P(u − ∂L/∂u) − u‖ with P the projection on the box: zero where only the bounds hold the descent up."""
    unit = (actions - box.middle) / box.half_range
    step = jnp.clip(unit - gradients * box.half_range, -1, 1) - unit
    return jnp.sqrt((step**2).sum((1, 2)))


def _like(mask: Array, array: Array) -> Array:
    return mask.reshape(-1, *([1] * (array.ndim - 1)))


def _where(mask: Float[Array, " S"], new: Any, old: Any) -> Any:
    return jax.tree.map(lambda new, old: jnp.where(_like(mask, new), new, old), new, old)
