"""`sailplan solve`: a cost by its name or a file becomes agents that are compared, and a report of it."""

import json
import warnings
from dataclasses import replace

import jax.numpy as jnp
import pytest

import mpc
import planners
import worldmodels
from benchmarks.solve import described, filmed, noted, opened, solve, write_page
from mpc.imagination import ImaginationProgress
from tests import foreign, tiny
from tests.test_agent import true_model
from worldmodels import DataError
from worldmodels.data import Dataset

pytest.importorskip("dm_control")


SIZES = {"latent": 8, "hidden": 8, "head": 8, "expander": 8}
BALANCE = "dm_control/cartpole-balance-v0"
PLANNER = {"name": "cem", "horizon": 3, "samples": 16, "iterations": 1, "elites": 4}


class Begun(Exception):
    """Imagination would begin now."""


@pytest.fixture
def stopped(monkeypatch):
    def stop(*_, **__):
        raise Begun

    monkeypatch.setattr(mpc, "imagine", stop)


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    """A run as `sailplan explore` leaves one, its model untrained."""
    run, environment = tmp_path_factory.mktemp("explored"), mpc.make(BALANCE, action_repeat=25)
    model = worldmodels.JEPA(environment.spec, **SIZES)
    model.normaliser.low[...], model.normaliser.high[...] = jnp.full(5, -3.0), jnp.full(5, 3.0)
    worldmodels.save(model, run / "model")
    mpc.collect(environment, frames=1_000, out=run / "memory")
    return run


def test_a_cost_by_name_is_a_task_of_its_body():
    model = worldmodels.JEPA(mpc.make("dm_control/walker-walk-v0").spec, **SIZES)
    task, own = described("walker.run_backwards", None)
    assert (dict(task.cost), own) == ({"walker.run_backwards": 1.0}, {})
    mpc.Configurator(model, costs=own, task=task)
    with pytest.raises(mpc.ConfigurationError, match=r"Did you mean walker\.run_backwards"):
        mpc.Configurator(model, task=described("walker.run_backward", None)[0])
    with pytest.raises(mpc.ConfigurationError, match="for the body cheetah"):
        mpc.Configurator(model, task=described("cheetah.flip", None)[0])


@pytest.mark.parametrize(
    "content",
    [
        "def cost(readout, action, step):\n    return 0.5 * readout['position'][0] ** 2",
        "import mpc\ncost = mpc.reach('position', 0.0)",
        "import mpc\ncost = mpc.combine(middle=(1.0, mpc.reach('position', 0.0)))",
    ],
)
def test_a_file_defines_a_function_or_a_cost(tmp_path, content):
    (tmp_path / "mine.py").write_text(content)
    task, own = described(str(tmp_path / "mine.py"), None)
    model = true_model()
    cost = mpc.Configurator(model, costs=own, task=task).cost("task")
    terms = cost.running(model, jnp.array([0.5, 0.0]), jnp.zeros(1), jnp.zeros((), jnp.int32))
    assert {name: float(term) for name, term in terms.items()} == {"cost": 0.125}


@pytest.mark.parametrize("content", ["def cost(", "import no_such_module", "1 / 0", "raise SystemExit(0)", "cost = 3"])
def test_a_file_that_defines_no_cost_is_named(tmp_path, content):
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(mpc.ConfigurationError, match=r"mine\.py"):
        described(str(tmp_path / "mine.py"), None)


def test_the_data_are_those_beside_the_model_if_no_others_are_given(explored, tmp_path):
    for given in ((explored / "model", None), (explored, None), (explored / "model", explored / "memory")):
        model, data = opened(*given)
        assert (model.spec.environment, data.folder.resolve()) == (BALANCE, (explored / "memory").resolve())
    worldmodels.save(model, tmp_path / "model")
    with pytest.raises(DataError, match=rf"memory: there is no such folder.*dataset of {BALANCE}.*sailplan explore"):
        opened(tmp_path / "model", None)


def test_data_of_something_else_are_refused(explored, tmp_path):
    foreign.own(tmp_path / "tiny", tiny.episodes(count=1))
    with pytest.raises(mpc.ConfigurationError, match=rf"tiny is of tiny/double-integrator, the model of {BALANCE}"):
        solve(explored / "model", tmp_path / "tiny", out=tmp_path / "out", cost="cartpole.balance")
    foreign.own(tmp_path / "otherwise", tiny.episodes(replace(tiny.POSITION, environment=BALANCE), count=1))
    with pytest.raises(DataError, match=r"otherwise, episode 0: observations \['position'\], expected"):
        solve(explored / "model", tmp_path / "otherwise", out=tmp_path / "out", cost="cartpole.balance")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("cart", "warned"), [(0.5, 0), (9.0, 1)])
def test_a_goal_in_a_file_is_sought_and_told_once_where_it_is_far(explored, tmp_path, stopped, cart, warned):
    planner = "".join(f"{name} = {json.dumps(value)}\n" for name, value in {**PLANNER, "proposals": 2}.items())
    goal = f"position = [{cart}, 1.0, 0.0]\nvelocity = [0.0, 0.0]"
    (tmp_path / "task.toml").write_text(f"mode = 'mixed'\n[planner]\n{planner}[goal]\n{goal}\n")
    with warnings.catch_warnings(record=True) as said, pytest.raises(Begun):
        warnings.simplefilter("always")
        solve(explored, out=tmp_path / "out", task=tmp_path / "task.toml")
    told = [str(warning.message) for warning in said if warning.category is mpc.GoalWarning]
    assert len(told) == warned and all("6.0 standard deviations (position[0]=9" in text for text in told)


def test_what_imagination_would_be_in_vain_for_is_refused_before_it(explored, tmp_path, stopped):
    crowded = {**PLANNER, "name": "icem", "elites": 16, "keep": 13}  # leaves no place for a plan of the policy
    (tmp_path / "task.json").write_text(json.dumps({"cost": {"cartpole.balance": 1.0}, "planner": crowded}))
    for wrong, match in (
        ({"task": tmp_path / "task.json"}, "samples=16"),
        ({"cost": "cartpole.balance", "seed": -1}, "seed=-1"),
    ):
        with pytest.raises(planners.SettingError, match=match):
            solve(explored, out=tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_no_episodes_are_refused_before_anything_is_imagined(tmp_path):
    with pytest.raises(planners.SettingError, match="episodes=0"):
        solve(tmp_path / "model", tmp_path / "data", out=tmp_path / "out", cost="walker.run", episodes=0)


def test_progress_is_a_line_a_report_and_begins_anew(tmp_path):
    path, reports = tmp_path / "progress.jsonl", [ImaginationProgress(250 * i, 500, 0.5, 9.0 / i) for i in (1, 2)]
    for _ in range(2):
        note = noted(path)
        for report in reports:
            note(report)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [report._asdict() for report in reports]


def content(**rows):
    figures = {"return_mean": -3.0, "return_ci95": float("inf"), "episodes": 1, "decision_ms_p50": 0.2, "decision_ms_p99": 0.3}
    made = {name: figures | own for name, own in rows.items()}
    return {"cost": "cartpole.balance", "task": BALANCE, "imagination_minutes": 2.5, "rows": made, "seed": 0}


def test_the_page_names_the_task_and_shows_who_acts(tmp_path):
    pytest.importorskip("matplotlib")
    noted(tmp_path / "progress.jsonl")(ImaginationProgress(250, 250, 0.5, float("nan")))
    rows = content(random={"return_mean": -9.0}, planner={}, policy={"return_mean": -1.0}, both={"reacted_share": 0.75})
    write_page(tmp_path, rows, [])
    page = (tmp_path / "report.html").read_text()
    for words in (
        "cartpole.balance",
        BALANCE,
        "2 min 30 s",
        "best return: imagined policy",
        "Planner alone",
        "in 75%",
        "No videos",
    ):
        assert words in page
    assert "iCEM on the true simulator" not in page


def test_an_episode_is_filmed_in_real_time_and_no_older_film_stays_where_nothing_draws(explored, tmp_path, monkeypatch, capsys):
    if mpc.rendering_backend() is None:
        pytest.skip("no rendering backend")
    from PIL import Image

    environment, (episode,) = mpc.make(BALANCE, action_repeat=2), Dataset.open(explored / "memory")
    episode = replace(episode, actions=episode.actions[:10])
    (path,) = filmed(environment, {"planner with critic": episode}, tmp_path / "videos")
    assert path == tmp_path / "videos" / "planner-with-critic.gif"
    with Image.open(path) as film:
        assert (film.n_frames, film.info["duration"]) == (3, 80)  # of 11 moments 0.02 s apart every fourth
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    assert filmed(environment.copy(), {"planner with critic": episode}, tmp_path / "videos") == []
    assert not path.exists() and "no videos: no rendering backend" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "last"), [("mixed", "both modes, mixed"), ("react", "policy")])
def test_it_reports_who_acts_and_how_often_reacting_sufficed(explored, tmp_path, mode, last):
    wanted = {"cost": {"cartpole.balance": 1.0}, "mode": mode, "planner": {**PLANNER, "proposals": 2}}
    (tmp_path / "task.json").write_text(json.dumps(wanted))
    out = tmp_path / "out"
    solve(explored / "model", explored / "memory", out=out, task=tmp_path / "task.json", updates=2, episodes=2)
    told = json.loads((out / "solve.json").read_text())
    rows = told["rows"]
    assert list(rows)[:3] == ["random", "planner", "policy"] and list(rows)[-1] == last
    assert all(
        len(row["returns"]) == 2 and ("reacted_share" in row) == (name == "both modes, mixed") for name, row in rows.items()
    )
    assert mode != "mixed" or 0 <= rows[last]["reacted_share"] <= 1
    assert mpc.load_policy(out / "policy").model.spec.environment == told["task"] == BALANCE
    assert [json.loads(line)["updates"] for line in (out / "progress.jsonl").read_text().splitlines()] == [2]
    page, films = (out / "report.html").read_text(), sorted(path.name for path in (out / "videos").iterdir())
    assert "task.json" in page
    if mpc.rendering_backend():
        assert films == (["policy.gif"] if mode == "react" else ["both-modes-mixed.gif", "policy.gif"])
        assert page.count("data:image/gif") == len(films)


@pytest.mark.slow
def test_discrete_actions_are_solved_too_and_one_episode_is_written_as_json(tmp_path):
    environment = mpc.make("CartPole-v1")
    worldmodels.save(worldmodels.JEPA(environment.spec, **SIZES), tmp_path / "model")
    mpc.collect(environment, frames=200, out=tmp_path / "data")
    (tmp_path / "mine.py").write_text("def cost(readout, action, step):\n    return readout['observation'][0] ** 2\n")
    solve(tmp_path / "model", tmp_path / "data", out=tmp_path / "out", cost=str(tmp_path / "mine.py"), updates=2, episodes=1)
    text = (tmp_path / "out" / "solve.json").read_text()
    rows = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["rows"]
    assert list(rows) == ["random", "planner", "policy", "planner with critic"]
    assert "mine.py" in (tmp_path / "out" / "report.html").read_text()
