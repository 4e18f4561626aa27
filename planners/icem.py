"""The improved cross-entropy method, iCEM (Pinneri et al. 2020, "Sample-efficient cross-entropy method")."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from planners import sampling
from planners.errors import SettingError, require_counts, require_finite, require_fraction, require_positive
from planners.parameterisation import PER_STEP, Parameterisation


@dataclass(frozen=True)
class ICEM:
    """CEM with noise correlated in time, and elites that live on between iterations and decisions.

    Attributes:
      horizon, samples, iterations, elites, spread, min_spread, momentum, proposals, parameterisation: as in `CEM`.
      exponent: power-law exponent of the noise; 0 is white, 2 is brown.
      keep: elites that re-enter as candidates, in the next iteration and, shifted in time, in the next decision.
      shrink: iteration i draws samples / shrink^i candidates, though never fewer than 2 · elites (γ in the paper). Every
        size is compiled on its own, and `jax.vmap` over single slices computes them all: leave 1 for those.
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
    shrink: float = 1.0
    proposals: int = 0
    parameterisation: Parameterisation = PER_STEP

    def __post_init__(self):
        require_counts(keep=self.keep)
        require_positive(shrink=self.shrink)
        sampling.check(self, given=self.keep + 2, elites=self.elites)
        sampling.check_spread(spread=self.spread, min_spread=self.min_spread)
        require_finite(exponent=self.exponent)
        require_fraction(momentum=self.momentum)
        if self.keep > self.elites:
            raise SettingError(f"keep={self.keep} with elites={self.elites}: expected keep <= elites.")
        sampling.check_counts(min(self.population), self.elites, self.keep + 2, self.proposals)

    @property
    def population(self) -> tuple[int, ...]:
        """Candidates in each iteration."""
        least = min(self.samples, 2 * self.elites)
        return tuple(max(least, int(self.samples / self.shrink**i)) for i in range(self.iterations))

    def init(self, problem):
        return sampling.cold_start(self, problem, self.keep)

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        return sampling.begin(self, problem, latent, state, elapsed, key, spread=self.spread, elites=self.elites)

    def improve(self, problem, search):
        sizes = sorted(set(self.population), reverse=True)
        if len(sizes) == 1:
            return self._improve(sizes[0], problem, search)
        turn = jnp.asarray([sizes.index(size) for size in self.population])[jnp.minimum(search.iteration, self.iterations - 1)]
        return jax.lax.switch(turn, [partial(self._improve, size) for size in sizes], problem, search)

    def _improve(self, samples, problem, search):
        noise = sampling.fresh_noise(search, samples - self.keep - self.proposals - 2, self.exponent)
        plans = sampling.candidates(self, problem, search, noise, reused=self.keep)
        cost, violation = sampling.evaluate(problem, search.latent, plans)
        return sampling.refit(self, problem, search, plans, cost, violation)

    def finish(self, problem, search):
        return sampling.finish(self, problem, search, kept=self.keep, converged=sampling.narrowed(self, problem, search))
