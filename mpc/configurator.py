"""The configurator: one engine, set up for each task by a short description (LeCun 2022, section 3.1.4).

The world model's weights stay as they are. A task says which costs count and how much, what to reach, which planner looks how far, and
whether to react, to plan or to mix. All tasks of one configurator share the terms of all of them, with weight 0 where a term does
not count: changing from one to another changes numbers only, and compiles nothing.
"""

import difflib
import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import planners
from mpc import tasks as library
from mpc.agent import PlanningAgent
from mpc.costs import TaskCost, check, cost, goal
from mpc.critic import Critic
from mpc.errors import ConfigurationError, GoalWarning
from mpc.goals import far_from_data
from mpc.intrinsic import Combined, combine, effort
from mpc.mixed import MixedAgent
from mpc.policy import Policy, PolicyAgent
from planners.names import planner_named

MODES = ("plan", "react", "mixed")
GOAL = "goal"


@dataclass(frozen=True)
class Task:
    """What is wanted, in a few words.

    Attributes:
      cost: weight of each term, by its name in the cost library ("walker.walk"), "effort", or a name of one's own.
      goal: an observation to reach, {name: array}, or None.
      goal_weight: of the distance to it.
      planner: how plans are searched, and how far.
      discount: per model step.
      mode: "plan" (Mode-2), "react" (Mode-1) or "mixed"; the last two need a critic and a policy.
    """

    cost: Mapping[str, float] = field(default_factory=dict)
    goal: Mapping[str, Any] | None = None
    goal_weight: float = 1.0
    planner: planners.Planner = planners.ICEM(horizon=20, samples=256, iterations=4, elites=32, keep=8)
    discount: float = 1.0
    mode: str = "plan"

    def __post_init__(self):
        if not self.cost and self.goal is None:
            raise ConfigurationError("a task without cost and goal: expected cost={name: weight} or goal=observation.")
        if self.mode not in MODES:
            raise ConfigurationError(f"mode={self.mode!r}: expected one of {', '.join(MODES)}.")
        if not 0 < self.discount <= 1:
            raise ConfigurationError(f"discount={self.discount}: expected a number in (0, 1].")

    @classmethod
    def read(cls, path: str | Path) -> "Task":
        """From a TOML file with the fields above; `[planner]` has a `name` and its settings.

        Raises `ConfigurationError` naming the field that is unknown or missing.
        """
        try:
            given = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"{path} cannot be read: {error}") from error
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=2) or known
                raise ConfigurationError(f"{path}: no field {name!r}. Did you mean {' or '.join(near)}?")
        if "planner" in given:
            settings = dict(given["planner"])
            if "name" not in settings:
                raise ConfigurationError(f"{path}: [planner] has no field 'name', such as name = \"icem\".")
            given["planner"] = planner_named(settings.pop("name"), **settings)
        return cls(**given)


class Solution(NamedTuple):
    """What was learned for one task's cost: see `mpc.imagine`."""

    critic: Critic
    policy: Policy


class Configurator:
    """Sets one model up for each of several tasks.

        body = mpc.Configurator(model, stand=mpc.Task({"walker.stand": 1}), walk=mpc.Task({"walker.walk": 1, "effort": 0.01}))
        agent = body.agent("stand")

    Agents of tasks with the same planner, mode and discount share their states: an episode may change its task at any decision.
    """

    def __init__(self, model: Any, *, costs: Mapping[str, Any] | None = None, **tasks: Task):
        """`costs` are terms of one's own by name: an `mpc` cost, or a function of (readout, action, step)."""
        if not tasks:
            raise ConfigurationError("Configurator(model): expected at least one task as name=mpc.Task(...).")
        self.model, self.tasks = model, tasks
        self.solutions: dict[str, Solution] = {}
        names = dict.fromkeys(name for task in tasks.values() for name in task.cost)
        self._terms = {name: self._term(name, costs or {}) for name in names}
        self._goals = {name: self._reachable(name, task.goal) for name, task in tasks.items() if task.goal is not None}
        for name in tasks:
            check(model, self.cost(name), _middle(model))

    def cost(self, name: str) -> Combined:
        """The cost of a task: every term of every task, weighted by this one's wishes."""
        task = self._task(name)
        terms: dict[str, tuple[float, Any]] = {term: (task.cost.get(term, 0.0), made) for term, made in self._terms.items()}
        if self._goals:
            anywhere = next(iter(self._goals.values()))
            reach = goal(self._goals.get(name, anywhere), action_weight=0.0)
            terms[GOAL] = (task.goal_weight if name in self._goals else 0.0, reach)
        return combine(**terms)

    def agent(self, name: str) -> PlanningAgent | PolicyAgent | MixedAgent:
        """Who acts on a task."""
        task, solved = self._task(name), self.solutions.get(name)
        if solved is None and task.mode != "plan":
            raise ConfigurationError(f"task {name!r}: mode={task.mode!r} needs a critic and a policy. Give them by `solve`.")
        if solved is not None and task.mode == "react":
            return PolicyAgent(self.model, solved.policy)
        planning = PlanningAgent(self.model, self.cost(name), task.planner, discount=task.discount)
        if solved is None:
            return planning
        planning = PlanningAgent(
            self.model, self.cost(name), task.planner, discount=task.discount, critic=solved.critic, policy=solved.policy
        )
        return MixedAgent(planning) if task.mode == "mixed" else planning

    def solve(self, name: str, critic: Critic, policy: Policy) -> None:
        """Judge and seed the plans of a task by what was learned for it (`mpc.imagine(model, configurator.cost(name), …)`)."""
        self._task(name)
        self.solutions[name] = Solution(critic, policy)

    def _task(self, name: str) -> Task:
        if name not in self.tasks:
            near = difflib.get_close_matches(name, self.tasks, n=2) or sorted(self.tasks)
            raise ConfigurationError(f"no task {name!r}. Did you mean {' or '.join(near)}?")
        return self.tasks[name]

    def _term(self, name: str, own: Mapping[str, Any]) -> TaskCost:
        if name in own:
            return own[name] if isinstance(own[name], TaskCost) else cost(own[name])
        if name == "effort":
            return effort()
        if name not in library.TASKS:
            known = [*own, "effort", *library.TASKS]
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known)}."
            raise ConfigurationError(f"no cost named {name!r}. {hint}")
        body, environment = name.partition(".")[0], self.model.spec.environment
        if environment.startswith("dm_control/") and not environment.startswith(f"dm_control/{body}-"):
            raise ConfigurationError(f"cost {name!r} is for the body {body}, the model is of {environment}.")
        return cost(library.TASKS[name])

    def _reachable(self, name: str, wanted: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The goal, or the nearest observation within what the data reached, with a warning that tells the distance."""
        spec, normaliser = self.model.spec, self.model.normaliser
        spec.check_observation(wanted)
        far = far_from_data(self.model, wanted)
        if far is None:
            return {key: np.asarray(wanted[key], np.float32) for key in spec.names}
        warnings.warn(
            f"task {name!r}: its goal is out of the data's reach by {far.away:.1f} standard deviations ({far.words}): "
            "the nearest within is sought instead.",
            GoalWarning,
            stacklevel=4,
        )
        near = np.clip(np.asarray(spec.flatten(wanted)), normaliser.low[...], normaliser.high[...])
        return {key: np.asarray(value) for key, value in spec.unflatten(near).items()}


def _middle(model: Any) -> dict[str, np.ndarray]:
    """The observation in the middle of the data."""
    flat = model.normaliser.inverse(np.zeros(model.spec.size, np.float32))
    return {name: np.asarray(value) for name, value in model.spec.unflatten(flat).items()}
