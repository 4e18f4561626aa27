"""Cross-entropy and gradients together: CEM whose elites are improved by a few gradient steps before the refit.

Bharadhwaj, Xie & Shkurti 2020, "Model-predictive control via cross-entropy and gradient-based optimization".
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from planners import augmented_lagrangian, sampling
from planners.actions import Box
from planners.errors import SettingError, require_counts, require_fraction
from planners.gradient import differentiable_box, lagrangian_and_gradient
from planners.parameterisation import PER_STEP, Parameterisation
from planners.problem import Latent, Problem


@dataclass(frozen=True)
class CEMGradient:
    """Sample as CEM does, take Adam steps on the best candidates, and refit the Gaussian to the best of both.

    Sampling finds the basin, the gradient its bottom. A candidate that a step made worse competes with its former self.

    Attributes:
      horizon, samples, iterations, elites, spread, min_spread, momentum, proposals, parameterisation: as in `CEM`.
      refined: candidates that take gradient steps.
      steps: gradient steps an iteration, each costing about three rollouts of the refined candidates.
      learning_rate: first step size, in half-ranges of the box; it falls with the iteration, as 1 / (1 + iteration).
      penalty: weight of squared constraint violations in what the gradient descends on, in cost per squared unit.
    """

    horizon: int
    samples: int = 128
    iterations: int = 4
    elites: int = 16
    refined: int = 8
    steps: int = 3
    learning_rate: float = 0.1
    spread: float = 0.5
    min_spread: float = 0.02
    momentum: float = 0.1
    penalty: float = 10.0
    proposals: int = 0
    parameterisation: Parameterisation = PER_STEP

    def __post_init__(self):
        require_counts(refined=self.refined, steps=self.steps, elites=self.elites)
        sampling.check(self, given=2, elites=max(self.elites, self.refined))
        sampling.check_spread(spread=self.spread, min_spread=self.min_spread, learning_rate=self.learning_rate)
        require_fraction(momentum=self.momentum)
        if not 0 < self.penalty < float("inf"):
            raise SettingError(f"penalty={self.penalty}: expected a positive number.")

    def init(self, problem):
        differentiable_box(problem, "CEMGradient")
        return sampling.cold_start(self, problem)

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        differentiable_box(problem, "CEMGradient")
        return sampling.begin(self, problem, latent, state, elapsed, key, spread=self.spread, elites=self.elites)

    def improve(self, problem, search):
        noise = sampling.fresh_noise(search, self.samples - self.proposals - 2)
        plans = sampling.candidates(self, problem, search, noise)
        cost, violation = sampling.evaluate(problem, search.latent, plans)
        chosen = sampling.best_first(cost, violation, self.refined, constrained=problem.constraints is not None)
        learning_rate = self.learning_rate / (1 + search.iteration)
        refined = descend(problem, search.latent, plans[chosen], self.steps, learning_rate, self.penalty)
        refined_cost, refined_violation = sampling.evaluate(problem, search.latent, refined)
        return sampling.refit(
            self,
            problem,
            search,
            jnp.concatenate([plans, refined]),
            jnp.concatenate([cost, refined_cost]),
            jnp.concatenate([violation, refined_violation]),
        )

    def finish(self, problem, search):
        return sampling.finish(self, problem, search, converged=sampling.narrowed(self, problem, search))


def descend(
    problem: Problem, latent: Latent, plans: Float[Array, "R H A"], steps: int, learning_rate: Array, penalty: float
) -> Float[Array, "R H A"]:
    """`steps` Adam steps on each plan, projected; an entry whose derivative is not finite stays where it is."""
    box: Box = problem.actions  # type: ignore[assignment]
    multipliers = augmented_lagrangian.no_multipliers(problem, latent, plans.shape[1])
    multipliers = jnp.broadcast_to(multipliers, (plans.shape[0], *multipliers.shape))
    adam = optax.scale_by_adam()

    def step(carry, _):
        plans, state = carry
        _, gradients = lagrangian_and_gradient(problem, latent, plans, multipliers, penalty)
        gradients = jnp.where(jnp.isfinite(gradients), gradients * box.half_range, 0.0)
        direction, state = adam.update(gradients, state)
        plans = jax.vmap(box.project)(plans - learning_rate * box.half_range * jnp.asarray(direction))
        return (plans, state), None

    return jax.lax.scan(step, (plans, adam.init(plans)), length=steps)[0][0]
