"""Gradient descent on the action sequence, through the model, from several starts at once.

The oldest form of model-predictive control with a learned model: back-propagation through time to the
actions (Henaff et al. 2017; LeCun 2022, section 3.1.2, "Mode-2").
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from planners import sampling
from planners.actions import Box, require_box
from planners.errors import ProblemShapeError, SettingError, require_positive
from planners.plan import Diagnostics, Incumbent
from planners.problem import Latent, Problem
from planners.pytree import pytree
from planners.warm_start import shift


@pytree
class GradientSearch:
    """One decision's search over S starts; actions in units of the box's half-range around its middle."""

    latent: Latent
    points: Float[Array, "S H A"]
    optimizer: Any
    costs: Float[Array, " S"]
    best: Incumbent
    diagnostics: Diagnostics
    iteration: Int[Array, ""]


@dataclass(frozen=True)
class Gradient:
    """Adam (or any optax optimiser) on the actions of `starts` plans, each step projected into the box.

    Attributes:
      horizon: actions in a plan.
      starts: plans optimised side by side: the warm start, and coloured noise around it.
      iterations: gradient steps a decision.
      learning_rate: step size, in half-ranges of the box.
      spread: standard deviation of the noisy starts around the warm start, in half-ranges.
      exponent: power-law exponent of that noise.
      optimizer: an optax transformation in place of Adam; build it once and reuse it, a new one compiles anew.
    """

    horizon: int
    starts: int = 16
    iterations: int = 10
    learning_rate: float = 0.1
    spread: float = 0.5
    exponent: float = 2.0
    optimizer: optax.GradientTransformation | None = None

    def __post_init__(self):
        require_positive(horizon=self.horizon, starts=self.starts, iterations=self.iterations)
        if self.learning_rate <= 0:
            raise SettingError(f"learning_rate={self.learning_rate}: expected a positive step size.")

    def init(self, problem: Problem) -> Float[Array, "H A"]:
        box = _differentiable_box(problem)
        return jnp.broadcast_to(box.middle, (self.horizon, *box.shape))

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        box = _differentiable_box(problem)
        warm = box.project(shift(state, jnp.asarray(elapsed, jnp.float32)))
        noise = sampling.coloured_noise(self.starts, self.horizon, box.shape[0], self.exponent, key=key)
        noise = self.spread * noise.at[0].set(0.0)
        points = jnp.clip((warm - box.middle) / box.half_range + noise, -1, 1)
        return GradientSearch(
            latent=latent,
            points=points,
            optimizer=self._optimizer().init(points),
            costs=jnp.full((self.starts,), jnp.inf, jnp.float32),
            best=Incumbent.unknown(warm),
            diagnostics=sampling.no_diagnostics(self.iterations),
            iteration=jnp.zeros((), jnp.int32),
        )

    def improve(self, problem, search):
        box: Box = problem.actions
        futures = problem.futures(self.horizon)

        def cost(point):
            actions = box.project(box.middle + box.half_range * point)
            costs, violations = jax.vmap(problem.score, in_axes=(None, None, 0))(search.latent, actions, futures)
            return problem.risk(costs), (actions, violations.max())

        (costs, (actions, violations)), gradients = jax.vmap(jax.value_and_grad(cost, has_aux=True))(search.points)
        costs = sampling.finite_or_inf(costs)
        winner = sampling.best_first(costs, violations, 1, constrained=problem.constraints is not None)[0]
        best = search.best.challenged(actions[winner], costs[winner], violations[winner])

        gradients = jnp.where(jnp.isfinite(gradients), gradients, 0.0)
        updates, optimizer = self._optimizer().update(gradients, search.optimizer, search.points)
        points = jnp.clip(optax.apply_updates(search.points, updates), -1, 1)
        norm = jnp.sqrt((gradients[winner] ** 2).sum())
        finite = jnp.isfinite(costs).sum().astype(jnp.float32)
        return GradientSearch(
            latent=search.latent,
            points=jnp.where(jnp.isfinite(points), points, search.points),
            optimizer=optimizer,
            costs=costs,
            best=best,
            diagnostics=sampling.record(search.diagnostics, search.iteration, best.cost, norm, finite),
            iteration=search.iteration + 1,
        )

    def finish(self, problem, search):
        box: Box = problem.actions
        actions = jax.vmap(box.project)(box.middle + box.half_range * search.points)
        weights = jax.nn.softmax(-search.costs.clip(max=1e30))
        plan = sampling.make_plan(
            problem,
            search.latent,
            search.best,
            spread=jnp.zeros_like(search.best.actions),
            candidates=actions[:, 0],
            weights=weights,
            diagnostics=search.diagnostics,
        )
        return plan, search.best.actions

    def _optimizer(self) -> optax.GradientTransformation:
        return self.optimizer or optax.adam(self.learning_rate)


def _differentiable_box(problem: Problem) -> Box:
    if not problem.differentiable:
        raise ProblemShapeError("Gradient needs dynamics it can differentiate; this problem's leave JAX. Use a sampling planner.")
    return require_box(problem.actions, "Gradient")
