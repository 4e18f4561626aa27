"""What is read off a search tree: the worth of an action, and plans. Trees are mctx's, without the batch."""

from typing import Any

import jax
import jax.numpy as jnp
import mctx
from jaxtyping import Array, Float, Int

from planners import tree_model
from planners.actions import Discrete
from planners.problem import Latent, Problem
from planners.tree_model import Guide

CURIOSITY = 1.25  # below the root the best action is visited at most e^1.25 times as often as the worst, priors being equal


def best_returns(tree: Any, index: Array) -> Float[Array, " K"]:
    """What the best plan seen through each action at a node earns, from the root on; untried ones stand at the node's own plan."""
    nodes = tree.embeddings
    depth, path = nodes.situation.step[index], nodes.path[index]
    same_way = ((nodes.path == path) | (jnp.arange(path.size) >= depth)).all(1)
    below = same_way & (nodes.situation.step > depth) & (tree.node_visits > 0)
    visits = tree.children_visits[index]
    best = jax.ops.segment_max(jnp.where(below, nodes.total, -jnp.inf), nodes.path[:, depth], visits.size)
    return jnp.where(visits > 0, best, nodes.total[index])


def confidence(tree: Any, index: Array) -> Float[Array, " K"]:
    """σ(Q), with which Gumbel MuZero weighs actions against their prior, where whole plans are priced.

    Q is the best return seen, stretched to [0, 1], where MuZero has the mean: nothing here is random, so the best plan is what
    an action is worth, and candidates that were drawn badly below it do not count against it. At the root σ(q) is
    (50 + max N) · 0.1 · q as in mctx; below it CURIOSITY · q, bounded, so that the search comes back to every action.
    """
    returns = best_returns(tree, index)
    stretched = (returns - returns.min()) / jnp.maximum(returns.max() - returns.min(), 1e-8)
    at_root = (50 + tree.children_visits[index].max()) * 0.1
    return jnp.where(index == mctx.Tree.ROOT_INDEX, at_root, CURIOSITY) * stretched


def most_visited(tree: Any, action: Array, horizon: int) -> Int[Array, ""]:
    """The node at the end of the path that takes `action` at the root and the most visited action below."""

    def descend(depth, index):
        chosen = jnp.where(depth == 0, action, jnp.argmax(tree.children_visits[index]))
        child = tree.children_index[index, chosen]
        return jnp.where(child == mctx.Tree.UNVISITED, index, child)

    return jax.lax.fori_loop(0, horizon, descend, jnp.zeros((), jnp.int32))


def best_priced(tree: Any) -> Int[Array, ""]:
    """The node through which the best plan leads, by what was earned on the way and by its own value."""
    return jnp.argmax(jnp.where(tree.node_visits > 0, tree.embeddings.total, -jnp.inf)).astype(jnp.int32)


def plan_through(problem: Problem, guide: Guide, latent: Latent, tree: Any, leaf: Array) -> Array:
    """The actions on the way to `leaf`, then the default ones."""

    def climb(_, carry):
        index, path = carry
        parent = jnp.maximum(tree.parents[index], 0)
        depth = tree.embeddings.situation.step[index]
        action = tree.embeddings.candidates[parent, tree.action_from_parent[index]]
        return parent, jnp.where(depth > 0, path.at[depth - 1].set(action), path)

    _, path = jax.lax.fori_loop(0, guide.horizon, climb, (leaf, guide.warm))
    length = tree.embeddings.situation.step[leaf]
    plan = path if problem.proposal is None else _continued(problem, guide, latent, path, length)
    return plan if isinstance(problem.actions, Discrete) else problem.actions.project(plan)


def _continued(problem: Problem, guide: Guide, latent: Latent, path: Array, length: Array) -> Array:
    """The first `length` actions of `path`, then the proposal's."""

    def step(carry, inputs):
        latent, previous = carry
        action, noise, t = inputs
        action = jnp.where(t < length, action, tree_model.default_action(problem, guide, latent, previous, t))
        return (problem.dynamics(latent, action, noise), action), action

    inputs = (path, problem.futures(guide.horizon)[0], jnp.arange(guide.horizon))
    return jax.lax.scan(step, (latent, path[0]), inputs)[1]
