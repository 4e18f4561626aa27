"""What is wanted, in a few words: read from Python and from files, and refused by the field that does not fit."""

import json
from dataclasses import replace

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
    ({"goal": "home"}, "goal='home': expected an observation"),
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
