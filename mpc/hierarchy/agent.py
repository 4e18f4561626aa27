"""An agent that plans at several levels: everywhere that a `PlanningAgent` goes, it goes too."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from mpc.agent import PlanningAgent
from mpc.costs import TaskCost
from mpc.errors import HierarchyError
from mpc.hierarchy.planner import HierarchicalPlanner
from mpc.hierarchy.problem import HierarchicalProblem, Level, squared_distance
from planners import pytree, static
from worldmodels import Abstraction, SpecError, WorldModel


@pytree
class NoCost:
    """Every way to a subgoal is as good as any other."""

    def running(self, model, latent, action, step):
        return {}

    def terminal(self, model, latent, step):
        return jnp.zeros(())


class UpperModel(WorldModel, Protocol):
    """A world model on top of another: what a `worldmodels.Abstraction` is."""

    @property
    def lower(self) -> WorldModel:
        """The model below."""
        ...

    @property
    def stride(self) -> int:
        """Steps of `lower` in one step."""
        ...

    def lift(self, latent: Any) -> Any:
        """This level's latent, of one of the level below."""
        ...


@pytree
class HierarchicalAgent(PlanningAgent):
    """Plans abstract actions through the uppermost model so that the task is cheap there, and at each level below what brings them about.

    The settings are those of `PlanningAgent`: `model` is the lowest level's, `planner` a `HierarchicalPlanner`, `cost` the task, which
    the uppermost level pays. Where the levels stand shows in `state.search.courses`.

    Attributes:
      upper: the models above `model`, each made on the one before, as `worldmodels.abstract` does.
      manner: what the lowest level pays of its own beside its subgoals, such as `mpc.effort()`; nothing unless given.
      distances: for each model of `upper`, (latent reached, latent aimed at) -> scalar: what the level below pays for a missed subgoal,
        such as a `TemporalDistance` learned on that model; the mean squared difference unless given.
      reach: for each model of `upper`, how much of that distance may be missed: subgoals out of reach are replaced (`Level.reach`).
      policies: for each model of `upper`, a `Policy` that proposes its plans (`mpc.compile_levels`), to planners with `proposals`.
    """

    upper: tuple[UpperModel, ...] = ()
    manner: TaskCost | None = None
    distances: tuple[Any, ...] = ()
    reach: tuple[float, ...] = static(default=())
    policies: tuple[Any, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.planner, HierarchicalPlanner):
            raise HierarchyError(
                f"planner={self.planner!r}: expected an mpc.HierarchicalPlanner with a planner for each level."
            )
        if len(self.planner.planners) != 1 + len(self.upper):
            raise HierarchyError(
                f"{len(self.planner.planners)} planners for {1 + len(self.upper)} models: expected one each, the lowest level's first."
            )
        if self.critic is not None and self.upper:
            raise HierarchyError(
                "critic given with upper models: the task is the uppermost level's to pay, no critic below is heeded."
            )
        if self.continuation is not None and self.upper:
            raise HierarchyError(
                "continuation given with upper models: ending the episode would spare the lowest level all its subgoals."
            )
        for name in ("distances", "reach", "policies"):
            given = getattr(self, name)
            if given and len(given) != len(self.upper):
                raise HierarchyError(
                    f"{len(given)} {name} for {len(self.upper)} models above the lowest: expected one each, or none."
                )
        check_levels(self.model, self.upper)
        self.problem().fits(self.planner.planners)

    @property
    def charged(self) -> Any:
        """The uppermost model: the task is its to pay."""
        return (self.model, *self.upper)[-1]

    def problem(
        self, *, rate: Array | None = None, previous: Array | None = None, key: Array | None = None, explore: bool = False
    ) -> Any:
        """The problem of every level, the lowest over normalised actions."""
        key = jax.random.key(0) if key is None else key
        assert isinstance(self.planner, HierarchicalPlanner)
        planners = self.planner.planners
        wanted: list[TaskCost] = [*(NoCost() for _ in self.upper), self.cost]
        if self.upper and self.manner is not None:
            wanted[0] = self.manner
        lowest = PlanningAgent(
            self.model,
            wanted[0],
            planners[0],
            discount=self.discount,
            critic=self.critic,
            policy=self.policy,
            continuation=self.continuation,
            futures=self.futures,
            risk=self.risk,
        )
        levels, steps = [Level(lowest.problem(rate=rate, previous=previous, key=key, explore=explore))], 1
        for index, model in enumerate(self.upper, 1):
            steps *= model.stride
            own = PlanningAgent(
                model,
                wanted[index],
                planners[index],
                self.discount**steps,
                policy=self.policies[index - 1] if self.policies else None,
                futures=self.futures,
                risk=self.risk,
            )
            distance = self.distances[index - 1] if self.distances else squared_distance
            problem = own.problem(key=jax.random.fold_in(key, index))
            reach = self.reach[index - 1] if self.reach else math.inf
            levels.append(Level(problem, model.lift, distance, stride=model.stride, reach=reach))
        return HierarchicalProblem(tuple(levels), _example(self.model))

    def above(self, level: int) -> "HierarchicalAgent":
        """The hierarchy from `level` up, as an agent of its own: 1 is the lowest of `upper`. It chooses that level's abstract actions."""
        if not 1 <= level <= len(self.upper):
            raise HierarchyError(f"level={level}: expected 1 to {len(self.upper)}, one of the levels above the lowest.")
        assert isinstance(self.planner, HierarchicalPlanner)
        steps = math.prod(model.stride for model in self.upper[:level])
        replan = self.planner.replan
        return HierarchicalAgent(
            self.upper[level - 1],
            self.cost,
            HierarchicalPlanner(
                self.planner.planners[level:], None if replan is None else tuple(wait / steps for wait in replan[level:])
            ),
            discount=self.discount**steps,
            policy=self.policies[level - 1] if self.policies else None,
            futures=self.futures,
            risk=self.risk,
            upper=self.upper[level:],
            distances=self.distances[level:],
            reach=self.reach[level:],
            policies=self.policies[level:],
        )


def _example(model: Any) -> Any:
    """A latent of zeros."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(model.start, model.spec.blank))


def check_levels(model: Any, upper: Sequence[UpperModel]) -> None:
    """Raise `HierarchyError` unless each of `upper` stands on the one before it, the first on `model`, as it was trained."""
    for index, (below, above) in enumerate(zip((model, *upper), upper, strict=False)):
        if not _same(below, above.lower):
            raise HierarchyError(
                f"upper[{index}] was made on another model than the one below it. Make it by worldmodels.abstract on that."
            )
        if isinstance(above, Abstraction):
            try:
                above.check()
            except SpecError as error:
                raise HierarchyError(f"upper[{index}] does not stand on what is below it: {error}") from error


def _same(one: Any, other: Any) -> bool:
    """Whether two models are of the same make and weights; taken for granted while tracing."""
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    if any(isinstance(leaf, Tracer) for leaf in (*leaves, *others)):
        return True
    strides = getattr(one, "stride", None), getattr(other, "stride", None)
    return strides[0] == strides[1] and len(leaves) == len(others) and all(map(np.array_equal, leaves, others))
