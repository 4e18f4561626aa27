"""Predictive sampling (Howell et al. 2022, "Predictive sampling: real-time behaviour synthesis with MuJoCo")."""

from dataclasses import dataclass

import jax.numpy as jnp

from planners import sampling
from planners.errors import require_finite
from planners.parameterisation import PER_STEP, Parameterisation


@dataclass(frozen=True)
class PredictiveSampling:
    """Perturb the best plan with noise of a fixed spread, and keep the best of the lot: a random local search.

    The paper samples few knots of a spline: `parameterisation=Knots(4, "cubic")`.

    Attributes:
      horizon: actions in a plan.
      samples: candidates an iteration, the best plan so far and the proposals among them.
      iterations: rounds a decision; the paper takes one, and relies on deciding often.
      spread: standard deviation of the noise, as a fraction of the box's half-range.
      exponent: power-law exponent of the noise along the horizon (over the knots); 0 is white, 2 is brown.
      proposals: candidates that are plans of the problem's `proposal`.
      parameterisation: what is perturbed, every action (`PER_STEP`) or `Knots`.
    """

    horizon: int
    samples: int = 128
    iterations: int = 1
    spread: float = 0.2
    exponent: float = 0.0
    proposals: int = 0
    parameterisation: Parameterisation = PER_STEP

    def __post_init__(self):
        sampling.check(self, given=2)
        sampling.check_spread(spread=self.spread)
        require_finite(exponent=self.exponent)

    def init(self, problem):
        return sampling.cold_start(self, problem)

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        return sampling.begin(self, problem, latent, state, elapsed, key, spread=self.spread)

    def improve(self, problem, search):
        noise = sampling.fresh_noise(search, self.samples - self.proposals - 2, self.exponent)
        plans = sampling.candidates(self, problem, search, noise)
        cost, violation = sampling.evaluate(problem, search.latent, plans)
        elites, weights, best = sampling.select(problem, search.best, plans, cost, violation, 1)
        mean = jnp.where(jnp.isfinite(best.cost), self.parameterisation.fit(best.actions), search.mean)
        return sampling.advance(search, mean, search.scale, elites, weights, best)

    def finish(self, problem, search):
        return sampling.finish(self, problem, search)
