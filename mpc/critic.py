"""The trainable cost: a critic that predicts what acting will cost from here on (LeCun 2022, section 3.2.2)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from planners import pytree, static
from worldmodels.networks import MLP
from worldmodels.spec import DiscreteAction, Spec

BINS = 101
GOES_ON = 4.0  # logit of an episode's going on before anything is learned
LIMIT = 10.0  # of the bins, after `symlog`
HIGHEST = math.expm1(LIMIT)
"""Cost to go that a critic can tell, about 22,000; what is beyond looks the same to it."""


def symlog(x: Array) -> Array:
    """sign(x) · ln(1 + |x|), so that small and large costs are told apart alike (Hafner et al. 2023, equation 1)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Array) -> Array:
    """The inverse of `symlog`."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


def two_hot(x: Float[Array, "*B"]) -> Float[Array, "*B K"]:
    """`symlog(x)` as weights on the two nearest of the bins, whose mean it is (Hafner et al. 2023, section 3)."""
    position = (jnp.clip(symlog(x), -LIMIT, LIMIT) + LIMIT) * (BINS - 1) / (2 * LIMIT)
    return jnp.maximum(0.0, 1.0 - jnp.abs(position[..., None] - jnp.arange(BINS)))


def expected(logits: Float[Array, "*B K"]) -> Float[Array, "*B"]:
    """The number that a distribution over the bins stands for."""
    return symexp(jax.nn.softmax(logits) @ jnp.linspace(-LIMIT, LIMIT, BINS))


def with_action(features: Array, action: Array, spec: Spec) -> Array:
    """Features and normalised action side by side, discrete actions one-hot."""
    if isinstance(spec.action, DiscreteAction):
        action = jax.nn.one_hot(action, spec.action.n)
    return jnp.concatenate([features, action], axis=-1)


def _action_size(spec: Spec) -> int:
    return spec.action.n if isinstance(spec.action, DiscreteAction) else spec.action.shape[0]


class Critic(nnx.Module):
    """An ensemble of distributions over the discounted cost of taking an action and following the policy ever after.

    The Q ensemble of TD-MPC2 (Hansen et al. 2024, section 3.1), in costs: two-hot over `symlog` bins, so that one setting
    serves every scale of cost.

    Attributes:
      discount: per model step, where it is the same for all that the critic learned; else None.
    """

    def __init__(
        self, features: int, spec: Spec, *, members: int = 2, hidden: int = 256, discount: float | None = None, seed: int = 0
    ):
        self.spec, self.size, self.hidden, self.discount = spec, features, hidden, discount
        inputs, rngs = features + _action_size(spec), nnx.Rngs(seed)
        self.members = nnx.List(MLP(inputs, (hidden, hidden), BINS, output_scale=1e-3, rngs=rngs) for _ in range(members))

    def logits(self, features: Float[Array, "*B D"], action: Array) -> Float[Array, "E *B K"]:
        inputs = with_action(features, action, self.spec)
        return jnp.stack([member(inputs) for member in self.members])

    def __call__(self, features: Float[Array, "*B D"], action: Array) -> Float[Array, "E *B"]:
        """Each member's expected cost to go, in the data's units."""
        return expected(self.logits(features, action))


class Continuation(nnx.Module):
    """The probability that an episode goes on after an action; near one before it has learned otherwise."""

    def __init__(self, features: int, spec: Spec, *, hidden: int = 128, seed: int = 0):
        self.spec = spec
        self.network = MLP(features + _action_size(spec), (hidden,), 1, output_scale=0.1, rngs=nnx.Rngs(seed))

    def logit(self, features: Float[Array, "*B D"], action: Array) -> Float[Array, "*B"]:
        return GOES_ON + self.network(with_action(features, action, self.spec))[..., 0]

    def __call__(self, features: Float[Array, "*B D"], action: Array) -> Float[Array, "*B"]:
        return jax.nn.sigmoid(self.logit(features, action))


@pytree
class FutureCost:
    """A critic as the `terminal_cost` of a planning problem: what following the policy costs beyond the horizon.

    The most pessimistic member speaks: a search would find and exploit whatever one member underrates. Where that is welcome,
    because what is found will be learned from, their mean speaks.
    """

    model: Any
    critic: Critic
    policy: Any
    pessimistic: bool = static(default=True)

    def __call__(self, latent: PyTree) -> Float[Array, ""]:
        features = self.model.features(latent)
        to_go = self.critic(features, self.policy(features).mean)
        return to_go.max(0) if self.pessimistic else to_go.mean(0)


@pytree
class PolicyProposal:
    """A policy as the `proposal` of a planning problem."""

    model: Any
    policy: Any

    def __call__(self, latent: PyTree) -> Any:
        return self.policy(self.model.features(latent))


@pytree
class ContinuesOnModel:
    """A continuation head as the `continues` of a planning problem."""

    model: Any
    continuation: Continuation

    def __call__(self, latent: PyTree, action: Array) -> Float[Array, ""]:
        return self.continuation(self.model.features(latent), action)
