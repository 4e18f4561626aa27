"""Monte Carlo tree search with Gumbel MuZero's rules, on mctx.

Discrete actions are searched exactly (Danihelka et al. 2022, "Policy improvement by planning with Gumbel"). Continuous ones
by a few sampled at every node (Hubert et al. 2021, "Learning and planning in complex action spaces"; half of them from a
widened proposal, Wang et al. 2024, "EfficientZero V2", section 4.1).
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import mctx
from jaxtyping import Array, Float, Int

from planners import sampling, tree_model, tree_reading
from planners.actions import Box, Discrete
from planners.errors import SettingError, require_counts, require_finite
from planners.plan import Diagnostics, Incumbent
from planners.problem import Latent, Problem
from planners.pytree import pytree
from planners.tree_model import Guide
from planners.warm_start import shift

PROBES = 8  # plans priced before the search: the warm start, and what tells how bad a cost can be
MOST_CONSIDERED = 16  # root actions among which sequential halving chooses, mctx's own default


@pytree
class TreeSearchSearch:
    """One decision's search. The tree is mctx's, with a batch of one, and grows from `improve` to `improve`."""

    latent: Latent
    warm: Array  # [H, A], or integers [H]
    tree: Any
    hopeless: Float[Array, ""]  # what a non-finite step costs
    weights: Float[Array, " K"]
    best: Incumbent
    diagnostics: Diagnostics
    iteration: Int[Array, ""]
    key: Array


@dataclass(frozen=True)
class TreeSearch:
    """A tree of `simulations` model steps, `horizon` deep at most; plans for `Box` and `Discrete` actions alike.

    Costs, discount and termination are the problem's own (`tree_model`), nodes are valued by −terminal_cost. Several futures
    are searched as one, by their mean; the plan is then scored under the problem's risk like every planner's. The plan is
    the best of those the search has read off the tree; steps beyond the tree follow the proposal, or the warm start.
    `plan.weights` are targets to distil: the improved policy of Gumbel MuZero over discrete `plan.candidates`, visit
    shares over sampled ones. Diagnostics: `spread` is the deepest node so far, `effective_samples` 1 / Σ weights².

    Attributes:
      horizon: actions in a plan, and the greatest depth of the tree.
      simulations: nodes added to the tree in a decision, a multiple of `iterations`.
      iterations: slices in which they are added.
      candidates: actions sampled at every node; discrete actions are all there.
      spread: of the samples around the warm start where there is no proposal, in half-ranges; as many are uniform in the box.
      widen: half of the samples are drawn from the proposal made this many times wider.
      rollout: value a node by the rest of the plan, the proposal's or the warm start's, down to the horizon and its
        terminal_cost. Without, by −terminal_cost where the node stands: cheaper, and right where that is a critic.
      gumbel: scale of the Gumbel noise at the root, which makes decisions explore; 0 for none.
    """

    horizon: int
    simulations: int = 64
    iterations: int = 4
    candidates: int = 8
    spread: float = 0.3
    widen: float = 2.0
    gumbel: float = 1.0
    rollout: bool = True

    def __post_init__(self):
        counts = {"horizon": self.horizon, "iterations": self.iterations, "simulations": self.simulations}
        require_counts(**counts, candidates=self.candidates)
        require_finite(spread=self.spread, widen=self.widen)
        if self.candidates < 2:
            raise SettingError(f"candidates={self.candidates}: expected at least 2 actions to choose from.")
        if self.simulations % self.iterations:
            raise SettingError(f"simulations={self.simulations} with iterations={self.iterations}: expected a multiple.")
        if not 0 <= self.gumbel < float("inf"):
            raise SettingError(f"gumbel={self.gumbel}: expected 0 or more.")

    def init(self, problem: Problem) -> Array:
        actions = problem.actions
        if isinstance(actions, Discrete):
            return jnp.zeros((self.horizon,), jnp.int32)
        return jnp.broadcast_to(actions.middle, (self.horizon, *actions.shape))

    def begin(self, problem, latent, state, *, elapsed=1.0, key):
        key, probe_key, root_key = jax.random.split(key, 3)
        warm = shift(state, jnp.asarray(elapsed, jnp.float32))
        warm = warm if isinstance(problem.actions, Discrete) else problem.actions.project(warm)
        probes = jnp.concatenate([warm[None], _random_plans(problem, PROBES - 1, self.horizon, key=probe_key)])
        best, costs = _challenge(problem, latent, Incumbent.unknown(warm), probes)
        finite = jnp.isfinite(costs)
        most = jnp.max(costs, initial=0.0, where=finite)
        hopeless = jnp.maximum(most - jnp.min(costs, initial=0.0, where=finite), 1e-6)
        guide = self._guide(warm, hopeless)
        value, logits, node = tree_model.root(problem, guide, latent, key=root_key)
        root = jax.tree.map(lambda x: x[None], mctx.RootFnOutput(prior_logits=logits, value=value, embedding=node))
        grown = self._grow(problem, guide, key, root, lambda low, high, body, fresh: fresh)
        return TreeSearchSearch(
            latent=latent,
            warm=warm,
            tree=grown.search_tree,
            hopeless=hopeless,
            weights=grown.action_weights[0],
            best=best,
            diagnostics=sampling.no_diagnostics(self.iterations),
            iteration=jnp.zeros((), jnp.int32),
            key=key,
        )

    def improve(self, problem, search):
        guide = self._guide(search.warm, search.hopeless)
        slice_size = self.simulations // self.iterations
        first = search.iteration * slice_size
        last = jnp.minimum(first + slice_size, self.simulations)
        key = jax.random.fold_in(search.key, search.iteration)

        def resume(low, high, body, fresh):
            return jax.lax.fori_loop(first, last, body, (key, search.tree))

        root = mctx.RootFnOutput(
            prior_logits=search.tree.children_prior_logits[:, 0],
            value=search.tree.raw_values[:, 0],
            embedding=jax.tree.map(lambda x: x[:, 0], search.tree.embeddings),
        )
        grown = self._grow(problem, guide, search.key, root, resume)
        tree = jax.tree.map(lambda x: x[0], grown.search_tree)
        weights = grown.action_weights[0]
        if not isinstance(problem.actions, Discrete):
            weights = grown.search_tree.summary().visit_probs[0]
        leaves = jnp.stack([tree_reading.most_visited(tree, grown.action[0], self.horizon), tree_reading.best_priced(tree)])
        plans = jax.vmap(lambda leaf: tree_reading.plan_through(problem, guide, search.latent, tree, leaf))(leaves)
        best, _ = _challenge(problem, search.latent, search.best, plans)
        depth = tree.embeddings.situation.step.max().astype(jnp.float32)
        return TreeSearchSearch(
            latent=search.latent,
            warm=search.warm,
            tree=grown.search_tree,
            hopeless=search.hopeless,
            weights=weights,
            best=best,
            diagnostics=sampling.record(search.diagnostics, search.iteration, best.cost, depth, 1 / (weights**2).sum()),
            iteration=search.iteration + 1,
            key=search.key,
        )

    def finish(self, problem, search):
        plan = sampling.make_plan(
            problem,
            search.latent,
            search.best,
            spread=jnp.zeros(search.best.actions.shape, jnp.float32),
            candidates=search.tree.embeddings.candidates[0, 0],
            weights=search.weights,
            diagnostics=search.diagnostics,
        )
        return plan, search.best.actions

    def _guide(self, warm: Array, hopeless: Array) -> Guide:
        return Guide(warm, hopeless, self.candidates, self.spread, self.widen, self.rollout)

    def _grow(self, problem: Problem, guide: Guide, key: Array, root: mctx.RootFnOutput, loop: Any) -> mctx.PolicyOutput:
        """Gumbel MuZero, whose loop over simulations `loop` replaces: that is how a tree is resumed."""

        def recurrent(_, key, index, node):
            take = jax.vmap(lambda index, node, key: tree_model.follow(problem, guide, index, node, key=key))
            reward, discount, value, logits, node = take(index, node, jax.random.split(key, 1))
            return mctx.RecurrentFnOutput(reward=reward, discount=discount, prior_logits=logits, value=value), node

        return mctx.gumbel_muzero_policy(
            params=(),
            rng_key=key,
            root=root,
            recurrent_fn=recurrent,
            num_simulations=self.simulations,
            max_depth=self.horizon,
            loop_fn=loop,
            qtransform=tree_reading.confidence if self.rollout else mctx.qtransform_completed_by_mix_value,
            max_num_considered_actions=min(root.prior_logits.shape[1], MOST_CONSIDERED),
            gumbel_scale=self.gumbel,
        )


def _challenge(problem: Problem, latent: Latent, best: Incumbent, plans: Array) -> tuple[Incumbent, Float[Array, " N"]]:
    costs, violations = sampling.evaluate(problem, latent, plans)
    leader = sampling.best_first(costs, violations, 1, constrained=problem.constraints is not None)[0]
    return best.challenged(plans[leader], costs[leader], violations[leader]), costs


def _random_plans(problem: Problem, count: int, horizon: int, *, key: Array) -> Array:
    """Even draws from the box, or from the discrete actions."""
    actions = problem.actions
    if isinstance(actions, Box):
        plans = jax.random.uniform(key, (count, horizon, *actions.shape), minval=actions.low, maxval=actions.high)
        return jax.vmap(actions.project)(plans)
    return jax.random.randint(key, (count, horizon), 0, actions.n)
