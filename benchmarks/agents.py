"""Agents as the commands load them: from a folder, a planner's name, and what is to be set of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mpc
from mpc.storage import HORIZON
from planners.names import planner_named


def load_acting(folder: Path, planner: str | None = None, *, exploration: float = 0.3, **settings: int | None) -> Any:
    """Whoever acts from `folder`, under the planner of that name, `HORIZON` steps ahead unless set.

    Without a name it plans as `mpc.load_agent` has it: a learned agent as it did while it learned. Settings that are None are not set.
    """
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    named = None if planner is None else planner_named(planner, **{"horizon": HORIZON, **given})
    agent = mpc.load_agent(folder, named, exploration=exploration)
    if named is None and isinstance(agent, mpc.PlanningAgent):
        agent = replace(agent, planner=replace(agent.planner, **given))  # type: ignore[type-var]
    return agent
