"""The improved cross-entropy method, iCEM (Pinneri et al. 2020, "Sample-efficient cross-entropy method")."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from planners import sampling
from planners.actions import require_box
from planners.errors import SettingError, require_fraction, require_positive
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
        require_positive(horizon=self.horizon, iterations=self.iterations, elites=self.elites, keep=self.keep, shrink=self.shrink)
        require_fraction(momentum=self.momentum)
        sampling.check_spread(spread=self.spread, min_spread=self.min_spread)
        if self.keep > self.elites:
            raise SettingError(f"keep={self.keep} with elites={self.elites}: expected keep <= elites.")
        sampling.check_counts(min(self.population), self.elites, self.keep + 2, self.proposals)
        self.parameterisation.count(self.horizon)

    @property
    def population(self) -> tuple[int, ...]:
        """Candidates in each iteration."""
        least = min(self.samples, 2 * self.elites)
        return tuple(max(least, int(self.samples / self.shrink**i)) for i in range(self.iterations))

    def init(self, problem):
        return sampling.cold_start(require_box(problem.actions, "ICEM"), self.horizon, elites=self.keep)

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        require_box(problem.actions, "ICEM")
        return sampling.begin(
            problem,
            latent,
            state,
            elapsed,
            key,
            spread=self.spread,
            iterations=self.iterations,
            elites=self.elites,
            parameterisation=self.parameterisation,
            proposed=self.proposals,
        )

    def improve(self, problem, search):
        sizes = sorted(set(self.population), reverse=True)
        if len(sizes) == 1:
            return self._improve(sizes[0], problem, search)
        turn = jnp.asarray([sizes.index(size) for size in self.population])[jnp.minimum(search.iteration, self.iterations - 1)]
        return jax.lax.switch(turn, [partial(self._improve, size) for size in sizes], problem, search)

    def _improve(self, samples, problem, search):
        noise = sampling.fresh_noise(search, samples - self.keep - self.proposals - 2, self.exponent)
        plans = sampling.candidates(problem, search, noise, self.parameterisation, reused=self.keep)
        cost, violation = sampling.evaluate(problem, search.latent, plans)
        return sampling.refit(
            problem,
            search,
            plans,
            cost,
            violation,
            parameterisation=self.parameterisation,
            momentum=self.momentum,
            min_spread=self.min_spread * problem.actions.half_range,
        )

    def finish(self, problem, search):
        converged = (search.scale <= self.min_spread * problem.actions.half_range).all()
        return sampling.finish(problem, search, self.parameterisation, kept=self.keep, converged=converged)
