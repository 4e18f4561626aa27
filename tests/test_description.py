"""What is wanted, in a few words: read from Python and from files, and refused by the field that does not fit."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import jax.numpy as jnp
import pytest

import mpc
import planners
from mpc.errors import ConfigurationError
from tests.test_configurator import PLANNER, engine


def test_a_task_is_read_from_a_file(tmp_path):
    path = tmp_path / "task.toml"
    path.write_text(
        'mode = "plan"\ndiscount = 0.95\n[cost]\nleft = 2.0\n[planner]\nname = "cem"\nhorizon = 5\nsamples = 16\nelites = 4\n'
    )
    read = mpc.Task.read(path)
    assert read.cost == {"left": 2.0} and read.discount == 0.95
    assert read.planner == planners.CEM(horizon=5, samples=16, elites=4)
    engine(west=read).agent("west")


def test_a_task_is_read_from_json_as_from_toml(tmp_path):
    described = {"cost": {"left": 2}, "planner": {"name": "cem", "horizon": 5}, "goal": {"position": [0.5], "velocity": [0]}}
    (tmp_path / "task.json").write_text(json.dumps(described))
    read = mpc.Task.read(tmp_path / "task.json")
    assert (read.cost, read.planner, read.goal) == ({"left": 2}, planners.CEM(horizon=5), described["goal"])
    engine(west=replace(read, planner=PLANNER)).agent("west")


def test_what_a_file_names_lies_beside_it_and_a_term_of_the_library_needs_no_quotes(tmp_path):
    (tmp_path / "task.toml").write_text(
        'solution = "solved"\naction_repeat = 2\n[cost]\ncartpole.balance = 1.0\n"mine.py" = 0.5\n"walker.walk" = 2\n'
    )
    read = mpc.Task.read(tmp_path / "task.toml")
    assert read.cost == {"cartpole.balance": 1.0, str(tmp_path / "mine.py"): 0.5, "walker.walk": 2}
    assert (read.solution, read.action_repeat) == (tmp_path / "solved", 2)
    (tmp_path / "task.json").write_text(json.dumps({"cost": {"left": 1}, "planner": None, "goal": None, "solution": None}))
    assert mpc.Task.read(tmp_path / "task.json") == mpc.Task({"left": 1})


def test_the_file_in_the_docs_is_a_task(tmp_path):
    page = Path(__file__).parent.parent / "docs" / "many-tasks.md"
    (tmp_path / "task.toml").write_text(re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)[0])
    read = mpc.Task.read(tmp_path / "task.toml")
    assert all(getattr(read, each.name) not in (None, {}) for each in fields(mpc.Task))


def test_a_cost_of_a_python_file_is_planned_by(tmp_path):
    (tmp_path / "mine.py").write_text("def cost(readout, action, step):\n    return (readout['position'][0] - 0.5) ** 2\n")
    (tmp_path / "task.toml").write_text('[cost]\n"mine.py" = 2.0\n')
    body = engine(mine=replace(mpc.Task.read(tmp_path / "task.toml"), planner=PLANNER))
    assert float(body.cost("mine").terminal(body.model, jnp.array([1.5, 0.0]), 0)) == 2.0
    (tmp_path / "task.toml").write_text('[cost]\n"yours.py" = 2.0\n')
    with pytest.raises(ConfigurationError, match=r"yours\.py: no such file"):
        engine(yours=mpc.Task.read(tmp_path / "task.toml"))


WRONG = [  # fields of a task, and what the error must say: the field, what was given, what is expected
    ({"cost": "walker.walk"}, r"cost='walker.walk': expected \{name: weight\}"),
    ({"cost": ["left"]}, r"cost=\['left'\]: expected \{name: weight\}"),
    ({"cost": {"left": "a"}}, "weight of left='a': expected a finite number"),
    ({"cost": {"left": True}}, "weight of left=True: expected a finite number"),
    ({"cost": {"left": -1.0}}, "weight of left=-1.0: expected a finite number of at least 0"),
    ({"cost": {"left": [1.0]}}, r"weight of left=\[1.0\]: expected a finite number"),
    ({"cost": {"left": 1.0}, "mode": 5}, "mode=5: expected one of plan, react, mixed"),
    ({"cost": {"left": 1.0}, "mode": ["plan"]}, r"mode=\['plan'\]: expected one of"),
    ({"cost": {"left": 1.0}, "planner": 3}, "planner=3: expected a"),
    ({"cost": {"left": 1.0}, "discount": "high"}, r"discount='high': expected a number in \(0, 1\]"),
    ({"cost": {"left": 1.0}, "goal_weight": "big"}, "goal_weight='big': expected a finite number"),
    ({"cost": {"left": 0.0, "effort": 0}}, "wants nothing: all its weights are 0"),
    ({"goal": {"position": [0.0], "velocity": [0.0]}, "goal_weight": 0.0}, "wants nothing: all its weights are 0"),
    ({"cost": {"left": 1.0}, "action_repeat": "two"}, "action_repeat='two': expected a whole number"),
    ({"cost": {"left": 1.0}, "action_repeat": True}, "action_repeat=True: expected a whole number"),
    ({"cost": {"left": 1.0}, "action_repeat": 0}, "action_repeat=0: expected a whole number of at least 1"),
    ({"cost": {"left": 1.0}, "solution": 3}, "solution=3: expected a folder"),
    ({"goal": "home"}, "goal='home': expected an observation"),
    ({"goal": {}}, r"goal=\{\}: expected an observation"),
    ({"goal": {"position": "there", "velocity": [0.0]}}, r"goal\['position'\]='there': expected finite numbers"),
    ({"goal": {"position": [[1.0], [1.0, 2.0]]}}, r"goal\['position'\]=.*: expected finite numbers"),
]
WRONG_IN_FILES = [
    ({"cost": {"left": 1.0}, "planner": "icem"}, "planner='icem': expected a table"),
    ({"cost": {"left": 1.0}, "planner": {"name": 3}}, "no field 'name'"),
    ({"cost": {"left": 1.0}, "planner": {"name": "cem"}}, "no field 'horizon', which cem needs"),
    ({"cost": {"left": 1.0}, "planner": {"name": "icme", "horizon": 5}}, "planner: planner 'icme' is not known"),
    ({"cost": {"left": 1.0}, "planner": {"name": "cem", "horizon": "far"}}, "planner: horizon='far': expected a whole number"),
    ({"cost": {"left": 1.0}, "planner": {"name": "cem", "horizon": 0}}, "planner: horizon=0: expected an integer, at least 1"),
    (
        {"cost": {"left": 1.0}, "planner": {"name": "cem", "horizon": 5, "spread": "wide"}},
        "planner: spread='wide': expected a nu",
    ),
    ({"cost": {"left": 1.0}, "planner": {"name": "cem", "horizon": 5, "sample": 5}}, r"no setting \['sample'\]"),
    (
        {"cost": {"left": 1.0}, "planner": {"name": "gradient", "horizon": 4, "optimizer": "adam"}},
        "planner: optimizer='adam': expected no such setting in a file",
    ),
    (
        {"cost": {"left": 1.0}, "planner": {"name": "cem", "horizon": 4, "parameterisation": "knots"}},
        "planner: parameterisation='knots': expected no",
    ),
    (
        {"cost": {"left": 1.0}, "planner": {"name": "mppi", "horizon": 4, "relative": "no"}},
        "planner: relative='no': expected true",
    ),
    (
        {"cost": {"left": 1.0}, "planner": {"name": "treesearch", "horizon": 4, "rollout": "no"}},
        "planner: rollout='no': expected true",
    ),
    ({"cost": {"left": 1.0}, "planner": {"name": "gradient", "horizon": 4, "bound": 3}}, "planner: bound=3: expected a text"),
    ({"cost": {"walker": {"walk": "a"}}}, "weight of walker.walk='a': expected a finite number"),
    ({"kost": {}}, "no field 'kost'. Did you mean cost"),
    ({"mode": "plan"}, "without cost and goal"),
    ([1], r"\[1\]: expected the fields of a task"),
]


@pytest.mark.parametrize(("described", "named"), WRONG)
def test_a_wrong_description_names_the_field(described, named):
    with pytest.raises(ConfigurationError, match=named):
        mpc.Task(**described)


@pytest.mark.parametrize(("described", "named"), WRONG + WRONG_IN_FILES)
def test_a_wrong_file_names_itself_and_the_field(tmp_path, described, named):
    (tmp_path / "task.json").write_text(json.dumps(described))
    with pytest.raises(ConfigurationError, match=r"task\.json: .*" + named):
        mpc.Task.read(tmp_path / "task.json")


@pytest.mark.parametrize("text", ["mode = ", "[cost]\nleft = 'a'", "[planner]\nhorizon = 5\n[cost]\nleft = 1", "kost = 1"])
def test_a_wrong_toml_file_names_itself(tmp_path, text):
    (tmp_path / "task.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"task\.toml"):
        mpc.Task.read(tmp_path / "task.toml")
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml cannot be read"):
        mpc.Task.read(tmp_path / "nowhere.toml")
