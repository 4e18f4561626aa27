"""Holding on: what a body does when nothing changes any more, which restless actions never show."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from mpc.agent import AgentState, Observation
from mpc.costs import no_action
from planners import pytree, static


class HoldingState(NamedTuple):
    """What the agent keeps, the action sent last, and whether it is being held."""

    agent: AgentState
    sent: Array
    held: Bool[Array, ""]


@pytree
class Holding:
    """Decides as `agent` does, but now and then holds on to an action for a while.

    Policies come to rest, leaning on the limits of joints at full force; a model that never saw that foresees motion where there is none.

    Attributes:
      agent: a `PlanningAgent`.
      begins: probability, at each decision, that the last action is held from then on.
      ends: probability that it is no longer.
    """

    agent: Any
    begins: float = static(default=1 / 32)
    ends: float = static(default=1 / 16)

    @property
    def model(self) -> Any:
        return self.agent.model

    def reset(self, observation: Observation) -> HoldingState:
        spec = self.model.spec
        return HoldingState(self.agent.reset(observation), spec.action.denormalise(no_action(self.model)), jnp.zeros((), bool))

    def act(self, state: HoldingState, observation: Observation, *, elapsed: Any = 1.0, explore: bool = False, key: Array):
        chance, key = jax.random.split(key)
        decision, after = self.agent.act(state.agent, observation, elapsed=elapsed, explore=explore, key=key)
        state = _held(state, decision.action, after, self.begins, self.ends, chance)
        return decision._replace(action=state.sent), state


@jax.jit
def _held(state: HoldingState, action: Array, after: AgentState, begins: float, ends: float, key: Array) -> HoldingState:
    held = jax.random.bernoulli(key, jnp.where(state.held, 1 - ends, begins))
    believed = jnp.where(held, state.agent.previous_action, after.previous_action)
    return HoldingState(replace(after, previous_action=believed), jnp.where(held, state.sent, action), held)
