"""The configurator: one engine, set up for each task by a short description (LeCun 2022, section 3.1.4).

The world model's weights stay as they are. A task says which costs count and how much, what to reach, which planner looks how far, and
whether to react, to plan or to mix. All tasks of one configurator share the terms of all of them, with weight 0 where a term does
not count: changing from one to another changes numbers only, and compiles nothing.
"""

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from mpc import tasks as library
from mpc.agent import AgentState, PlanningAgent
from mpc.costs import TaskCost, check, cost, goal, middle
from mpc.critic import Critic
from mpc.description import Task, usual_planner
from mpc.errors import ConfigurationError, GoalWarning
from mpc.goals import far_from_data
from mpc.intrinsic import Combined, combine, effort
from mpc.mixed import MixedAgent, MixedState
from mpc.policy import Policy, PolicyAgent
from mpc.switching import handed_over
from planners import Planner, PlannerError
from worldmodels import Abstraction, WorldModel
from worldmodels.errors import SpecError
from worldmodels.simulator import Simulator

GOAL, EFFORT = "goal", "effort"
SEEDED = 16  # one in so many candidates is a plan of the policy, where the planner does not say otherwise


class Solution(NamedTuple):
    """What was learned for one task's cost: see `mpc.imagine`."""

    critic: Critic
    policy: Policy


class Configurator:
    """Sets one model up for each of several tasks.

        body = mpc.Configurator(model, stand=mpc.Task({"walker.stand": 1}), walk=mpc.Task({"walker.walk": 1, "effort": 0.01}))
        agent = body.agent("stand")

    An episode may change its task at any decision: `agent, state = body.switch("walk", state)`.
    """

    def __init__(self, model: Any, *, costs: Mapping[str, Any] | None = None, **tasks: Task):
        """`costs` are terms of one's own by names that are free: an `mpc` cost, or a function of (readout, action, step)."""
        own = {} if costs is None else costs
        if not tasks:
            raise ConfigurationError("Configurator(model): expected at least one task as name=mpc.Task(...).")
        for name, task in tasks.items():
            if not isinstance(task, Task):
                raise ConfigurationError(f"task {name}={task!r}: expected an mpc.Task.")
        _check_model(model, tasks)
        _check_own(own)
        self.model, self.tasks = model, tasks
        self.solutions: dict[str, Solution] = {}
        self._agents: dict[str, Any] = {}
        names = dict.fromkeys(name for task in tasks.values() for name in task.cost)
        self._terms = {name: self._term(name, own) for name in names}
        self._goals = {name: self._reachable(name, task.goal) for name, task in tasks.items() if task.goal is not None}
        for name in tasks:
            check(model, self.cost(name), middle(model))
            self._check_planner(name)

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
        if name not in self._agents:
            self._agents[name] = self._made(name)
        return self._agents[name]

    def switch(self, name: str, state: Any) -> tuple[PlanningAgent | PolicyAgent | MixedAgent, AgentState | MixedState]:
        """In mid-episode: who acts on a task from here on, and from which state, given the one that the agent before left.

        Whatever the two tasks' modes, planners and horizons: belief and counts stay, and the search too where it fits (else it starts
        cold). Each mode compiles when it is used first, and not again.
        """
        agent = self.agent(name)
        return agent, handed_over(state, agent)

    def solve(self, name: str, critic: Critic, policy: Policy) -> None:
        """Judge and seed the plans of a task by what was learned for it (`mpc.imagine(model, configurator.cost(name), …)`).

        One in sixteen of the planner's candidates is then a plan of the policy, unless its own `proposals` are set.
        """
        self._task(name)
        if isinstance(self.model, Simulator):
            raise ConfigurationError(f"solve({name!r}): plans on a simulator have no use for a critic and a policy.")
        _check_learned(f"solve({name!r})", self.model, critic, policy)
        self.solutions[name] = Solution(critic, policy)
        self._agents.pop(name, None)

    def _made(self, name: str) -> PlanningAgent | PolicyAgent | MixedAgent:
        task, solved = self._task(name), self.solutions.get(name)
        if solved is None and task.mode != "plan":
            raise ConfigurationError(f"task {name!r}: mode={task.mode!r} needs a critic and a policy. Give them by `solve`.")
        if solved is not None and task.mode == "react":
            return PolicyAgent(self.model, solved.policy)
        learned = {} if solved is None else solved._asdict()
        planner = self._planner(task) if solved is None else _seeded(self._planner(task))
        planning = PlanningAgent(self.model, self.cost(name), planner, discount=float(task.discount), **learned)
        return MixedAgent(planning) if task.mode == "mixed" else planning

    def _planner(self, task: Task) -> Planner:
        return usual_planner(self.model.spec) if task.planner is None else task.planner

    def _check_planner(self, name: str) -> None:
        """That a task's planner can search among the model's actions, told before anything is learned for it."""
        planner = self._planner(self._task(name))
        agent = PlanningAgent(self.model, self.cost(name), planner)
        try:
            jax.eval_shape(lambda: planner.init(agent.problem()))
        except PlannerError as error:
            raise ConfigurationError(f"task {name!r}: {error}") from error

    def _task(self, name: str) -> Task:
        if name not in self.tasks:
            near = difflib.get_close_matches(name, self.tasks, n=2) or sorted(self.tasks)
            raise ConfigurationError(f"no task {name!r}. Did you mean {' or '.join(near)}?")
        return self.tasks[name]

    def _term(self, name: str, own: Mapping[str, Any]) -> TaskCost:
        if name in own:
            return own[name] if isinstance(own[name], TaskCost) else cost(own[name])
        if name == EFFORT:
            return effort()
        if name not in library.TASKS:
            known = [*own, EFFORT, *library.TASKS]
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known)}."
            raise ConfigurationError(f"no cost named {name!r}. {hint}")
        body, environment = name.partition(".")[0], self.model.spec.environment
        if environment.startswith("dm_control/") and not environment.startswith(f"dm_control/{body}-"):
            raise ConfigurationError(f"cost {name!r} is for the body {body}, the model is of {environment}.")
        return cost(library.TASKS[name])

    def _reachable(self, name: str, wanted: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The goal, or the nearest observation within what the data reached, with a warning that tells the distance."""
        spec = self.model.spec
        try:
            spec.check_observation(wanted)
        except SpecError as error:
            raise ConfigurationError(f"task {name!r}: its goal does not suit the model: {error}") from error
        far = far_from_data(self.model, wanted)
        if far is None:
            return {each: np.asarray(wanted[each], np.float32) for each in spec.names}
        warnings.warn(
            f"task {name!r}: its goal is out of the data's reach by {far.away:.1f} standard deviations ({far.words}): "
            "the nearest within is sought instead.",
            GoalWarning,
            stacklevel=4,
        )
        normaliser = self.model.normaliser
        near = np.clip(np.asarray(spec.flatten(wanted)), normaliser.low[...], normaliser.high[...])
        return {each: np.asarray(value) for each, value in {**wanted, **spec.unflatten(near)}.items()}


def _seeded(planner: Any) -> Any:
    """The planner, some of its candidates proposed by the policy; those that have no proposals follow it in their own way, or not."""
    if getattr(planner, "proposals", None) != 0:
        return planner
    return replace(planner, proposals=min(getattr(planner, "population", (planner.samples,))) // SEEDED)


def _check_model(model: Any, tasks: Mapping[str, Task]) -> None:
    """`ConfigurationError` for a model that no task can be set up on."""
    if isinstance(model, type) or not isinstance(model, WorldModel):
        raise ConfigurationError(f"model={model!r}: expected a world model. A folder is read by worldmodels.load(folder).")
    if isinstance(model, Abstraction):
        raise ConfigurationError(
            "model=Abstraction: its actions are abstract, no environment takes them. Give the model below it, or plan through "
            "both by an mpc.HierarchicalAgent."
        )
    for name, task in tasks.items():
        if isinstance(model, Simulator) and task.mode != "plan":
            raise ConfigurationError(f"task {name!r}: mode={task.mode!r} on a simulator, which is planned on: expected 'plan'.")


def _check_learned(call: str, model: Any, critic: Any, policy: Any) -> None:
    """`ConfigurationError` unless critic and policy judge and act in latents like the model's."""
    size = jax.eval_shape(lambda seen: model.features(model.start(seen)), middle(model)).shape[-1]
    for given, kind in ((critic, Critic), (policy, Policy)):
        name = kind.__name__.lower()
        if not isinstance(given, kind):
            hint = f" Its .{name} is one." if isinstance(getattr(given, name, None), kind) else ""
            raise ConfigurationError(f"{call}: {name}={given!r}: expected an mpc.{kind.__name__}.{hint}")
        if given.spec != model.spec:
            raise ConfigurationError(
                f"{call}: the {name} is for {given.spec.environment}, the model for {model.spec.environment}, or their spaces differ."
            )
        if given.size != size:
            raise ConfigurationError(
                f"{call}: the {name} reads {given.size} features, the model has {size}: learned on another model?"
            )


def _check_own(costs: Any) -> None:
    """`ConfigurationError` unless `costs` are terms by names that are free."""
    if not isinstance(costs, Mapping):
        raise ConfigurationError(f"costs={costs!r}: expected {{name: an mpc cost, or a function of (readout, action, step)}}.")
    for name, term in costs.items():
        if name in (GOAL, EFFORT, *library.TASKS):
            meant = "the distance to Task(goal=...)" if name == GOAL else f"mpc's own {name}"
            raise ConfigurationError(f"costs[{name!r}]: this is the name of {meant}. Choose another one.")
        if isinstance(term, type) or not (isinstance(term, TaskCost) or callable(term)):
            raise ConfigurationError(
                f"costs[{name!r}]={term!r}: expected an mpc cost, or a function of (readout, action, step)."
            )
