"""Mode-1: a policy that answers from the latent alone, and the agent that acts by it."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mpc.agent import AgentState, Observation, believe, check_state, explored
from mpc.costs import no_action
from mpc.decision import Decision
from mpc.errors import MPCError
from mpc.packing import Structure, pack, unpack
from planners import pytree, static
from worldmodels.networks import MLP
from worldmodels.spec import DiscreteAction, Spec


@pytree
class SquashedGaussian:
    """A Gaussian over normalised actions, its mean inside [-1, 1], samples clipped to the box."""

    mean: Float[Array, " A"]
    scale: Float[Array, " A"]

    def sample(self, *, key: Array) -> Float[Array, " A"]:
        return jnp.clip(self.mean + self.scale * jax.random.normal(key, self.mean.shape), -1, 1)

    def log_prob(self, action: Float[Array, " A"]) -> Float[Array, ""]:
        z = (action - self.mean) / self.scale
        return -(0.5 * z**2 + jnp.log(self.scale) + 0.5 * jnp.log(2 * jnp.pi)).sum()


@pytree
class Categorical:
    """A distribution over the integers 0 … n−1."""

    logits: Float[Array, " n"]

    @property
    def mean(self):
        return jnp.argmax(self.logits).astype(jnp.int32)

    def sample(self, *, key: Array):
        return jax.random.categorical(key, self.logits).astype(jnp.int32)

    def log_prob(self, action):
        return jax.nn.log_softmax(self.logits)[action]


@dataclass(frozen=True)
class PolicySettings:
    """Width of the two hidden layers, and what deviations of normalised actions from their mean approach at most."""

    hidden: int = 128
    max_scale: float | None = None

    def __post_init__(self):
        if self.max_scale is not None and not self.max_scale > 0:
            raise MPCError(f"max_scale={self.max_scale}: expected a deviation above 0, or None for the usual bound.")


class Policy(nnx.Module):
    """A small network from the model's features [D] to a distribution over normalised actions."""

    def __init__(self, features: int, spec: Spec, *, seed: int = 0, **settings: Any):
        self.spec = spec
        self.size = features
        self.settings = PolicySettings(**settings)
        self.discrete = isinstance(spec.action, DiscreteAction)
        outputs = spec.action.n if isinstance(spec.action, DiscreteAction) else 2 * spec.action.shape[0]
        width = self.settings.hidden
        self.network = MLP(features, (width, width), outputs, output_scale=0.1, rngs=nnx.Rngs(seed))

    def __call__(self, features: Float[Array, " D"]) -> SquashedGaussian | Categorical:
        output = self.network(features)
        if self.discrete:
            return Categorical(output)
        mean, log_scale = jnp.split(output, 2, axis=-1)
        log_scale, most = jnp.maximum(log_scale - 1.0, -5.0), self.settings.max_scale
        scale = jnp.exp(jnp.minimum(log_scale, 0.5)) if most is None else most * jax.nn.sigmoid(log_scale - math.log(most))
        return SquashedGaussian(jnp.tanh(mean), scale)


@pytree
class PolicyAgent:
    """Acts by the policy's most likely action: perception and one small network, no search.

    `policy` is a `Policy`, or any pytree of your own from features to a distribution with `mean` and `sample`.
    """

    model: Any
    policy: Any
    exploration: float = static(default=0.3)

    def reset(self, observation: Observation) -> AgentState:
        self.model.spec.check_observation(observation)
        return _reset(*pack(self), observation)

    def act(self, state: AgentState, observation: Observation, *, elapsed: Any = 1.0, explore: bool = False, key: Array):
        self.model.spec.check_observation(observation)
        check_state(state, AgentState)
        return _act(*pack(self), state, observation, key, explore=explore)


@partial(jax.jit, static_argnums=1)
def _reset(leaves: list[Array], structure: Structure, observation: Observation) -> AgentState:
    agent: PolicyAgent = unpack(leaves, structure)
    return AgentState(agent.model.start(observation), no_action(agent.model), (), jnp.zeros((), jnp.int32))


@partial(jax.jit, static_argnums=1, static_argnames="explore")
def _act(leaves: list[Array], structure: Structure, state: AgentState, observation: Observation, key: Array, *, explore: bool):
    agent: PolicyAgent = unpack(leaves, structure)
    latent = believe(agent.model, state, observation)
    action = agent.policy(agent.model.features(latent)).mean
    if explore:
        action = explored(action, agent.model.spec.action, agent.exploration, key)
    sent = agent.model.spec.action.denormalise(action)
    return Decision(action=sent), AgentState(latent, action, (), state.decisions + 1)
