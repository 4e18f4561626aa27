"""The cross-entropy method (Rubinstein & Kroese 2004; for control, Kobilarov 2012)."""

from dataclasses import dataclass

from planners import sampling
from planners.errors import require_fraction
from planners.parameterisation import PER_STEP, Parameterisation


@dataclass(frozen=True)
class CEM:
    """Sample around a mean, keep the elites, move mean and spread onto them; repeat.

    CONVERGED once the spread has shrunk to its floor everywhere.

    Attributes:
      horizon: actions in a plan.
      samples: candidates an iteration, the mean, the best plan so far and the proposals among them.
      iterations: refits a decision.
      elites: candidates the Gaussian is refitted to.
      spread: initial standard deviation, as a fraction of the box's half-range.
      min_spread: the standard deviation never falls below this fraction of the half-range.
      momentum: share of the old mean and spread that is kept at each refit.
      proposals: candidates that are plans of the problem's `proposal`.
      parameterisation: what is sampled, every action (`PER_STEP`) or `Knots`.
    """

    horizon: int
    samples: int = 512
    iterations: int = 6
    elites: int = 64
    spread: float = 0.5
    min_spread: float = 0.05
    momentum: float = 0.1
    proposals: int = 0
    parameterisation: Parameterisation = PER_STEP

    def __post_init__(self):
        sampling.check(self, given=2, elites=self.elites)
        sampling.check_spread(spread=self.spread, min_spread=self.min_spread)
        require_fraction(momentum=self.momentum)

    def init(self, problem):
        return sampling.cold_start(self, problem)

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        return sampling.begin(self, problem, latent, state, elapsed, key, spread=self.spread, elites=self.elites)

    def improve(self, problem, search):
        noise = sampling.fresh_noise(search, self.samples - self.proposals - 2)
        plans = sampling.candidates(self, problem, search, noise)
        cost, violation = sampling.evaluate(problem, search.latent, plans)
        return sampling.refit(self, problem, search, plans, cost, violation)

    def finish(self, problem, search):
        return sampling.finish(self, problem, search, converged=sampling.narrowed(self, problem, search))
