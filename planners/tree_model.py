"""The problem as a tree search sees it: what a node holds, and what it means to take one of its candidate actions.

    reward = −Σ_m p_m · cost(s^m, a, t),    discount = γ · Σ_m p_m · continues(s^m, a),    value at the horizon = −Σ_m p_m · terminal_cost(s^m)

over M futures, p_m = D^m / Σ D^m. A plan's discounted rewards and last value then add up to −J, J the mean over the futures.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from planners import proposals
from planners.actions import Discrete
from planners.problem import Latent, Problem


class Situation(NamedTuple):
    """Where M futures stand, `step` actions into a plan."""

    latents: Latent  # [M, ...]
    shares: Float[Array, " M"]  # p, sums to one
    step: Int[Array, ""]
    previous: Array  # the action that led here


class Node(NamedTuple):
    """A situation, the K actions that may follow, and what the plan through it is worth."""

    situation: Situation
    candidates: Array  # [K, A], or integers [K]
    earned: Float[Array, ""]  # discounted rewards up to here
    weight: Float[Array, ""]  # product of the discounts up to here
    total: Float[Array, ""]  # earned + weight · value
    path: Int[Array, " H"]  # the candidates taken on the way, by number; −1 beyond


class Guide(NamedTuple):
    """What the search goes by where it has no tree.

    Attributes:
      warm: the warm start, [H, A] or integers [H].
      hopeless: the cost of a step that is not finite.
      count: candidates at a node; all n where actions are discrete.
      spread: of the candidates around the warm start, in half-ranges.
      widen: how many times wider than the proposal its widened form is.
      rollout: value a node by the rest of the plan, instead of by −terminal_cost where it stands.
    """

    warm: Array
    hopeless: Float[Array, ""]
    count: int
    spread: float
    widen: float
    rollout: bool

    @property
    def horizon(self) -> int:
        return self.warm.shape[0]


def root(problem: Problem, guide: Guide, latent: Latent, *, key: Array) -> tuple[Float[Array, ""], Float[Array, " K"], Node]:
    """The node of the present: its value, its prior and itself."""
    futures = problem.futures(guide.horizon).shape[0]
    latents = jax.tree.map(lambda x: jnp.broadcast_to(x, (futures, *jnp.shape(x))), latent)
    previous = guide.warm[0]
    if not isinstance(problem.actions, Discrete) and problem.actions.previous is not None:
        previous = problem.actions.previous
    situation = Situation(latents, jnp.full((futures,), 1 / futures), jnp.zeros((), jnp.int32), previous)
    free = isinstance(problem.actions, Discrete) or problem.actions.previous is None
    candidates, logits = _candidates(problem, guide, situation, limited=not free, key=key)
    value = _value(problem, guide, situation)
    return value, logits, Node(situation, candidates, jnp.zeros(()), jnp.ones(()), value, jnp.full((guide.horizon,), -1))


def follow(problem: Problem, guide: Guide, index: Array, node: Node, *, key: Array):
    """Take candidate `index` at `node`: reward, discount, value, prior logits [K] and the node it leads to."""
    reward, discount, situation = _step(problem, guide, node.candidates[index], node.situation)
    value = jnp.where(discount > 0, _value(problem, guide, situation), 0.0)
    candidates, logits = _candidates(problem, guide, situation, limited=True, key=key)
    earned, weight = node.earned + node.weight * reward, node.weight * discount
    path = node.path.at[node.situation.step].set(index)
    return reward, discount, value, logits, Node(situation, candidates, earned, weight, earned + weight * value, path)


def default_action(problem: Problem, guide: Guide, latent: Latent, previous: Array, step: Array) -> Array:
    """What follows where the tree ends: the proposal's mode, or the warm start."""
    action = guide.warm[step] if problem.proposal is None else proposals.mode(problem, problem.proposal(latent))
    if isinstance(problem.actions, Discrete):
        return action
    return _admissible(problem, action, previous)


def _step(
    problem: Problem, guide: Guide, action: Array, now: Situation
) -> tuple[Float[Array, ""], Float[Array, ""], Situation]:
    """Reward, discount and what comes after.

    What is not finite ends the episode there at a cost of `hopeless`, so that nothing of it enters the tree. A violated
    constraint costs `hopeless` on top, and the episode goes on.
    """
    live = now.shares > 0
    costs = jax.vmap(problem.cost, in_axes=(0, None, None))(now.latents, action, now.step)
    cost = jnp.where(live, now.shares * costs, 0.0).sum()
    if problem.constraints is not None:
        constraints = jax.vmap(problem.constraints, in_axes=(0, None, None))(now.latents, action, now.step)
        cost = cost + guide.hopeless * ~(jnp.where(live[:, None], constraints, 0.0) <= 0).all()
    going_on = now.shares * jax.vmap(problem.continues, in_axes=(0, None))(now.latents, action)
    survivors = going_on.sum()
    noise = problem.futures(guide.horizon)[:, now.step]
    latents = jax.vmap(problem.dynamics, in_axes=(0, None, 0))(now.latents, action, noise)
    sound = jnp.isfinite(cost) & jnp.isfinite(survivors)
    shares = jnp.where(sound & (survivors > 0), going_on / survivors, now.shares)
    following = Situation(latents, shares, now.step + 1, action)
    return jnp.where(sound, -cost, -guide.hopeless), jnp.where(sound, problem.discount * survivors, 0.0), following


def _value(problem: Problem, guide: Guide, now: Situation) -> Float[Array, ""]:
    """What the rest of the plan earns from here."""

    def step(_, carry):
        total, weight, now = carry
        latent = jax.tree.map(lambda x: x[0], now.latents)
        reward, discount, now = _step(problem, guide, default_action(problem, guide, latent, now.previous, now.step), now)
        return total + weight * reward, weight * discount, now

    total, weight = jnp.zeros(()), jnp.ones(())
    if guide.rollout:
        total, weight, now = jax.lax.fori_loop(now.step, guide.horizon, step, (total, weight, now))
    last = -jnp.where(now.shares > 0, now.shares * jax.vmap(problem.terminal_cost)(now.latents), 0.0).sum()
    last = jnp.where(jnp.isfinite(last), last, -guide.hopeless)
    return total + jnp.where(weight > 0, weight * last, 0.0)


def _candidates(problem: Problem, guide: Guide, now: Situation, *, limited: bool, key: Array):
    """The K actions at a node and the logits of their prior; a proposal sees the first future.

    Sampled actions have an even prior: how often a policy draws an action already says how likely it is
    (Hubert et al. 2021, section 4.2).
    """
    proposal: Any = None if problem.proposal is None else problem.proposal(jax.tree.map(lambda x: x[0], now.latents))
    if isinstance(problem.actions, Discrete):
        logits = jnp.zeros(problem.actions.n) if proposal is None else proposal.logits
        return jnp.arange(problem.actions.n), jnp.where(jnp.isfinite(logits).all(), logits, 0.0)
    box = problem.actions
    warm = guide.warm[jnp.minimum(now.step, guide.horizon - 1)]
    near_key, far_key = jax.random.split(key)
    if proposal is None:
        near = guide.count // 2
        gaussian = guide.spread * box.half_range * jax.random.normal(near_key, (near, *box.shape))
        uniform = jax.random.uniform(far_key, (guide.count - 1 - near, *box.shape), minval=box.low, maxval=box.high)
        drawn = [warm[None], warm + gaussian, uniform]
    else:
        near = guide.count // 2
        centre = proposals.mode(problem, proposal)
        sampled = jax.vmap(lambda key: proposal.sample(key=key))(jax.random.split(near_key, guide.count - 1))
        widened = centre + guide.widen * (sampled[near:] - centre)
        drawn = [centre[None], sampled[:near], widened]
    candidates = jnp.concatenate(drawn)
    return (_admissible(problem, candidates, now.previous, limited), jnp.zeros(guide.count))


def _admissible(problem: Problem, actions: Float[Array, "*K A"], previous: Float[Array, " A"], limited: bool = True) -> Array:
    """`actions` inside the box, and within its rate of `previous`; the middle where they are not finite."""
    box = problem.actions
    actions = jnp.clip(jnp.where(jnp.isfinite(actions), actions, box.middle), box.low, box.high)  # type: ignore[union-attr]
    if box.rate is None or not limited:  # type: ignore[union-attr]
        return actions
    return jnp.clip(actions, previous - box.rate, previous + box.rate)  # type: ignore[union-attr]
