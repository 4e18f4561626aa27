"""Every planner, once. A newcomer joins all contract tests by one line here."""

from collections.abc import Callable
from typing import Any, NamedTuple

import planners


class Member(NamedTuple):
    """A planner under test.

    Attributes:
      name: as in reports.
      make: horizon -> planner.
      accuracy: largest share of the gap between doing nothing and the optimum that it may leave, on problems of known optimum.
      discrete: plans integers instead of a box.
      local: follows one basin, and is excused from the multi-modal problem.
      constraints: honours `Problem.constraints`.
      variant: another form of a planner that is listed already; tested by `make test-slow` only.
    """

    name: str
    make: Callable[[int], Any]
    accuracy: float = 0.05
    discrete: bool = False
    local: bool = False
    constraints: bool = True
    variant: bool = False


MEMBERS = [
    Member("cem", lambda horizon: planners.CEM(horizon, samples=256, elites=24, iterations=12)),
    Member("icem", lambda horizon: planners.ICEM(horizon, samples=256, elites=24, iterations=12, exponent=1.0)),
    Member(
        "icem-shrinking",
        lambda horizon: planners.ICEM(horizon, samples=256, elites=24, iterations=12, shrink=2.0),
        variant=True,
    ),
    Member(
        "cem-cubic",
        lambda horizon: planners.CEM(horizon, iterations=12, parameterisation=planners.Knots(min(3, horizon))),
        variant=True,
    ),
    Member("random-shooting", lambda horizon: planners.RandomShooting(horizon, samples=512, iterations=8), accuracy=0.3),
    Member("predictive-sampling", lambda horizon: planners.PredictiveSampling(horizon, iterations=30), local=True),
    Member("mppi", lambda horizon: planners.MPPI(horizon, iterations=16), accuracy=0.1),
    Member("mppi-smooth", lambda horizon: planners.MPPI(horizon, iterations=16, smoothness=0.01), accuracy=0.1, variant=True),
    Member("cem-gradient", lambda horizon: planners.CEMGradient(horizon, iterations=6), accuracy=0.02),
    Member("categorical-cem", lambda horizon: planners.CategoricalCEM(horizon), discrete=True),
    Member("gradient", lambda horizon: planners.Gradient(horizon, starts=16, iterations=60)),
    Member("ilqr", lambda horizon: planners.ILQR(horizon, iterations=12), local=True),
    Member("tree-search", lambda horizon: planners.TreeSearch(horizon, simulations=512), discrete=True),
    Member(
        "tree-search-sampled",
        lambda horizon: planners.TreeSearch(horizon, simulations=512),
        accuracy=0.5,
        local=True,
        variant=True,
    ),
]

CONTINUOUS = [member for member in MEMBERS if not member.discrete]
DISCRETE = [member for member in MEMBERS if member.discrete]
