"""Policies and the agents that load from disk."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import planners
import worldmodels
from mpc.agent import PlanningAgent
from mpc.costs import LearnedCost
from mpc.critic import Critic
from mpc.hierarchy import HierarchicalAgent, load_hierarchy
from mpc.learning.storage import acting_planner, load_learned, planning_agent
from mpc.policy import Policy, PolicyAgent
from worldmodels import checkpoint, manifest
from worldmodels.spec import DiscreteAction

HORIZON = 20  # of a planner that is not given


def save_policy(agent: PolicyAgent, folder: str | Path) -> None:
    """Write perception and policy together: the folder acts on its own."""
    settings = {
        "model": worldmodels.describe(agent.model),
        "policy": asdict(agent.policy.settings),
        "features": agent.policy.size,
    }
    checkpoint.save(folder, "policy", (agent.model, agent.policy), settings=settings, spec=agent.model.spec)


def load_policy(folder: str | Path) -> PolicyAgent:
    """The policy saved in `folder`; `CheckpointError` for damage, another kind or version."""

    def build(content: manifest.Manifest):
        settings = content.settings
        model = worldmodels.build(settings["model"], content.spec)
        return model, Policy(settings["features"], content.spec, **settings["policy"])

    return PolicyAgent(*checkpoint.restore(folder, "policy", build))


def save_critic(critic: Critic, folder: str | Path) -> None:
    """Write a critic of one task, to judge the same model's latents by again."""
    settings = {"features": critic.size, "members": len(critic.members), "hidden": critic.hidden, "discount": critic.discount}
    checkpoint.save(folder, "critic", critic, settings=settings, spec=critic.spec)


def load_critic(folder: str | Path) -> Critic:
    """The critic saved in `folder`; `CheckpointError` for damage, another kind or version."""
    return checkpoint.restore(folder, "critic", lambda content: Critic(spec=content.spec, **content.settings))


def load_agent(
    folder: str | Path, planner: planners.Planner | None = None, *, cost: Any = None, exploration: float = 0.3
) -> PlanningAgent | PolicyAgent:
    """Whoever acts from `folder`: a policy by itself, a model under `planner` (by its learned cost unless `cost` is given).

    Without a planner a learned agent plans as it did while it learned, any other model by iCEM 20 steps ahead (categorical CEM where
    actions are discrete). A learned agent brings a critic that judges the plans, and a policy that seeds them where the planner has
    `proposals`. A hierarchy is planned on at all its levels, by an `mpc.HierarchicalPlanner`; its distances in time say by how much a
    subgoal is missed.
    """
    content = manifest.read(folder)
    if content.kind == "policy":
        return load_policy(folder)
    if content.kind == "agent":
        learner, _ = load_learned(folder)
        progress = content.extra["progress"]
        agent = planning_agent(learner, planner or acting_planner(content), progress["discount"], ends=progress["ends"])
        return agent if cost is None else replace(agent, cost=cost, critic=None)
    if content.kind == "hierarchy":
        model, upper, distances = load_hierarchy(folder)
        beside: dict[str, Any] = {"upper": upper, "distances": distances[1:], "exploration": exploration}
        return HierarchicalAgent(model, cost or LearnedCost(), planner, **beside)  # type: ignore[arg-type]  # refuses None
    model = worldmodels.load(folder)
    if planner is None:
        usual = planners.CategoricalCEM if isinstance(model.spec.action, DiscreteAction) else planners.ICEM
        planner = usual(horizon=HORIZON)
    return PlanningAgent(model, cost or LearnedCost(), planner, exploration=exploration)
