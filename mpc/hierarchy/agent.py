"""The agent that plans on several levels."""

from typing import Any

import jax
import jax.numpy as jnp

from mpc.agent import PlanningAgent
from mpc.costs import TaskCost
from mpc.errors import HierarchyError
from mpc.hierarchy.planner import HierarchicalPlanner
from mpc.hierarchy.problem import HierarchicalProblem, Level
from planners import pytree


@pytree
class Nothing:
    """A task cost of zero: a level that only does what the level above asks."""

    def running(self, model, latent, action, step):
        return {"nothing": jnp.zeros(())}

    def terminal(self, model, latent, step):
        return jnp.zeros(())


@pytree
class HierarchicalAgent(PlanningAgent):
    """A `PlanningAgent` whose cost is the top level's to pay; each level below aims at what the one above it plans.

    Attributes:
      model, cost, planner, ...: as in `PlanningAgent`; the planner is a `HierarchicalPlanner` with a planner for each level.
      above: a `worldmodels.Abstraction` for each level above the lowest, each made on the one before.
      effort: the lowest level's own cost, next to nothing unless given.
    """

    above: tuple[Any, ...] = ()
    effort: TaskCost = Nothing()

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.planner, HierarchicalPlanner) or len(self.planner.planners) != len(self.above) + 1:
            raise HierarchyError(f"planner={self.planner}: expected a HierarchicalPlanner of {len(self.above) + 1} planners.")

    def problem(self, *, rate=None, previous=None, key=None, explore=False) -> Any:
        key = jax.random.key(0) if key is None else key
        levels = [Level(self._alone(0).problem(rate=rate, previous=previous, key=key, explore=explore))]
        for index, model in enumerate(self.above, 1):
            problem = self._alone(index).problem(key=jax.random.fold_in(key, index), explore=explore)
            levels.append(Level(problem, lift=model.lift, stride=model.stride))
        return HierarchicalProblem(tuple(levels), self.model.start(_blank(self.model.spec)))

    def _alone(self, index: int) -> PlanningAgent:
        """The agent that level `index` would be without the others. Policy, critic and continuation are the lowest level's."""
        own = {"discount": self.discount, "futures": self.futures, "risk": self.risk}
        if index == 0:
            own |= {"policy": self.policy, "continuation": self.continuation}
            own |= {} if self.above else {"critic": self.critic}
        model, cost = (self.model, *self.above)[index], self.cost if index == len(self.above) else self.effort
        return PlanningAgent(model, cost, self.planner.planners[index], **own)  # type: ignore[attr-defined]


def _blank(spec: Any) -> dict[str, Any]:
    return {name: jnp.zeros(shape, jnp.uint8 if name in spec.images else jnp.float32) for name, shape in spec.observation}
