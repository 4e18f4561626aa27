"""One episode, several agents on one model: what the state that one leaves becomes in the hands of another."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from mpc.agent import AgentState, PlanningAgent, alike
from mpc.errors import ConfigurationError
from mpc.mixed import MixedAgent, MixedState
from mpc.packing import Structure, pack, unpack
from mpc.policy import PolicyAgent


def handed_over(state: Any, agent: PlanningAgent | PolicyAgent | MixedAgent) -> AgentState | MixedState:
    """`state` as `agent` keeps it. What is believed, what was sent and how often was decided stay.

    Only a `MixedState` knows how often was reacted: where another mode comes between, that count begins again. A search goes on where it was the last decision's and the planner keeps one of the same shape (kind and horizon); elsewhere it starts
    cold.
    """
    believed = state.agent if isinstance(state, MixedState) else state
    if not isinstance(believed, AgentState):
        raise ConfigurationError(f"state={state!r}: expected what reset or act of one of these agents returned.")
    search = () if isinstance(agent, PolicyAgent) else _search(state, believed.search, agent)
    believed = AgentState(believed.latent, believed.previous_action, search, believed.decisions)
    if not isinstance(agent, MixedAgent):
        return believed
    if isinstance(state, MixedState):
        return MixedState(believed, state.waited, state.reacted, state.decided)
    return MixedState(believed, jnp.zeros(()), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def _search(state: Any, left: Any, agent: PlanningAgent | MixedAgent) -> Any:
    """What `left` is to the agent's planner, or a cold start."""
    late = isinstance(state, MixedState) and not isinstance(agent, MixedAgent) and float(state.waited) > 0
    cold = _cold(*pack(agent.planning if isinstance(agent, MixedAgent) else agent))
    return left if alike(left, cold) and not late else cold


@partial(jax.jit, static_argnums=1)
def _cold(leaves: list[Any], structure: Structure) -> Any:
    agent: PlanningAgent = unpack(leaves, structure)
    return agent.planner.init(agent.problem())
