"""Becoming another agent in mid-episode: who believes the same, and plans or reacts in another way, or by another cost."""

from dataclasses import fields
from typing import Any

import jax
import numpy as np

import planners
from mpc.agent import PlanningAgent, alike
from mpc.controller import programs
from mpc.controller.clocks import Clock
from mpc.controller.configuring import Acting, Configuration
from mpc.controller.robot import Memory, Rules
from mpc.controller.searching import SLACK, Searcher
from mpc.controller.settings import ControllerSettings, check_mixed
from mpc.errors import ControllerError
from mpc.mixed import MixedAgent


class Switching(Configuration):
    """The part of a controller of one robot that may become another agent on the same model: see `configure`.

    Attributes:
      searcher: of the agent's planner; None for a policy alone.
    """

    settings: ControllerSettings
    rules: Rules
    clock: Clock
    memory: Memory
    recorder: Any = None
    searcher: Searcher | None
    _searchers: dict[planners.Planner, Searcher]  # of all planners so far, which know what each usually takes

    def _check_agent(self, agent: Acting) -> None:
        now, acting = self.agent, agent.planning if isinstance(agent, MixedAgent) else agent
        if acting.model is not now.model:
            raise ControllerError(
                "configure(agent): it is on another model. Expected one on the controller's own, such as "
                "mpc.Configurator(controller.agent.model, ...).agent(task)."
            )
        if self.settings.asynchronous and getattr(acting, "planner", None) != getattr(now, "planner", None):
            raise ControllerError(
                "configure(agent): asynchronous=True, and the planning thread keeps its planner. Expected an agent that plans by it."
            )
        if self.recorder is not None and not _same_but_cost(acting, now):
            raise ControllerError(
                "configure(agent): the flight recorder's log holds one agent. Expected one that differs by its cost only, "
                "or a controller without a recorder."
            )

    def _become(self, agent: Acting) -> None:
        if isinstance(agent, MixedAgent):
            check_mixed(self.settings)
        super()._become(agent)
        self.searcher = None
        if isinstance(self.agent, PlanningAgent):
            planner = self.agent.planner
            self.searcher = self._searchers.setdefault(planner, Searcher(planner, self.rules, self.clock))

    def _follow(self, aside: Any) -> None:
        super()._follow(aside)
        if aside.searcher is not self.searcher:
            cold = None if aside.searcher is None else programs.cold(*self.flat, self.rules.normalised_rate, self.memory.last)
            self.searcher = aside.searcher
            self.memory = self.memory._replace(warm=self.memory.warm if alike(self.memory.warm, cold) else None)

    def _afford(self, seconds: float) -> None:
        deadline, planner = self.settings.deadline, type(self.agent.planner).__name__  # type: ignore[union-attr]
        if deadline is not None and deadline < SLACK * seconds:
            raise ControllerError(
                f"deadline={deadline} s: one slice of {planner} takes {seconds:.4f} s here. Give at least {SLACK * seconds:.4f} s, "
                "or plan with fewer samples or a shorter horizon."
            )

    def _expect(self, usual: Any) -> None:
        super()._expect(usual)
        if self.searcher is not None:
            self.searcher.begin, self.searcher.improve, self.searcher.finish = usual


def _same_but_cost(one: Any, other: Any) -> bool:
    """Whether two agents have all but their costs in common."""
    (leaves, structure), (others, another) = (
        jax.tree.flatten([getattr(agent, each.name) for each in fields(agent) if each.name != "cost"]) for agent in (one, other)
    )
    return structure == another and all(x is y or np.array_equal(x, y) for x, y in zip(leaves, others, strict=True))
