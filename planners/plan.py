"""What planning returns, and in words how it went."""

import enum
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from planners.pytree import pytree


class Status(enum.IntEnum):
    """How a search ended. `plan.status` holds the number, `Status(int(plan.status)).sentence` the words."""

    BUDGET_SPENT = 0
    CONVERGED = 1
    INFEASIBLE = 2
    NO_FINITE_CANDIDATE = 3
    SUBGOAL_REPLACED = 4

    @property
    def sentence(self) -> str:
        return {
            Status.BUDGET_SPENT: "The search used all its iterations; this is the best plan it saw.",
            Status.CONVERGED: "The search has narrowed to this plan; more iterations would hardly change it.",
            Status.INFEASIBLE: "No candidate met every constraint; this one violates them least.",
            Status.NO_FINITE_CANDIDATE: "No candidate of finite cost was seen; this is the warm start, unchanged.",
            Status.SUBGOAL_REPLACED: "The subgoal due next is out of reach; what this plan reaches took its place, and the level above plans anew.",
        }[self]


class Diagnostics(NamedTuple):
    """Figures to plot, one entry an iteration; NaN for iterations that were not run."""

    best_cost: Float[Array, " I"]
    spread: Float[Array, " I"]  # elite spread or gradient norm, as the planner documents
    effective_samples: Float[Array, " I"]


@pytree
class Plan:
    """The best action sequence found, and what was predicted for it.

    Attributes:
      actions: [H, A], or integers [H]; always inside the problem's bounds.
      spread: [H, A], standard deviation of the search around the plan; zeros for planners without one. For discrete
        actions [H], the probability that the search gave to other actions.
      latents: [H+1, ...], predicted under the first future.
      cost: J of the plan over all futures.
      terms: J by named term, under the first future.
      violation: largest constraint value above zero.
      status: a `Status` as a number.
      candidates, weights: [K, A] first actions the search ended with and their weights [K], summing to one.
      diagnostics: per iteration.
    """

    actions: Float[Array, "H A"] | Int[Array, " H"]
    spread: Float[Array, "H A"] | Float[Array, " H"]
    latents: PyTree[Array]
    cost: Float[Array, ""]
    terms: dict[str, Float[Array, ""]]
    violation: Float[Array, ""]
    status: Int[Array, ""]
    candidates: Array
    weights: Float[Array, " K"]
    diagnostics: Diagnostics


@pytree
class Incumbent:
    """The best plan seen so far; a plan replaces it only if it is strictly better, and a NaN never does."""

    actions: Array
    cost: Float[Array, ""]
    violation: Float[Array, ""]

    @classmethod
    def unknown(cls, actions: Array) -> "Incumbent":
        """A plan whose cost has not been computed yet: anything finite beats it."""
        return cls(actions, jnp.asarray(jnp.inf, jnp.float32), jnp.asarray(jnp.inf, jnp.float32))

    def challenged(self, actions: Array, cost: Array, violation: Array) -> "Incumbent":
        """The better of the two: less violation first, then less cost."""
        cost, violation = finite_or_inf(cost), finite_or_inf(violation)
        equally_feasible = (violation <= 0) & (self.violation <= 0) | (violation == self.violation)
        wins = (
            jnp.isfinite(cost)
            & jnp.isfinite(violation)
            & jnp.where(equally_feasible, cost < self.cost, violation < self.violation)
        )
        pick = lambda new, old: jnp.where(wins, new, old)  # noqa: E731
        return Incumbent(pick(actions, self.actions), pick(cost, self.cost), pick(violation, self.violation))

    def status(self, converged: Bool[Array, ""] | bool = False) -> Int[Array, ""]:
        """Nothing finite, else infeasible, else converged if the search says so, else budget spent."""
        found = jnp.where(converged, Status.CONVERGED, Status.BUDGET_SPENT)
        found = jnp.where(self.violation > 0, Status.INFEASIBLE, found)
        return jnp.where(jnp.isfinite(self.cost), found, Status.NO_FINITE_CANDIDATE).astype(jnp.int32)


def finite_or_inf(cost: Array) -> Array:
    """`cost` with every non-finite entry as +inf, so that every ranking puts it last."""
    return jnp.where(jnp.isfinite(cost), cost, jnp.inf)
