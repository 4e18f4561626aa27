"""The configurator: one engine, set up for each task by a short description (LeCun 2022, section 3.1.4).

The world model's weights stay as they are. A task says which costs count and how much, what to reach, which planner looks how far, and
whether to react, to plan or to mix. All tasks of one configurator share the terms of all of them, with weight 0 where a term does
not count: changing from one to another changes numbers only, and compiles nothing.
"""

import difflib
from collections.abc import Mapping
from dataclasses import replace
from math import isclose
from pathlib import Path
from typing import Any, NamedTuple

import jax

from mpc.agent import AgentState, PlanningAgent
from mpc.costs import TaskCost, check, middle
from mpc.critic import Critic
from mpc.description import Task, usual_planner
from mpc.errors import ConfigurationError, CostError
from mpc.goals import brought_near
from mpc.intrinsic import Combined, combine
from mpc.mixed import MixedAgent, MixedState
from mpc.policy import Policy, PolicyAgent
from mpc.storage import load_critic, load_policy
from mpc.switching import handed_over
from mpc.terms import GOALS, aim, check_own, term
from planners import ILQR, Planner, PlannerError
from worldmodels import Abstraction, WorldModel
from worldmodels.errors import WorldModelError
from worldmodels.simulator import Simulator

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
        check_own(own)
        self.model, self.tasks = model, tasks
        self.solutions: dict[str, Solution] = {}
        self._agents: dict[str, Any] = {}
        names = dict.fromkeys(name for task in tasks.values() for name in task.cost)
        self._terms = {name: brought_near(model, term(name, own, model.spec), f"cost {name!r}: its goal") for name in names}
        self._goals = {name: aim(name, task.goal, model) for name, task in tasks.items() if task.goal is not None}
        for name, made in self._terms.items():
            _check_term(name, made, model)
        for name, task in tasks.items():
            check(model, self.cost(name), middle(model))
            self._check_planner(name)
            if task.solution is not None:
                self._load(name, Path(task.solution))

    def cost(self, name: str) -> Combined:
        """The cost of a task: every term of every task, weighted by this one's wishes.

        Where iLQR plans, its own terms only: Gauss-Newton is for sums of squares, and one term of another task could be none.
        """
        task = self._task(name)
        alone = isinstance(self._planner(task), ILQR)
        wishes = task.cost if alone else self._terms
        terms: dict[str, tuple[float, Any]] = {each: (task.cost.get(each, 0.0), self._terms[each]) for each in wishes}
        for kind, called in GOALS.items():
            goals = {each: made for each, made in self._goals.items() if isinstance(made, kind)}
            if name in goals:
                terms[called] = (task.goal_weight, goals[name])
            elif goals and not alone:
                terms[called] = (0.0, next(iter(goals.values())))
        return combine(**terms)

    def agent(self, name: str) -> PlanningAgent | PolicyAgent | MixedAgent:
        """Who acts on a task."""
        if name not in self._agents:
            self._agents[name] = self._made(name)
        return self._agents[name]

    def switch(self, name: str, state: Any) -> tuple[PlanningAgent | PolicyAgent | MixedAgent, AgentState | MixedState]:
        """In mid-episode: who acts on a task from here on, and from which state, given the one that the agent before left.

        Whatever the two tasks' modes, planners and horizons: belief and the number of decisions stay, and the search too where it fits
        (else it starts cold). How often was reacted is counted from when the mixed mode began. Each mode compiles when it is used
        first, and not again.
        """
        agent = self.agent(name)
        return agent, handed_over(state, agent)

    def solve(self, name: str, critic: Critic, policy: Policy) -> None:
        """Judge and seed the plans of a task by what was learned for it (`mpc.imagine(model, configurator.cost(name), …)`).

        One in sixteen of the planner's candidates is then a plan of the policy, unless its own `proposals` are set. A task whose discount
        is 1 takes the critic's.
        """
        task = self._task(name)
        if isinstance(self.model, Simulator):
            raise ConfigurationError(f"solve({name!r}): plans on a simulator have no use for a critic and a policy.")
        _check_learned(f"solve({name!r})", self.model, critic, policy)
        if task.discount < 1 and critic.discount is not None and not isclose(critic.discount, task.discount, rel_tol=1e-6):
            raise ConfigurationError(
                f"solve({name!r}): the critic was imagined at discount={critic.discount}, the task has {task.discount}: expected the same. "
                "Imagine with ImaginationSettings(discount=...) of the task, or give the task the critic's."
            )
        self.solutions[name] = Solution(critic, policy)
        self._agents.pop(name, None)

    def _load(self, name: str, folder: Path) -> None:
        """`solve` by what `sailplan solve --out folder` wrote."""
        try:
            self.solve(name, load_critic(folder / "critic"), load_policy(folder / "policy").policy)
        except (WorldModelError, ConfigurationError) as error:
            raise ConfigurationError(f"task {name!r}: solution={str(folder)!r}: {error}") from error

    def _made(self, name: str) -> PlanningAgent | PolicyAgent | MixedAgent:
        task, solved = self._task(name), self.solutions.get(name)
        if solved is None and task.mode != "plan":
            raise ConfigurationError(
                f"task {name!r}: mode={task.mode!r} needs a critic and a policy. Give them by `solve`, or their folder as solution=."
            )
        if solved is not None and task.mode == "react":
            return PolicyAgent(self.model, solved.policy)
        learned = {} if solved is None else solved._asdict()
        planner = self._planner(task) if solved is None else _seeded(self._planner(task))
        judged = None if solved is None else solved.critic.discount
        discount = judged if task.discount == 1 and judged is not None else task.discount
        planning = PlanningAgent(self.model, self.cost(name), planner, discount=discount, **learned)
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
        if task.action_repeat not in (None, model.spec.action_repeat):
            raise ConfigurationError(
                f"task {name!r}: action_repeat={task.action_repeat}: expected {model.spec.action_repeat}, at which the model was "
                "learned. Give one that was learned at the task's."
            )


def _check_term(name: str, made: TaskCost, model: Any) -> None:
    """`CostError`, naming the term, unless it suits the model."""
    try:
        check(model, combine(**{name: (1.0, made)}), middle(model))
    except CostError as error:
        raise CostError(f"cost {name!r}: {error}") from error


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
