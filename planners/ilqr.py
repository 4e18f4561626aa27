"""Control-limited iterative LQR (Li & Todorov 2004; Tassa, Mansard & Todorov 2014, "Control-limited differential dynamic programming").

δu_t = α·k_t + K_t·δx_t,    k, K from the backward pass over the quadratic model of the Lagrangian L along the plan
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from planners import augmented_lagrangian, quadratic_model, riccati, sampling
from planners.actions import Box
from planners.errors import SettingError, require_counts, require_finite
from planners.gradient import differentiable_box
from planners.plan import Diagnostics, Incumbent, finite_or_inf
from planners.problem import Latent, Problem
from planners.pytree import pytree
from planners.quadratic_model import Flat
from planners.warm_start import shift

LEAST_REGULARISATION, MOST_REGULARISATION = 1e-4, 1e6


@pytree
class ILQRSearch:
    """One decision's search around a nominal plan, inside the box."""

    latent: Latent
    nominal: Float[Array, "H A"]
    regularisation: Float[Array, ""]
    multipliers: Float[Array, "M H C"]
    margin: Float[Array, ""]  # that constraints are aimed to keep, in their own units
    best: Incumbent
    converged: Bool[Array, ""]
    diagnostics: Diagnostics
    iteration: Int[Array, ""]


@dataclass(frozen=True)
class ILQR:
    """One backward pass over a quadratic model of the problem, one forward pass with a line search, an iteration.

    Futures are stacked into one state, so the model is exact for their mean, and first-order exact for other risks. A rate
    limit is kept by projection. Diagnostics: `spread` is the largest step k, in half-ranges; `effective_samples` the step
    length α that was taken, 0 for none.

    Attributes:
      horizon: actions in a plan.
      iterations: backward and forward passes a decision; one solves a linear-quadratic problem.
      steps: step lengths tried side by side, 1, ½, ¼ …
      regularisation: the first multiple of Q_uu's mean diagonal added to it; rises tenfold when no step helps, falls after.
      tolerance: CONVERGED once the quadratic model promises to lower the cost by less than this share of it.
      penalty: weight μ of violated constraints, in cost per squared unit of the constraint.
    """

    horizon: int
    iterations: int = 10
    steps: int = 10
    regularisation: float = 0.0
    tolerance: float = 1e-5
    penalty: float = 30.0

    def __post_init__(self):
        require_counts(horizon=self.horizon, iterations=self.iterations, steps=self.steps)
        require_finite(tolerance=self.tolerance)
        if not 0 <= self.regularisation < float("inf"):
            raise SettingError(f"regularisation={self.regularisation}: expected 0 or more.")
        if not 0 < self.penalty < float("inf"):
            raise SettingError(f"penalty={self.penalty}: expected a positive weight.")

    def init(self, problem: Problem) -> Float[Array, "H A"]:
        box = differentiable_box(problem, "ILQR")
        return jnp.broadcast_to(box.middle, (self.horizon, *box.shape))

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        box = differentiable_box(problem, "ILQR")
        warm = box.project(shift(state, jnp.asarray(elapsed, jnp.float32)))
        return ILQRSearch(
            latent=latent,
            nominal=warm,
            regularisation=jnp.asarray(self.regularisation, jnp.float32),
            multipliers=augmented_lagrangian.no_multipliers(problem, latent, self.horizon),
            margin=jnp.zeros((), jnp.float32),
            best=Incumbent.unknown(warm),
            converged=jnp.asarray(False),
            diagnostics=sampling.no_diagnostics(self.iterations),
            iteration=jnp.zeros((), jnp.int32),
        )

    def improve(self, problem, search):
        aimed = augmented_lagrangian.tightened(problem, search.margin)
        steps, promised, plans = self._candidates(aimed, search)
        price = jax.vmap(augmented_lagrangian.lagrangian, in_axes=(None, None, 0, None, None))
        priced = price(aimed, search.latent, plans, search.multipliers, self.penalty)
        violations = augmented_lagrangian.loosened(priced.violation, search.margin)
        taken = jnp.argmin(finite_or_inf(priced.value))
        improved = taken > 0
        costs = finite_or_inf(priced.cost)
        leader = sampling.best_first(costs, violations, 1, constrained=problem.constraints is not None)[0]
        best = search.best.challenged(plans[leader], costs[leader], violations[leader])

        largest = jnp.abs(steps).max()
        settled = (promised <= self.tolerance * jnp.abs(priced.value[0])) & (search.regularisation <= 1.0)
        length = jnp.where(improved, 0.5 ** (taken - 1.0), 0.0)
        raised = jnp.clip(10 * search.regularisation, LEAST_REGULARISATION, MOST_REGULARISATION)
        lowered = jnp.where(search.regularisation > LEAST_REGULARISATION, search.regularisation / 10, 0.0)
        return ILQRSearch(
            latent=search.latent,
            nominal=plans[taken],
            regularisation=jnp.where(improved, lowered, jnp.where(settled, search.regularisation, raised)),
            multipliers=augmented_lagrangian.updated(priced.constraints[taken], search.multipliers, self.penalty),
            margin=augmented_lagrangian.next_margin(search.margin, violations[taken]),
            best=best,
            converged=settled,
            diagnostics=sampling.record(search.diagnostics, search.iteration, best.cost, largest, length),
            iteration=search.iteration + 1,
        )

    def finish(self, problem, search):
        plan = sampling.make_plan(
            problem,
            search.latent,
            search.best,
            spread=jnp.zeros_like(search.best.actions),
            candidates=search.best.actions[:1],
            weights=jnp.ones(1),
            diagnostics=search.diagnostics,
            converged=search.converged,
        )
        return plan, search.best.actions

    def _candidates(
        self, problem: Problem, search: ILQRSearch
    ) -> tuple[Float[Array, "H A"], Float[Array, ""], Float[Array, "N H A"]]:
        """The steps k, what they promise, and the plans they lead to: the nominal itself first, then α = 1, ½, ¼ …"""
        box: Box = problem.actions  # type: ignore[assignment]
        flat, start = Flat.of(problem, search.latent, self.horizon)
        noise = jnp.swapaxes(problem.futures(self.horizon), 0, 1)
        units = (search.nominal - box.middle) / box.half_range

        def unroll(state, inputs):
            return flat.dynamics(state, *inputs), state

        last, states = jax.lax.scan(unroll, start, (units, noise))
        states = jnp.concatenate([states, last[None]])
        costs, _ = jax.vmap(problem.score, in_axes=(None, None, 0))(
            search.latent, search.nominal, problem.futures(self.horizon)
        )
        risk = jax.grad(problem.risk)(costs)
        model = quadratic_model.expand(flat, states, units, search.multipliers, self.penalty, risk)
        steps, gains, promised = riccati.backward(model, -1 - units, 1 - units, search.regularisation)

        def follow(length):
            def step(state, inputs):
                nominal_state, unit, k, gain, noise = inputs
                unit = jnp.clip(unit + length * k + gain @ (state - nominal_state), -1, 1)
                return flat.dynamics(state, unit, noise), flat.action(unit)

            return box.project(jax.lax.scan(step, start, (states[:-1], units, steps, gains, noise))[1])

        plans = jax.vmap(follow)(0.5 ** jnp.arange(self.steps))
        return steps, promised, jnp.concatenate([search.nominal[None], plans])
