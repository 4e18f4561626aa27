"""What a running controller is after: a goal, the weights of its cost, another cost or another task. Never in the loop's time."""

import contextlib
import copy
import difflib
import threading
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mpc import costs
from mpc.agent import PlanningAgent
from mpc.controller import programs
from mpc.errors import ControllerError
from mpc.mixed import MixedAgent
from mpc.packing import pack
from mpc.policy import PolicyAgent

Acting = PlanningAgent | PolicyAgent | MixedAgent


class Configuration:
    """The part of a controller that changes what it is after, from the next decision on.

    Attributes:
      agent: who plans, or reacts.
      tolerance: of a `MixedAgent`, whose planning agent is `agent`; None for others.
      flat, reflex: the agent and its policy as (leaves, structure); `intact` is both as they were checked last.
    """

    agent: PlanningAgent | PolicyAgent
    flat: Any
    reflex: Any
    tolerance: float | None = None
    intact: Any
    _critic: Any = None  # of the learned cost
    _rehearsed: frozenset[Any] = frozenset()
    _turn: Any = contextlib.nullcontext()  # in a loop a lock, held while deciding and while what is decided by changes

    def take(self, agent: PlanningAgent | PolicyAgent) -> None:
        """Act by `agent`. `ControllerError` where a parameter is not finite."""
        flat = pack(agent)
        if not bool(programs.finite(flat[0])):
            raise ControllerError(f"{type(agent).__name__}: a parameter is NaN or infinite. Load or train the agent again.")
        reflex = agent if isinstance(agent, PolicyAgent) else None
        if isinstance(agent, PlanningAgent) and agent.policy is not None:
            reflex = PolicyAgent(agent.model, agent.policy)
        packed = None if reflex is None else pack(reflex)
        with self._turn:
            self.agent, self.flat, self.reflex = agent, flat, packed
            if isinstance(getattr(agent, "cost", None), costs.LearnedCost):
                self._critic = agent.critic or self._critic  # type: ignore[union-attr]
            self.intact = self.flat, self.reflex

    @property
    def doubt(self) -> float | None:
        """The tolerance by which policy and critic agree; None without one of the three, where every decision is planned."""
        return None if getattr(self.agent, "critic", None) is None else self.tolerance

    def set_goal(self, observation: Any) -> None:
        """Reach what `observation` shows; for agents driven by `mpc.goal`. `SpecError` for a NaN or a wrong shape."""
        cost = getattr(self.agent, "cost", None)
        if not isinstance(cost, costs.GoalCost):
            raise ControllerError(f"the agent's cost is {type(cost).__name__}: expected one made by mpc.goal(...).")
        spec = self.agent.model.spec
        spec.check_observation(observation)
        with np.errstate(over="ignore"):
            goal = {name: np.array(observation[name], np.float32) for name in spec.names}
        spec.check_observation(goal)
        self._drive_by(replace(cost, goal={name: jnp.asarray(value) for name, value in goal.items()}))

    def set_cost_weights(self, **parameters: Any) -> None:
        """New values of the parameters of an `mpc.cost(function, **parameters)`, or the `action_weight` of an `mpc.goal`."""
        known = self.cost_weights()
        for name, value in parameters.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=2) or sorted(known)
                raise ControllerError(f"the cost has no parameter {name!r}. Did you mean {' or '.join(near)}?")
            try:
                given = np.array(value, np.float32)
            except (TypeError, ValueError) as error:
                raise ControllerError(f"{name}={value!r}: expected numbers of shape {known[name].shape}.") from error
            if given.shape != known[name].shape or not np.isfinite(given).all():
                raise ControllerError(f"{name}={value}: expected finite numbers of shape {known[name].shape}.")
            known[name] = jnp.asarray(given)
        cost: Any = self.agent.cost  # type: ignore[union-attr]
        self._drive_by(replace(cost, **known) if isinstance(cost, costs.GoalCost) else replace(cost, parameters=known))

    def cost_weights(self) -> dict[str, jax.Array]:
        """What `set_cost_weights` may set."""
        cost = getattr(self.agent, "cost", None)
        if isinstance(cost, costs.GoalCost):
            return {"action_weight": cost.action_weight}
        if not isinstance(cost, costs.FunctionTaskCost):
            raise ControllerError(
                f"the cost is {type(cost).__name__}: expected one made by mpc.cost(function, ...) or mpc.goal."
            )
        return dict(cost.parameters)

    def configure(self, task: costs.TaskCost | Acting) -> None:
        """Be driven by another cost, or be another agent on the same model, such as `mpc.Configurator.agent(task)`.

        Beside another cost the critic is left out, which knows only the learned one; the policy stays. Another agent brings its own,
        with its planner and mode: what is believed stays, and the search where the planner keeps one of the same shape.

        `CostError` or `ControllerError` for what does not suit the model or the settings. What is new compiles, here and not in the
        loop, which another thread may go on with meanwhile by what it had.
        """
        aside, usual = copy.copy(self), None
        aside._turn = threading.RLock()
        if isinstance(task, Acting):
            self._check_agent(task)
            aside._become(task)
        else:
            aside._drive_by_another(task)
        known = aside._program in self._rehearsed
        if not known:
            aside._check_cost()
            usual = aside._rehearse(1)
        if usual is not None and isinstance(task, Acting):
            aside._afford(sum(usual))
        with self._turn:
            self._follow(aside)
            if not known:
                self._expect(usual)

    @property
    def _program(self) -> Any:
        """What decisions compile for."""
        return self.flat[1], self.doubt is None

    def _check_agent(self, agent: Acting) -> None:
        """`ControllerError` unless `agent` can go on where this one is."""
        raise ControllerError(f"{type(self).__name__}: {type(agent).__name__} given, expected a cost.")

    def _become(self, agent: Acting) -> None:
        """Take what an agent brings, by which it plans and reacts."""
        self.tolerance, agent = (agent.tolerance, agent.planning) if isinstance(agent, MixedAgent) else (None, agent)
        self._critic = None
        self.take(agent)

    def _check_cost(self) -> None:
        """`CostError` unless the agent's cost, if it has one, suits the model."""
        if isinstance(self.agent, PlanningAgent):
            costs.check(self.agent.charged, self.agent.cost, costs.middle(self.agent.model), critic=self.agent.critic)

    def _follow(self, aside: "Configuration") -> None:
        """Go on by what a copy was set up with."""
        self.agent, self.flat, self.reflex, self.intact = aside.agent, aside.flat, aside.reflex, aside.intact
        self.tolerance, self._critic = aside.tolerance, aside._critic

    def _afford(self, seconds: float) -> None:
        """`ControllerError` where a search of one slice takes too many seconds."""

    def _rehearse(self, repeats: int) -> Any:
        """Compile what deciding by `flat` takes, touching nothing that is decided by; the usual seconds of its stages.

        None where nothing is decided in a loop, as in a replay.
        """
        return None

    def _expect(self, usual: Any) -> None:
        """Count on these durations, and on that deciding by `flat` compiles no more."""
        self._rehearsed = self._rehearsed | {self._program}

    def _drive_by_another(self, task: costs.TaskCost) -> None:
        if not isinstance(self.agent, PlanningAgent):
            raise ControllerError(f"{type(self.agent).__name__} is driven by no cost: expected an agent that plans.")
        if isinstance(task, costs.GoalCost):
            self.agent.model.spec.check_observation(task.goal)
        costs.check(self.agent.charged, task, costs.middle(self.agent.model), critic=self._critic)
        self.take(replace(self.agent, cost=task, critic=self._critic if isinstance(task, costs.LearnedCost) else None))

    def _drive_by(self, cost: Any) -> None:
        self.take(replace(self.agent, cost=cost))
