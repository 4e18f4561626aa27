"""`sailplan bench many-tasks`: cells by name, left out where they are there, and measured whole at a tiny size."""

import jax
import numpy as np
import pytest
from PIL import Image

import mpc
import planners
import worldmodels
from benchmarks import many_tasks, many_tasks_plot, model_tables, results, switching, task_films

TINY = planners.ICEM(horizon=3, samples=8, iterations=1, elites=4, keep=2)


@pytest.fixture
def small(tmp_path, monkeypatch):
    for name, value in {"RESULTS": tmp_path / "many_tasks.jsonl", "RUNS": tmp_path / "runs", "EPISODES": 2}.items():
        monkeypatch.setattr(many_tasks, name, value)
    monkeypatch.setattr(many_tasks, "ACTION_REPEAT", 8)
    monkeypatch.setitem(many_tasks.BODIES, "cartpole", ("swingup", ("balance",)))


def test_unknown_names_are_refused_before_anything_runs(small):
    with pytest.raises(results.ResultError, match="body dog is not known"):
        many_tasks.bench_many_tasks(["dog"], [1], [], 1_000, 1)
    with pytest.raises(results.ResultError, match="method magic is not known"):
        many_tasks.bench_many_tasks([], [1], ["magic"], 1_000, 1)
    with pytest.raises(results.ResultError, match="body dog is not known"):
        task_films.film_tasks(["dog"], 1, 1_000, 1)
    assert not many_tasks.RESULTS.exists()


def test_random_is_measured_once_whatever_the_seed(small):
    (line,) = many_tasks.bench_many_tasks(["cartpole"], [1], ["random"], 1_000, 1)
    assert 0 < line["return_mean"] < 1_000 and line["seed"] == line["frames"] == 0
    assert many_tasks.bench_many_tasks(["cartpole"], [2], ["random"], 2_000, 1) == []
    assert many_tasks.best_known("dm_control/nothing-there-v0") is None


def test_the_simulator_plans_with_ten_times_the_samples():
    assert many_tasks.CEILING.samples == 10 * many_tasks.PLANNER.samples
    assert many_tasks.CEILING.horizon == many_tasks.PLANNER.horizon
    assert many_tasks.cell("cartpole", "balance", "simulator", 1, 1, 1)["settings"]["samples"] == many_tasks.CEILING.samples


def test_another_search_is_another_cell_and_the_table_has_the_last(small, monkeypatch):
    before = many_tasks.cell("cartpole", "balance", "planner", 1, 1_000, 1)
    results.write_line(many_tasks.RESULTS, {**before, "return_mean": 100.0, "minutes": 1.0})
    assert results.holds(many_tasks.RESULTS, before)
    monkeypatch.setattr(many_tasks, "PLANNER", TINY)
    after = many_tasks.cell("cartpole", "balance", "planner", 1, 1_000, 1)
    assert not results.holds(many_tasks.RESULTS, after)
    results.write_line(many_tasks.RESULTS, {**after, "return_mean": 200.0, "minutes": 1.0})
    assert "| cartpole-balance | 200 " in model_tables.many_tasks(results.read_lines(many_tasks.RESULTS))


def test_the_agent_that_learned_with_the_reward_is_told(small, tmp_path, monkeypatch):
    """On as many frames, of a machine without an accelerator, by its planner; its newest line."""
    monkeypatch.setattr(many_tasks, "CONTROL", tmp_path / "control.jsonl")
    theirs = {
        "task": "dm_control/cartpole-balance-v0",
        "method": "planner",
        "seed": 1,
        "frames": 1_000,
        "return_ci95": 1.0,
        "episodes": 10,
        "minutes": 9.0,
        "commit": "a",
        "machine": {"accelerator": None},
    }
    others = [
        {**theirs, "return_mean": 100.0},  # measured again below
        {**theirs, "return_mean": 600.0, "commit": "b"},
        {**theirs, "return_mean": 10.0, "frames": 500},
        {**theirs, "return_mean": 20.0, "method": "policy"},
        {**theirs, "return_mean": 30.0, "seed": 2},
        {**theirs, "return_mean": 40.0, "machine": {"accelerator": "NVIDIA H200"}},
    ]
    monkeypatch.setattr(many_tasks.results, "read_lines", lambda path: others if path == many_tasks.CONTROL else [])
    (line,) = many_tasks.bench_many_tasks(["cartpole"], [1], ["task_agent"], 1_000, 1)
    assert line["return_mean"] == 600.0 and line["measured_at"] == "b" and line["frames"] == 1_000
    assert many_tasks.bench_many_tasks(["cartpole"], [1], ["task_agent"], 2_000, 1) == []
    ours = {**line, "method": "planner", "return_mean": 300.0}
    row = model_tables.many_tasks([line, ours]).splitlines()[2]
    assert "| 300 " in row and "| 600 " in row and "| 50% |" in row and "| 816 | 998 |" in row  # the last two published


def test_a_plan_on_the_simulator_is_judged_by_the_critic_where_it_ends():
    """What the critic says of an observation is the terminal cost of the simulator's state that looks like it."""
    environment = many_tasks.environment_of("reacher", "easy", privileged=True)
    model = worldmodels.JEPA(many_tasks.environment_of("reacher", "easy").spec, latent=4, hidden=8)
    critic, policy = mpc.Critic(4, model.spec, hidden=8, seed=1), mpc.Policy(4, model.spec, hidden=8, seed=2)
    planner = mpc.PlanningAgent(model, mpc.cost(mpc.tasks.lookup("reacher.easy")), TINY, critic=critic, policy=policy)
    agent = many_tasks.ceiling(environment, planner, "reacher.easy")
    observation = environment.reset(seed=3)
    seen = jax.tree.map(jax.numpy.asarray, many_tasks.environment_of("reacher", "easy").reset(seed=3))
    told = agent.cost.terminal(agent.model, agent.model.start(observation), 3)
    features = model.features(model.start(seen))
    assert told == pytest.approx(float(critic(features, policy(features).mean).max(0)), rel=1e-4)
    assert np.isfinite(agent.act(agent.reset(observation), observation, key=jax.random.key(0))[0].cost)


def test_tasks_that_no_environment_rewards_are_scored_by_the_librarys_cost(small, monkeypatch):
    monkeypatch.setitem(many_tasks.BODIES, "cheetah", ("run", ("run_backwards",)))
    monkeypatch.setattr(many_tasks, "ACTION_REPEAT", 50)
    (line,) = many_tasks.bench_many_tasks(["cheetah"], [1], ["random"], 1_000, 1)
    assert line["task"] == "cheetah.run_backwards" and 0 < line["return_mean"] < 100
    assert set(many_tasks.UNREWARDED) <= set(mpc.tasks.TASKS)


@pytest.mark.slow
def test_what_was_imagined_otherwise_is_imagined_and_measured_anew(small, tmp_path, monkeypatch):
    environment = many_tasks.environment_of("cartpole", "balance")
    data = mpc.collect(environment, frames=200, agent=mpc.RandomAgent(environment.spec))
    model, real, times = worldmodels.JEPA(environment.spec, latent=4, hidden=8), mpc.imagine, []
    monkeypatch.setattr(many_tasks.mpc, "imagine", lambda *given, **also: times.append(1) or real(*given, **also))

    def measured(updates, task="balance"):
        *_, minutes = many_tasks.solution(tmp_path / "run", model, data, f"cartpole.{task}", updates, 1)
        return many_tasks.cell("cartpole", "balance", "policy", 1, 200, updates)["settings"], minutes

    first = measured(1)
    assert measured(1) == first and len(times) == 1
    assert measured(1, "swingup") == first and len(times) == 1  # the same cost, from another start
    measured(1, "swingup_sparse")
    assert len(times) == 2
    made = mpc.ImaginationSettings
    monkeypatch.setattr(many_tasks.mpc, "ImaginationSettings", lambda **given: made(entropy=0.5, **given))
    second = measured(1)
    assert second[0] != first[0] and len(times) == 3
    assert measured(1) == second and len(times) == 3


@pytest.mark.parametrize(("ceiling", "good"), [(500.0, True), (900.0, False)])
def test_the_simulator_comes_first_and_tells_what_a_good_episode_is(small, tmp_path, monkeypatch, ceiling, good):
    """Everyone's return is told by a table here; nobody acts."""

    class Told:
        def __init__(self, value):
            self.returns = np.array([value, value])

        def summary(self):
            return {"return_mean": float(self.returns.mean()), "return_ci95": 0.0, "episodes": 2}

    monkeypatch.setattr(many_tasks, "CONTROL", tmp_path / "control.jsonl")
    told = {"simulator": ceiling, "RandomAgent": 30.0, "planner": 450.0, "policy": 100.0}
    monkeypatch.setattr(many_tasks, "explored", lambda *_: (None, None))
    monkeypatch.setattr(many_tasks, "imagined", lambda *_: ({"planner": "planner", "policy": "policy"}, 1.5))
    monkeypatch.setattr(many_tasks, "ceiling", lambda *_: "simulator")
    monkeypatch.setattr(
        many_tasks.mpc, "evaluate", lambda _, agent, **__: Told(told[agent if isinstance(agent, str) else type(agent).__name__])
    )
    lines = many_tasks.bench_many_tasks(["cartpole"], [1], ["policy", "planner", "random", "simulator"], 1_000, 1)
    assert [line["method"] for line in lines] == ["simulator", "random", "planner", "policy"]
    minutes = [line.get("minutes_to_first_good_episode") for line in lines]
    assert minutes == [None, None, pytest.approx(1.5, abs=0.1) if good else None, None]


def test_pictures_are_drawn_of_returns_and_of_what_was_visited(tmp_path):
    lines = results.read_lines(results.RESULTS / "many_tasks.jsonl")
    assert "walker-stand" in many_tasks_plot.plot_tasks(lines, tmp_path).read_text()
    environment = mpc.make("dm_control/cartpole-swingup-v0", action_repeat=8)
    agent = mpc.RandomAgent(environment.spec)
    groups = {name: list(mpc.collect(environment, frames=200, agent=agent, seed=seed)) for seed, name in enumerate("ab")}
    new = {name: np.array([0.2, 0.1]) for name in groups}
    drawn = many_tasks_plot.plot_visited({"cartpole": (environment.spec, groups, new)}, tmp_path)
    assert "cartpole, b" in drawn.read_text() and not list(tmp_path.glob("*.aside"))


def test_states_are_shown_along_where_they_vary_most():
    """Two of three components vary together, the third hardly matters: their common direction comes first, from end to end."""
    rng = np.random.default_rng(0)
    along = rng.uniform(-1, 1, 200)
    states = np.stack([along, 3 * along, rng.uniform(-1, 1, 200)], 1)
    shown = many_tasks_plot.projected({"left": states[along < 0], "right": states[along >= 0]})
    first = np.concatenate([shown["left"][:, 0], shown["right"][:, 0]])
    assert first.min() == 0 and first.max() == 1
    low, high = sorted((shown["left"][:, 0].mean(), shown["right"][:, 0].mean()))
    assert low < 0.35 and high > 0.65
    assert abs(np.corrcoef(np.concatenate([along[along < 0], along[along >= 0]]), first)[0, 1]) > 0.99


@pytest.mark.slow
def test_tasks_are_filmed_side_by_side(small, tmp_path, monkeypatch):
    if mpc.rendering_backend() is None:
        pytest.skip("no rendering backend")
    monkeypatch.setitem(many_tasks.BODIES, "cartpole", ("swingup", ("balance", "swingup")))
    monkeypatch.setattr(task_films, "SECONDS", 1.0)
    monkeypatch.setattr(many_tasks, "PLANNER", TINY)
    environment = mpc.make("dm_control/cartpole-swingup-v0", action_repeat=8)
    data = mpc.collect(environment, frames=200, agent=mpc.RandomAgent(environment.spec))
    model = worldmodels.JEPA(environment.spec, latent=8, hidden=16, members=2)
    monkeypatch.setattr(many_tasks, "explored", lambda *_: (model, data))
    film = Image.open(task_films.film_tasks(["cartpole"], 1, 200, 5, tmp_path / "film.gif"))
    assert film.size == (2 * task_films.SIZE[0], task_films.SIZE[1])
    assert getattr(film, "n_frames", 1) > 3


@pytest.mark.slow
def test_a_model_without_reward_is_driven_to_a_task(small):
    lines = many_tasks.bench_many_tasks(["cartpole"], [1], ["planner", "policy"], 2_000, 20)
    assert [line["method"] for line in lines] == ["planner", "policy"]
    _, data = many_tasks.explored("cartpole", 1, 2_000)
    assert data.frames >= 2_000 and all(episode.costs is None for episode in data)
    assert many_tasks.bench_many_tasks(["cartpole"], [1], ["planner", "policy"], 2_000, 20) == []
    kept = many_tasks.folder("cartpole", 1, 2_000) / "tasks" / "cartpole.balance"
    assert sorted(path.name for path in kept.iterdir()) == ["critic", "imagined.json", "policy"]


def test_what_compiles_is_seen_and_what_did_before_is_not():
    program, given = jax.jit(lambda x: 3 * x + 1), np.ones(7)
    for compiled in (True, False):
        with switching._compilations() as seen:
            program(given).block_until_ready()
        assert bool(seen) == compiled, seen


@pytest.mark.slow
def test_one_walker_switches_between_tasks_and_nothing_compiles(small, tmp_path, monkeypatch):
    for name, value in {"RESULTS": tmp_path / "switching.jsonl", "EPISODES": 2, "DECISIONS": 6, "PLANNER": TINY}.items():
        monkeypatch.setattr(switching, name, value)
    environment = mpc.make("dm_control/walker-stand-v0", action_repeat=2)
    model = worldmodels.JEPA(environment.spec, latent=8, hidden=16, members=2)
    data = mpc.collect(environment, frames=200, agent=mpc.RandomAgent(environment.spec))
    monkeypatch.setattr(switching, "explored", lambda *_: (model, data))
    lines = switching.bench_switching([1], 200, 5)
    assert [(line["task"][11:], line["method"]) for line in lines] == [
        (f"walker-{task}-v0", method) for method in ("switched", "fresh") for task in switching.SEGMENTS
    ]
    assert all(line["compiled_after_first_switch"] == 0 for line in lines)
    assert lines[0]["return_mean"] == lines[3]["return_mean"]  # before the first switch they are the same
    with switching._compilations() as seen:  # which counts what compiles
        jax.jit(lambda x: x + 17)(1.0)
    assert seen
    if mpc.rendering_backend() is not None:
        film = Image.open(task_films.film_switching(1, 200, 5, tmp_path / "film.gif"))
        assert getattr(film, "n_frames", 1) > 3
    assert "| walker-stand | 200 |" in (table := model_tables.switching(lines))
    assert "| 100% | 0 |" in table
