"""What a running controller is after: a goal, the weights of its cost, or another cost altogether. Never in the loop's time."""

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
from mpc.packing import pack
from mpc.policy import PolicyAgent


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
    _critic: Any = None
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
            self._critic = getattr(agent, "critic", None) or self._critic
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

    def configure(self, task: costs.TaskCost) -> None:
        """Be driven by another cost; the critic, which knows only the learned one, is left out beside any other.

        `CostError` for a cost that does not suit the model. Another kind of cost compiles, here and not in the loop, which another
        thread may go on with meanwhile by what it had.
        """
        if not isinstance(self.agent, PlanningAgent):
            raise ControllerError(f"{type(self.agent).__name__} is driven by no cost: expected an agent that plans.")
        if isinstance(task, costs.GoalCost):
            self.agent.model.spec.check_observation(task.goal)
        costs.check(self.agent.charged, task, costs.middle(self.agent.model), critic=self._critic)
        aside = copy.copy(self)
        aside._turn = threading.RLock()
        aside.take(replace(self.agent, cost=task, critic=self._critic if isinstance(task, costs.LearnedCost) else None))
        known = aside.flat[1] in self._rehearsed
        usual = None if known else aside._rehearse(1)
        with self._turn:
            self.take(aside.agent)
            if usual is not None:
                self._expect(usual)

    def _rehearse(self, repeats: int) -> Any:
        """Compile what deciding by `flat` takes, touching nothing that is decided by; the usual seconds of its stages.

        None where nothing is decided in a loop, as in a replay.
        """
        return None

    def _expect(self, usual: Any) -> None:
        """Count on these durations, and on that deciding by `flat` compiles no more."""
        self._rehearsed = self._rehearsed | {self.flat[1]}

    def _drive_by(self, cost: Any) -> None:
        self.take(replace(self.agent, cost=cost))
