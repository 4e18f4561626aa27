"""What is wanted of an agent, in a few words: in Python, or in a TOML or JSON file."""

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

import planners
from mpc.errors import ConfigurationError
from planners.errors import is_whole
from planners.names import planner_class, planner_named
from worldmodels.spec import DiscreteAction, Spec

MODES = ("plan", "react", "mixed")


def usual_planner(spec: Spec) -> planners.Planner:
    """Of tasks that name none: iCEM, or the categorical CEM where actions are discrete."""
    size: dict[str, Any] = {"horizon": 20, "samples": 64, "iterations": 4, "elites": 8}
    return planners.CategoricalCEM(**size) if isinstance(spec.action, DiscreteAction) else planners.ICEM(**size, keep=2)


@dataclass(frozen=True)
class Task:
    """What is wanted, in a few words. `ConfigurationError`, naming the field, for what does not fit.

    Attributes:
      cost: weight of each term, by its name in the cost library ("walker.walk"), "effort", a name of one's own, or a Python file
        ("mine.py") that defines cost(readout, action, step).
      goal: an observation to reach, {name: array}, or None. Of one that names only some of what is observed the rest does not matter.
      goal_weight: of the distance to it.
      planner: how plans are searched, and how far; None for `usual_planner`, which suits the actions.
      discount: per model step; that of the critic too, where there is one, whose discount a task with 1 takes.
      mode: "plan" (Mode-2), "react" (Mode-1) or "mixed"; the last two need a critic and a policy.
      action_repeat: environment steps a decision lasts, which must be the model's; None for whatever the model's is.
      solution: a folder that `sailplan solve --out` wrote, for its critic and policy.
    """

    cost: Mapping[str, float] = field(default_factory=dict)
    goal: Mapping[str, Any] | None = None
    goal_weight: float = 1.0
    planner: planners.Planner | None = None
    discount: float = 0.99
    mode: str = "plan"
    action_repeat: int | None = None
    solution: str | Path | None = None

    def __post_init__(self):
        if not isinstance(self.cost, Mapping) or not all(isinstance(name, str) for name in self.cost):
            raise ConfigurationError(f"cost={self.cost!r}: expected {{name: weight}}, such as {{'walker.walk': 1.0}}.")
        if not self.cost and self.goal is None:
            raise ConfigurationError("a task without cost and goal: expected cost={name: weight} or goal=observation.")
        for name, weight in self.cost.items():
            _check_weight(f"cost: the weight of {name}", weight)
        _check_weight("goal_weight", self.goal_weight)
        if not any(self.cost.values()) and (self.goal is None or not self.goal_weight):
            raise ConfigurationError("a task that wants nothing: all its weights are 0. Expected one above 0.")
        if self.goal is not None:
            _check_goal(self.goal)
        if self.planner is not None:
            _check_planner(self.planner)
        if not _is_number(self.discount) or not 0 < self.discount <= 1:
            raise ConfigurationError(f"discount={self.discount!r}: expected a number in (0, 1].")
        if not isinstance(self.mode, str) or self.mode not in MODES:
            raise ConfigurationError(f"mode={self.mode!r}: expected one of {', '.join(MODES)}.")
        if self.action_repeat is not None and (not is_whole(self.action_repeat) or self.action_repeat < 1):
            raise ConfigurationError(f"action_repeat={self.action_repeat!r}: expected a whole number of at least 1.")
        if self.solution is not None and not isinstance(self.solution, str | Path):
            raise ConfigurationError(f"solution={self.solution!r}: expected a folder that `sailplan solve --out` wrote.")

    @classmethod
    def read(cls, path: str | Path) -> "Task":
        """From a TOML file with the fields above, or a JSON file (.json); `planner` has a `name` and its settings.

        Paths are meant from the file's folder. Raises `ConfigurationError` naming the file, and the field that is unknown, missing or does not fit.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
            given = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path} cannot be read: {error}") from error
        try:
            return cls(**_fields_of(given, path.parent))
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from error


def _fields_of(given: Any, folder: Path) -> dict[str, Any]:
    """What a file in `folder` says, by the names of `Task`'s fields."""
    if not isinstance(given, dict):
        raise ConfigurationError(f"{given!r}: expected the fields of a task by their names.")
    known = [field.name for field in fields(Task)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2) or known
            raise ConfigurationError(f"no field {name!r}. Did you mean {' or '.join(near)}?")
    said = dict(given)
    if isinstance(said.get("cost"), dict):
        said["cost"] = _terms_of(said["cost"], folder)
    if said.get("planner") is not None:
        said["planner"] = _planner_of(said["planner"])
    if isinstance(said.get("solution"), str):
        said["solution"] = folder / said["solution"]
    return said


def _terms_of(given: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Weights by the names of terms. `walker.walk = 1` without quotes is a table in TOML, and meant all the same."""
    named = {}
    for name, weight in given.items():
        named |= {f"{name}.{rest}": each for rest, each in weight.items()} if isinstance(weight, dict) else {name: weight}
    return {str(folder / name) if name.endswith(".py") else name: weight for name, weight in named.items()}


def _planner_of(given: Any) -> planners.Planner:
    """The planner that a file describes."""
    if not isinstance(given, dict):
        raise ConfigurationError(f"planner={given!r}: expected a table with a name and settings.")
    if not isinstance(given.get("name"), str):
        raise ConfigurationError("[planner] has no field 'name', such as name = \"icem\".")
    settings = {name: value for name, value in given.items() if name != "name"}
    try:
        for each in fields(planner_class(given["name"])):
            if each.name not in settings:
                if each.default is MISSING and each.default_factory is MISSING:
                    raise ConfigurationError(f"[planner] has no field {each.name!r}, which {given['name']} needs.")
            else:
                _check_setting(each.name, each.type, settings[each.name])
        return planner_named(given["name"], **settings)
    except planners.PlannerError as error:
        raise ConfigurationError(f"planner: {error}") from error


def _check_setting(name: str, kind: Any, value: Any) -> None:
    """`ConfigurationError` unless a file's `value` is of the kind of a planner's setting."""
    kinds = {
        int: (is_whole, "a whole number"),
        float: (_is_number, "a number"),
        bool: (lambda value: isinstance(value, bool), "true or false"),
        str: (lambda value: isinstance(value, str), "a text"),
    }
    fits, expected = kinds.get(kind, (lambda value: False, "no such setting in a file. Give the planner in Python"))
    if not fits(value):
        raise ConfigurationError(f"planner: {name}={value!r}: expected {expected}.")


def _is_number(value: Any) -> bool:
    value = value.item() if hasattr(value, "dtype") and value.shape == () else value
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))


def _check_weight(name: str, value: Any) -> None:
    if not _is_number(value) or value < 0:
        raise ConfigurationError(f"{name}={value!r}: expected a finite number of at least 0.")


def _check_goal(goal: Any) -> None:
    if not isinstance(goal, Mapping) or not goal:
        raise ConfigurationError(f"goal={goal!r}: expected an observation, {{name: numbers}}.")
    for name, value in goal.items():
        try:
            array = np.asarray(value)
        except ValueError:  # rows of unequal length
            array = np.asarray(None)
        if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
            raise ConfigurationError(f"goal[{name!r}]={value!r}: expected finite numbers.")


def _check_planner(planner: Any) -> None:
    if isinstance(planner, type) or not isinstance(planner, planners.Planner):
        raise ConfigurationError(f"planner={planner!r}: expected a planner such as planners.ICEM(horizon=20).")
