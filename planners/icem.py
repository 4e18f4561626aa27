"""The improved cross-entropy method, iCEM (Pinneri et al. 2020, "Sample-efficient cross-entropy method")."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from planners import sampling
from planners.actions import require_box
from planners.errors import SettingError, require_positive


@dataclass(frozen=True)
class ICEM:
    """CEM with noise correlated in time, and elites that live on between iterations and decisions.

    Attributes:
      horizon, samples, iterations, elites, spread, min_spread, momentum: as in `CEM`.
      exponent: power-law exponent of the noise; 0 is white, 2 is brown.
      keep: elites that re-enter as candidates, in the next iteration and, shifted in time, in the next decision.
    """

    horizon: int
    samples: int = 256
    iterations: int = 4
    elites: int = 32
    spread: float = 0.5
    min_spread: float = 0.05
    momentum: float = 0.1
    exponent: float = 2.0
    keep: int = 8

    def __post_init__(self):
        require_positive(horizon=self.horizon, iterations=self.iterations, elites=self.elites, keep=self.keep)
        if self.keep > self.elites:
            raise SettingError(f"keep={self.keep} with elites={self.elites}: expected keep <= elites.")
        if self.samples < self.elites + self.keep + 2:
            raise SettingError(f"samples={self.samples}: expected at least elites + keep + 2 = {self.elites + self.keep + 2}.")

    def init(self, problem):
        return sampling.cold_start(require_box(problem.actions, "ICEM"), self.horizon, elites=self.keep)

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        box = require_box(problem.actions, "ICEM")
        return sampling.begin(box, latent, state, elapsed, key, spread=self.spread, iterations=self.iterations)

    def improve(self, problem, search):
        box = problem.actions
        key = jax.random.fold_in(search.key, search.iteration)
        fresh = self.samples - self.keep - 2
        noise = sampling.coloured_noise(fresh, self.horizon, box.shape[0], self.exponent, key=key)
        kept = [search.mean[None], search.best.actions[None], search.elites]
        candidates = jax.vmap(box.project)(jnp.concatenate([*kept, search.mean + search.scale * noise]))
        min_spread = self.min_spread * box.half_range
        return sampling.refit(problem, search, candidates, elites=self.elites, momentum=self.momentum, min_spread=min_spread)

    def finish(self, problem, search):
        return sampling.finish(problem, search)
