"""`sailplan solve`: a cost by its name or a task's file becomes agents that are compared, and a report of it."""

import json

import pytest

import mpc
import planners
import worldmodels
from benchmarks.solve import described, solve

pytest.importorskip("dm_control")


SIZES = {"latent": 8, "hidden": 8, "head": 8, "expander": 8}


def test_a_cost_by_name_is_a_task_of_its_body():
    model = worldmodels.JEPA(mpc.make("dm_control/walker-walk-v0").spec, **SIZES)
    task, own = described("walker.run_backwards", None)
    assert (dict(task.cost), own) == ({"walker.run_backwards": 1.0}, {})
    mpc.Configurator(model, costs=own, task=task)
    with pytest.raises(mpc.ConfigurationError, match=r"Did you mean walker\.run_backwards"):
        mpc.Configurator(model, task=described("walker.run_backward", None)[0])
    with pytest.raises(mpc.ConfigurationError, match="for the body cheetah"):
        mpc.Configurator(model, task=described("cheetah.flip", None)[0])


@pytest.mark.parametrize("content", ["def cost(", "import no_such_module", "1 / 0", "raise SystemExit(0)", "cost = 3"])
def test_a_file_that_defines_no_cost_is_named(tmp_path, content):
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(mpc.ConfigurationError, match=r"mine\.py"):
        described(str(tmp_path / "mine.py"), None)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "last"), [("mixed", "both modes, mixed"), ("react", "policy")])
def test_it_reports_who_acts_and_how_often_reacting_sufficed(tmp_path, mode, last):
    environment = mpc.make("dm_control/cartpole-balance-v0", action_repeat=25)
    worldmodels.save(worldmodels.JEPA(environment.spec, **SIZES), tmp_path / "model")
    mpc.collect(environment, frames=1_000, out=tmp_path / "data")
    planner = {"name": "cem", "horizon": 3, "samples": 16, "iterations": 1, "elites": 4}
    wanted = {"cost": {"cartpole.balance": 1.0}, "mode": mode, "planner": planner}
    (tmp_path / "task.json").write_text(json.dumps(wanted))
    out = tmp_path / "out"
    solve(tmp_path / "model", tmp_path / "data", out, task=tmp_path / "task.json", updates=2, episodes=2)
    rows = json.loads((out / "solve.json").read_text())["rows"]
    assert list(rows)[:3] == ["random", "planner", "policy"] and list(rows)[-1] == last
    assert all(
        len(row["returns"]) == 2 and ("reacted_share" in row) == (name == "both modes, mixed") for name, row in rows.items()
    )
    assert mode != "mixed" or 0 <= rows[last]["reacted_share"] <= 1
    assert mpc.load_policy(out / "policy").model.spec == environment.spec


@pytest.mark.slow
def test_discrete_actions_are_solved_too_and_one_episode_is_written_as_json(tmp_path):
    environment = mpc.make("CartPole-v1")
    worldmodels.save(worldmodels.JEPA(environment.spec, **SIZES), tmp_path / "model")
    mpc.collect(environment, frames=200, out=tmp_path / "data")
    (tmp_path / "mine.py").write_text("def cost(readout, action, step):\n    return readout['observation'][0] ** 2\n")
    solve(tmp_path / "model", tmp_path / "data", tmp_path / "out", cost=str(tmp_path / "mine.py"), updates=2, episodes=1)
    text = (tmp_path / "out" / "solve.json").read_text()
    rows = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["rows"]
    assert list(rows) == ["random", "planner", "policy", "planner with critic"]


def test_no_episodes_are_refused_before_anything_is_imagined(tmp_path):
    with pytest.raises(planners.SettingError, match="episodes=0"):
        solve(tmp_path / "model", tmp_path / "data", tmp_path / "out", cost="walker.run", episodes=0)
