"""The cross-entropy method (Rubinstein & Kroese 2004; for control, Kobilarov 2012)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from planners import sampling
from planners.actions import require_box
from planners.errors import SettingError, require_positive


@dataclass(frozen=True)
class CEM:
    """Sample around a mean, keep the elites, move mean and spread onto them; repeat.

    Attributes:
      horizon: actions in a plan.
      samples: candidates an iteration, the mean and the best plan so far among them.
      iterations: refits a decision.
      elites: candidates the Gaussian is refitted to.
      spread: initial standard deviation, as a fraction of the box's half-range.
      min_spread: the standard deviation never falls below this fraction of the half-range.
      momentum: share of the old mean and spread that is kept at each refit.
    """

    horizon: int
    samples: int = 512
    iterations: int = 6
    elites: int = 64
    spread: float = 0.5
    min_spread: float = 0.05
    momentum: float = 0.1

    def __post_init__(self):
        require_positive(horizon=self.horizon, iterations=self.iterations, elites=self.elites)
        if self.samples < self.elites + 2:
            raise SettingError(f"samples={self.samples} with elites={self.elites}: expected samples >= elites + 2.")

    def init(self, problem):
        return sampling.cold_start(require_box(problem.actions, "CEM"), self.horizon, elites=1)

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        box = require_box(problem.actions, "CEM")
        return sampling.begin(box, latent, state, elapsed, key, spread=self.spread, iterations=self.iterations)

    def improve(self, problem, search):
        box = problem.actions
        key = jax.random.fold_in(search.key, search.iteration)
        fresh = sampling.coloured_noise(self.samples - 2, self.horizon, box.shape[0], 0.0, key=key)
        candidates = jnp.concatenate([search.mean[None], search.best.actions[None], search.mean + search.scale * fresh])
        candidates = jax.vmap(box.project)(candidates)
        min_spread = self.min_spread * box.half_range
        return sampling.refit(problem, search, candidates, elites=self.elites, momentum=self.momentum, min_spread=min_spread)

    def finish(self, problem, search):
        return sampling.finish(problem, search)
