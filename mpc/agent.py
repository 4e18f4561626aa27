"""The one who acts: from observations to actions, by planning through a model (Mode-2)."""

from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PyTree

import planners
from mpc import costs
from mpc.critic import ContinuesOnModel, FutureCost, PolicyProposal
from mpc.decision import Decision
from mpc.errors import MPCError
from mpc.goals import brought_near
from mpc.packing import Structure, pack, unpack
from mpc.simulation import simulator_problem
from planners import pytree, static
from planners.problem import never_ends
from worldmodels.simulator import Simulator
from worldmodels.spec import DiscreteAction

Observation = dict[str, Any]


@runtime_checkable
class Agent(Protocol):
    """Acts on observations. Settings and weights live in the agent, what changes in the state; both are pytrees."""

    def reset(self, observation: Observation) -> Any:
        """The state at the start of an episode."""
        ...

    def act(
        self, state: Any, observation: Observation, *, elapsed: Any = 1.0, explore: bool = False, key: Array
    ) -> tuple[Decision, Any]:
        """One decision `elapsed` model steps after the last, its action in environment units."""
        ...


@pytree
class AgentState:
    """Where the world is believed to be, and where the last search ended."""

    latent: PyTree
    previous_action: Array  # normalised
    search: Any
    decisions: Array  # made since reset


@pytree
class PlanningAgent:
    """Receding-horizon control: encode, plan from the shifted last plan, send the first action, observe again.

    Attributes:
      model: a `WorldModel`.
      cost: an `mpc.cost(...)`, `mpc.goal(...)` or `mpc.LearnedCost()`. In the place of a goal that the data never came near stands the
        nearest that they did, and a `GoalWarning` tells the distance.
      planner: any planner; its horizon counts model steps.
      discount: of the planning problem, per model step.
      exploration: standard deviation of the noise added to normalised actions when acting with `explore=True`;
        for discrete actions, the probability of a random one. None takes the plan's own spread.
      critic: a `Critic` of what `policy` will cost beyond the horizon, in place of the cost's own terminal term.
      policy: a `Policy` that proposes plans to planners with `proposals`, and that the critic speaks of.
      continuation: a `Continuation`, where episodes can end.
      futures: how many are drawn at each decision, for models with a latent variable or an ensemble. None takes the model's
        own number, `model.futures`: every member of an ensemble once, as a search finds and exploits what one has wrong (Chua et al.
        2018, PETS), and one where a model has no such number.
      risk: how their costs make one: `planners.MEAN`, `WORST` or `cvar(fraction)`.
    """

    model: Any
    cost: Any
    planner: planners.Planner = static()
    discount: float | Array = 1.0
    exploration: float | None = static(default=0.3)
    critic: Any = None
    policy: Any = None
    continuation: Any = None
    futures: int | None = static(default=None)
    risk: planners.Risk = static(default=planners.MEAN)

    def __post_init__(self):
        object.__setattr__(self, "discount", jnp.asarray(self.discount, jnp.float32))
        if self.critic is not None and self.policy is None:
            raise MPCError(
                "PlanningAgent(critic=...) without a policy: a critic says what a policy costs. Give policy=... too."
            )
        if isinstance(self.model, Simulator) and (self.critic is not None or self.continuation is not None):
            raise MPCError(
                "PlanningAgent(critic=..., continuation=...) on a simulator: they judge the latents of a learned model."
            )
        object.__setattr__(self, "cost", brought_near(self.model, self.cost))

    @property
    def charged(self) -> Any:
        """The model whose latents `cost` is of."""
        return self.model

    def problem(
        self, *, rate: Array | None = None, previous: Array | None = None, key: Array | None = None, explore: bool = False
    ) -> planners.Problem:
        """The optimal-control problem over the model's latents and normalised actions.

        Args:
          rate: [A], the most an action may change in a model step.
          previous: [A], the action sent last.
          key: that the futures are drawn with; always the same ones if not given.
          explore: the critic's mean is believed in place of its most pessimistic member.
        """
        if isinstance(self.model, Simulator):
            size = {"horizon": self.planner.horizon, "discount": self.discount}
            return simulator_problem(self.model, self.cost, **size, rate=rate, previous=previous)
        action = self.model.spec.action
        box = (
            planners.Discrete(action.n)
            if isinstance(action, DiscreteAction)
            else planners.Box(-jnp.ones(action.shape), jnp.ones(action.shape), rate, previous)
        )
        beyond = costs.TerminalOnModel(self.model, self.cost, self.planner.horizon)
        going_on = self.continuation
        futures = getattr(self.model, "futures", 1) if self.futures is None else self.futures
        return planners.Problem(
            dynamics=self.model.predict,
            cost=costs.OnModel(self.model, self.cost),
            terminal_cost=beyond if self.critic is None else FutureCost(self.model, self.critic, self.policy, not explore),
            proposal=None if self.policy is None else PolicyProposal(self.model, self.policy),
            actions=box,
            discount=self.discount,
            continues=never_ends if going_on is None else ContinuesOnModel(self.model, going_on),
            noise=self.model.draw_noise(futures, self.planner.horizon, key=jax.random.key(0) if key is None else key),
            risk=self.risk,
        )

    def reset(self, observation: Observation) -> AgentState:
        """Checks observation and cost (typed errors) and returns the state of an episode that starts here."""
        self.model.spec.check_observation(observation)
        if not _traced(observation):
            costs.check(self.charged, self.cost, observation, critic=self.critic)
        return _reset(*pack(self), observation)

    def act(self, state: AgentState, observation: Observation, *, elapsed: Any = 1.0, explore: bool = False, key: Array):
        self.model.spec.check_observation(observation)
        check_state(state, AgentState)
        elapsed = elapsed if isinstance(elapsed, jax.Array) else np.float32(elapsed)
        return _act(*pack(self), state, observation, elapsed, key, explore=explore)


@partial(jax.jit, static_argnums=1)
def _reset(leaves: list[Array], structure: Structure, observation: Observation) -> AgentState:
    agent: PlanningAgent = unpack(leaves, structure)
    nothing = costs.no_action(agent.model)
    return AgentState(agent.model.start(observation), nothing, agent.planner.init(agent.problem()), jnp.zeros((), jnp.int32))


def believe(model: Any, state: Any, observation: Observation) -> PyTree:
    """The latent now: a fresh start on the first decision, otherwise what was believed, corrected by the observation."""
    first, later = model.start(observation), model.observe(state.latent, state.previous_action, observation)
    return jax.tree.map(lambda a, b: jnp.where(state.decisions == 0, a, b), first, later)


def check_state(state: Any, kind: type) -> None:
    """Raise `MPCError` unless the state is of the kind that the agent keeps."""
    if not isinstance(state, kind):
        raise MPCError(
            f"state={type(state).__name__}: expected {kind.__name__}, as this agent's reset returns it. "
            "In mid-episode mpc.Configurator.switch(task, state) hands a state over."
        )


def check_search(planner: planners.Planner, problem: planners.Problem, search: Any) -> None:
    """Raise `MPCError`, while `act` is traced, where the state holds the search of another planner or horizon."""
    if not alike(search, jax.eval_shape(lambda: planner.init(problem))):
        raise MPCError(
            f"state.search is not one of {type(planner).__name__} with horizon={planner.horizon}: another planner, another horizon "
            "or a policy left it. In mid-episode mpc.Configurator.switch(task, state) hands a state over."
        )


def alike(one: PyTree, other: PyTree) -> bool:
    """Whether two pytrees have the same structure and shapes."""
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (one, other)]
    return jax.tree.structure(one) == jax.tree.structure(other) and shapes[0] == shapes[1]


def explored(action: Array, spec_action: Any, scale: float | Array, key: Array) -> Array:
    """A normalised action with Gaussian noise of standard deviation `scale`; discrete: random with that probability."""
    if isinstance(spec_action, DiscreteAction):
        coin, draw = jax.random.split(key)
        return jnp.where(
            jax.random.bernoulli(coin, jnp.minimum(scale, 1.0)), jax.random.randint(draw, (), 0, spec_action.n), action
        )
    return jnp.clip(action + scale * jax.random.normal(key, action.shape), -1, 1)


@partial(jax.jit, static_argnums=1, static_argnames="explore")
def _act(leaves, structure: Structure, state: AgentState, observation: Observation, elapsed, key: Array, *, explore: bool):
    agent: PlanningAgent = unpack(leaves, structure)
    plan_key, noise_key = jax.random.split(key)
    latent = believe(agent.model, state, observation)
    elapsed = jnp.where(state.decisions == 0, 0.0, elapsed)
    problem = agent.problem(key=jax.random.fold_in(plan_key, 1), explore=explore)
    check_search(agent.planner, problem, state.search)
    plan, search = planners.plan(agent.planner, problem, latent, state.search, elapsed=elapsed, key=plan_key)
    action = plan.actions[0]
    if explore:
        scale = plan.spread[0] if agent.exploration is None else agent.exploration
        action = explored(action, agent.model.spec.action, scale, noise_key)
    state = AgentState(latent, action, search, state.decisions + 1)
    sent = agent.model.spec.action.denormalise(action)
    return Decision(action=sent, plan=plan, cost=plan.cost, status=plan.status), state


def _traced(observation: Observation) -> bool:
    return any(isinstance(value, Tracer) for value in jax.tree.leaves(observation))
