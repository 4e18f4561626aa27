"""The cross-entropy method over discrete actions (Rubinstein & Kroese 2004, chapter 4)."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from planners import sampling
from planners.actions import require_discrete
from planners.errors import SettingError, require_counts, require_fraction
from planners.plan import Diagnostics, Incumbent
from planners.problem import Latent
from planners.pytree import pytree
from planners.warm_start import shift

CERTAIN = 0.99  # CONVERGED once every step gives this much of its free probability to one action


@pytree
class CategoricalState:
    """The warm start: log-probabilities of every action at every step, and the best plan."""

    logits: Float[Array, "H n"]
    best: Int[Array, " H"]


@pytree
class CategoricalSearch:
    """One decision's search: a distribution over the n actions at each step, independent between steps."""

    latent: Latent
    probabilities: Float[Array, "H n"]
    elites: Int[Array, "E H"]  # best first
    weights: Float[Array, " E"]
    proposals: Int[Array, "P H"]
    best: Incumbent
    diagnostics: Diagnostics
    iteration: Int[Array, ""]
    key: Array


@dataclass(frozen=True)
class CategoricalCEM:
    """Draw every step's action by its probability, and move the probabilities to the elites' frequencies; repeat.

    CONVERGED once every step is all but certain of one action.

    Attributes:
      horizon: actions in a plan.
      samples: candidates an iteration, the best plan so far and the proposals among them.
      iterations: refits a decision.
      elites: candidates whose frequencies become the probabilities.
      momentum: share of the old probabilities that is kept at each refit.
      min_probability: share of every step's probability that stays uniform, so that no action dies out.
      forget: share of the warm start's probability that is made uniform at the start of a decision.
      proposals: candidates that are plans of the problem's `proposal`.
    """

    horizon: int
    samples: int = 256
    iterations: int = 6
    elites: int = 32
    momentum: float = 0.2
    min_probability: float = 0.05
    forget: float = 0.5
    proposals: int = 0

    def __post_init__(self):
        require_counts(horizon=self.horizon, iterations=self.iterations, samples=self.samples, elites=self.elites)
        require_fraction(momentum=self.momentum, min_probability=self.min_probability)
        if not 0 <= self.forget <= 1:
            raise SettingError(f"forget={self.forget}: expected a fraction in [0, 1].")
        sampling.check_counts(self.samples, self.elites, 1, self.proposals)

    def init(self, problem):
        actions = require_discrete(problem.actions, "CategoricalCEM")
        uniform = jnp.full((self.horizon, actions.n), -jnp.log(actions.n), jnp.float32)
        return CategoricalState(uniform, jnp.zeros((self.horizon,), jnp.int32))

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        actions = require_discrete(problem.actions, "CategoricalCEM")
        elapsed = jnp.asarray(elapsed, jnp.float32)
        remembered = jax.nn.softmax(shift(state.logits, elapsed))
        remembered = jnp.where(jnp.isfinite(remembered), remembered, 1 / actions.n)
        warm = jnp.clip(shift(state.best, elapsed), 0, actions.n - 1)
        key, proposal_key = jax.random.split(key)
        return CategoricalSearch(
            latent=latent,
            probabilities=self.forget / actions.n + (1 - self.forget) * remembered,
            elites=jnp.broadcast_to(warm, (self.elites, self.horizon)),
            weights=jnp.full((self.elites,), 1 / self.elites, jnp.float32),
            proposals=sampling.propose(problem, latent, self.proposals, self.horizon, key=proposal_key),
            best=Incumbent.unknown(warm),
            diagnostics=sampling.no_diagnostics(self.iterations),
            iteration=jnp.zeros((), jnp.int32),
            key=key,
        )

    def improve(self, problem, search):
        n = problem.actions.n
        key = jax.random.fold_in(search.key, search.iteration)
        count = self.samples - self.proposals - 1
        fresh = jax.random.categorical(key, jnp.log(search.probabilities), shape=(count, self.horizon)).astype(jnp.int32)
        plans = jnp.concatenate([search.best.actions[None], search.proposals, fresh])
        cost, violation = sampling.evaluate(problem, search.latent, plans)
        elites, weights, best = sampling.select(problem, search.best, plans, cost, violation, self.elites)
        frequency = jnp.einsum("e,ehn->hn", weights, jax.nn.one_hot(elites, n))
        frequency = self.min_probability / n + (1 - self.min_probability) * frequency
        moved = self.momentum * search.probabilities + (1 - self.momentum) * frequency
        weight = weights.sum()
        probabilities = jnp.where(weight > 0, moved, search.probabilities)
        doubt = 1 - probabilities.max(-1)
        return replace(
            search,
            probabilities=probabilities,
            elites=elites,
            weights=jnp.where(weight > 0, weights, 1 / self.elites),
            best=best,
            diagnostics=sampling.record(
                search.diagnostics, search.iteration, best.cost, doubt.mean(), weight / jnp.maximum((weights**2).sum(), 1e-12)
            ),
            iteration=search.iteration + 1,
        )

    def finish(self, problem, search):
        n = problem.actions.n
        chosen = jnp.take_along_axis(search.probabilities, search.best.actions[:, None], 1)[:, 0]
        certain = self.min_probability / n + (1 - self.min_probability) * CERTAIN
        plan = sampling.make_plan(
            problem,
            search.latent,
            search.best,
            spread=1 - chosen,
            candidates=search.elites[:, 0],
            weights=search.weights,
            diagnostics=search.diagnostics,
            converged=(chosen >= certain).all(),
        )
        return plan, CategoricalState(jnp.log(search.probabilities), search.best.actions)
