"""Learned agents and half-finished runs on disk."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import planners
from mpc.agent import PlanningAgent
from mpc.costs import LearnedCost
from mpc.learning.learner import Learner, new_learner
from mpc.learning.settings import LearnerSettings, RunSettings
from worldmodels import checkpoint
from worldmodels.manifest import Manifest


def save_learned(learner: Learner, settings: LearnerSettings, folder: str | Path, **progress: Any) -> None:
    """Write all of `learner`, optimisers included, in one step; `progress` (JSON) stands in the manifest beside it."""
    checkpoint.save(folder, "agent", learner, settings=asdict(settings), spec=learner.model.spec, progress=progress)


def load_learned(folder: str | Path) -> tuple[Learner, LearnerSettings]:
    """What `save_learned` wrote, bit for bit; `CheckpointError` for damage, another kind or version."""
    kept = []

    def build(content: Manifest) -> Learner:
        kept.append(LearnerSettings(**content.settings))
        return new_learner(content.spec, kept[-1])

    return checkpoint.restore(folder, "agent", build), kept[-1]


def acting_planner(content: Manifest) -> planners.Planner:
    """The planner by which the run that wrote an agent's folder acts."""
    run = content.extra["progress"].get("run", {})
    return RunSettings(**{field.name: run[field.name] for field in fields(RunSettings) if field.name in run}).planner(
        content.spec
    )


def planning_agent(learner: Learner, planner: planners.Planner, discount: float, *, ends: bool) -> PlanningAgent:
    """Mode-2: `planner` on the learned model, its plans seeded by the policy and judged beyond the horizon by the critic.

    `ends` says whether episodes of this environment can end, and the model of that is to be heeded.
    """
    return PlanningAgent(
        learner.model,
        LearnedCost(),
        planner,
        discount=discount,
        exploration=None,
        critic=learner.critic,
        policy=learner.policy,
        continuation=learner.continuation if ends else None,
    )
