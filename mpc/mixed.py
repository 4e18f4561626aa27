"""Both modes in one agent: react where policy and critic agree, plan where they do not (LeCun 2022, section 3.1.3)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import planners
from mpc.agent import AgentState, Observation, PlanningAgent, believe, check_search, check_state, explored
from mpc.decision import Decision
from mpc.errors import MPCError
from mpc.packing import Structure, pack, unpack
from mpc.policy import Categorical
from planners import pytree, static

ALTERNATIVES = 32
DOUBT = 10  # tolerances by which the critic's members may differ


@pytree
class MixedState:
    """The planner's state, and how the decisions so far were made."""

    agent: AgentState
    waited: Array  # model steps since the last plan
    reacted: Array  # decisions that Mode-1 made alone
    decided: Array  # decisions in this mode

    @property
    def reacted_share(self) -> Float[Array, ""]:
        """Of all decisions in this mode, those in which Mode-1 sufficed."""
        return self.reacted / jnp.maximum(self.decided, 1)


@pytree
class MixedAgent:
    """Mode-1 while the critic knows nothing much better than what the policy would do, else Mode-2.

    The critic judges the policy's action beside `ALTERNATIVES` others, drawn around it and all over the box. They agree if the best
    of them saves less than `tolerance` of what the policy is expected to cost, and the critic's members differ by less than
    `DOUBT` times as much.

    Attributes:
      planning: with a policy and a critic; their agreement decides, its planner is asked otherwise.
      tolerance: share of the expected cost to go; 0 always plans.
    """

    planning: PlanningAgent
    tolerance: float = static(default=0.02)

    def __post_init__(self):
        if self.planning.policy is None or self.planning.critic is None:
            raise MPCError("MixedAgent needs a planning agent with a policy and a critic: sailplan learn or solve makes both.")
        if not self.tolerance >= 0:
            raise MPCError(f"tolerance={self.tolerance}: expected a share of at least 0.")

    @property
    def model(self) -> Any:
        return self.planning.model

    def reset(self, observation: Observation) -> MixedState:
        return MixedState(self.planning.reset(observation), jnp.zeros(()), *[jnp.zeros((), jnp.int32)] * 2)

    def act(self, state: MixedState, observation: Observation, *, elapsed: Any = 1.0, explore: bool = False, key: Array):
        self.model.spec.check_observation(observation)
        check_state(state, MixedState)
        return _act(*pack(self), state, observation, elapsed, key, explore=explore)


@partial(jax.jit, static_argnums=1, static_argnames="explore")
def _act(leaves, structure: Structure, state: MixedState, observation: Observation, elapsed, key: Array, *, explore: bool):
    mixed: MixedAgent = unpack(leaves, structure)
    agent = mixed.planning
    judge_key, plan_key, noise_key = jax.random.split(key, 3)
    check_search(agent.planner, agent.problem(), state.agent.search)
    latent = believe(agent.model, state.agent, observation)
    waited = jnp.where(state.agent.decisions == 0, 0.0, state.waited + elapsed)
    reaction, to_go, agreed = judged(agent, latent, mixed.tolerance, judge_key)

    def react(_):
        return reaction, to_go, state.agent.search, waited

    def search(_):
        problem = agent.problem(key=jax.random.fold_in(plan_key, 1), explore=explore)
        plan, after = planners.plan(agent.planner, problem, latent, state.agent.search, elapsed=waited, key=plan_key)
        return plan.actions[0], plan.cost, after, jnp.zeros(())

    action, cost, after, waited = jax.lax.cond(agreed, react, search, None)
    if explore:
        scale = 0.3 if agent.exploration is None else agent.exploration
        action = explored(action, agent.model.spec.action, scale, noise_key)
    following = AgentState(latent, action, after, state.agent.decisions + 1)
    sent = agent.model.spec.action.denormalise(action)
    return Decision(action=sent, cost=cost), MixedState(following, waited, state.reacted + agreed, state.decided + 1)


def judged(agent: PlanningAgent, latent: Any, tolerance: float, key: Array) -> tuple[Array, Array, Array]:
    """The policy's action, what it is expected to cost, and whether the critic finds nothing clearly better."""
    features = agent.model.features(latent)
    said = agent.policy(features)
    if isinstance(said, Categorical):
        others = jnp.arange(said.logits.shape[-1])
    else:
        near, far = jax.random.split(key)
        wide = (ALTERNATIVES // 2, *said.mean.shape)
        drawn = said.mean + 0.3 * jax.random.normal(near, wide)
        others = jnp.concatenate([jnp.clip(drawn, -1, 1), jax.random.uniform(far, wide, minval=-1.0, maxval=1.0)])
    own = agent.critic(features, said.mean)
    best = jax.vmap(lambda action: agent.critic(features, action).mean(0))(others).min()
    allowed = tolerance * jnp.abs(own.mean(0))
    agreed = (own.mean(0) - best <= allowed) & (own.max(0) - own.min(0) <= DOUBT * allowed)
    return said.mean, own.mean(0), agreed
