"""Random shooting: draw plans at random, keep the best (Richards 2005; with learned models, Nagabandi et al. 2018)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from planners import sampling
from planners.parameterisation import PER_STEP, Parameterisation

UNIFORM = 3**-0.5  # standard deviation of a uniform distribution, in half-ranges


@dataclass(frozen=True)
class RandomShooting:
    """Uniform plans over the whole box; nothing is learned from one iteration to the next but the best plan.

    The baseline that every other planner has to beat, and the one that no local optimum can trap.

    Attributes:
      horizon: actions in a plan.
      samples: candidates an iteration, the best plan so far and the proposals among them.
      iterations: how many times that many are drawn.
      proposals: candidates that are plans of the problem's `proposal`.
      parameterisation: what is drawn, every action (`PER_STEP`) or `Knots`.
    """

    horizon: int
    samples: int = 512
    iterations: int = 4
    proposals: int = 0
    parameterisation: Parameterisation = PER_STEP

    def __post_init__(self):
        sampling.check(self, given=1)

    def init(self, problem):
        return sampling.cold_start(self, problem)

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        return sampling.begin(self, problem, latent, state, elapsed, key, spread=UNIFORM)

    def improve(self, problem, search):
        box = problem.actions
        key = jax.random.fold_in(search.key, search.iteration)
        shape = (self.samples - self.proposals - 1, *search.mean.shape)
        knots = jax.random.uniform(key, shape, minval=box.low, maxval=box.high)
        fresh = self.parameterisation.expand(knots, self.horizon)
        plans = jax.vmap(box.project)(jnp.concatenate([search.best.actions[None], search.proposals, fresh]))
        cost, violation = sampling.evaluate(problem, search.latent, plans)
        elites, weights, best = sampling.select(problem, search.best, plans, cost, violation, 1)
        return sampling.advance(search, self.parameterisation.fit(best.actions), search.scale, elites, weights, best)

    def finish(self, problem, search):
        return sampling.finish(self, problem, search)
