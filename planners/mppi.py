"""Model-predictive path integral control, MPPI (Williams et al. 2017), and its smoothed form (Kim et al. 2022).

w_k = exp(−(J_k − min J) / λ) / Σ_j exp(−(J_j − min J) / λ),    mean ← Σ_k w_k · plan_k
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planners import sampling
from planners.errors import SettingError, require_finite
from planners.parameterisation import PER_STEP, Parameterisation

ROOTS = 64  # plans of largest weight whose first actions are returned with the plan


@dataclass(frozen=True)
class MPPI:
    """Sample around a mean with noise of a fixed spread; move the mean to the average of all plans, the cheap ones weighing most.

    The paper's control cost is left to `Problem.cost`, where it is visible.

    Attributes:
      horizon: actions in a plan.
      samples: candidates an iteration, the mean, the best plan so far and the proposals among them.
      iterations: averages a decision.
      temperature: λ. Small follows the best plan, large averages more of them.
      relative: λ counts in gaps between the best and the median cost of each iteration, which makes it free of the cost's
        units; False takes λ in units of the cost, as in the paper.
      spread: standard deviation of the noise, as a fraction of the box's half-range.
      exponent: power-law exponent of the noise along the horizon; 0 is white, 2 is brown.
      smoothness: above 0, the smoothed form: noise is drawn on the rate of change of the actions and summed along the
        horizon, and plans are weighted by J + smoothness · Σ_t ‖(a_{t+1} − a_t) / half_range‖². The plan's cost stays J.
      proposals: candidates that are plans of the problem's `proposal`.
      parameterisation: what is sampled, every action (`PER_STEP`) or `Knots`.
    """

    horizon: int
    samples: int = 512
    iterations: int = 6
    temperature: float = 0.1
    relative: bool = True
    spread: float = 0.3
    exponent: float = 0.0
    smoothness: float = 0.0
    proposals: int = 0
    parameterisation: Parameterisation = PER_STEP

    def __post_init__(self):
        sampling.check(self, given=2)
        sampling.check_spread(spread=self.spread)
        require_finite(exponent=self.exponent)
        if not 0 < self.temperature < float("inf") or not 0 <= self.smoothness < float("inf"):
            raise SettingError(
                f"temperature={self.temperature}, smoothness={self.smoothness}: expected temperature > 0 and smoothness >= 0."
            )

    def init(self, problem):
        return sampling.cold_start(self, problem)

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        return sampling.begin(self, problem, latent, state, elapsed, key, spread=self.spread, elites=min(ROOTS, self.samples))

    def improve(self, problem, search):
        box = problem.actions
        noise = sampling.fresh_noise(search, self.samples - self.proposals - 2, self.exponent)
        if self.smoothness > 0:
            noise = jnp.cumsum(noise, 1) / noise.shape[1] ** 0.5
        plans = sampling.candidates(self, problem, search, noise)
        cost, violation = sampling.evaluate(problem, search.latent, plans)
        _, _, best = sampling.select(problem, search.best, plans, cost, violation, 1)
        roughness = jnp.square(jnp.diff(plans, axis=1) / box.half_range).sum((1, 2))
        weights = importance(cost + self.smoothness * roughness, violation, self.temperature, relative=self.relative)
        mean = self.parameterisation.fit(jnp.einsum("n,nha->ha", weights, plans))
        usable = weights.sum() > 0
        heaviest, order = jax.lax.top_k(weights, search.elites.shape[0])
        return sampling.advance(
            search,
            jnp.where(usable, mean, search.mean),
            search.scale,
            jnp.where(usable, plans[order], best.actions),
            heaviest / jnp.maximum(heaviest.sum(), 1e-12),
            best,
            effective=usable / jnp.maximum((weights**2).sum(), 1e-12),
        )

    def finish(self, problem, search):
        return sampling.finish(self, problem, search)


def importance(
    cost: Float[Array, " N"], violation: Float[Array, " N"], temperature: float, *, relative: bool
) -> Float[Array, " N"]:
    """w_k, summing to one; all zero where no cost is finite.

    Feasibility first: where some plan meets every constraint only such plans have weight, otherwise the violation takes the cost's place.
    """
    finite = jnp.isfinite(cost)
    feasible = finite & (violation <= 0)
    merit = jnp.where(feasible.any(), jnp.where(feasible, cost, jnp.inf), jnp.where(finite, violation, jnp.inf))
    counted = jnp.isfinite(merit).sum()
    ranked = jnp.sort(merit)
    least = jnp.where(counted > 0, ranked[0], 0.0)
    scale = ranked[jnp.maximum(counted - 1, 0) // 2] - least if relative else 1.0
    weights = jnp.where(jnp.isfinite(merit), jnp.exp(-(merit - least) / (temperature * scale + 1e-12)), 0.0)
    return weights / jnp.maximum(weights.sum(), 1e-12)
