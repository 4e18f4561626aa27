"""The planners' benchmark: optima that hold, work that is counted right, cells that resume. No timing is judged."""

import itertools
import json
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planners
from benchmarks import analytic, planner_bench, planner_budgets, planner_cells, results
from benchmarks.planner_cells import Cell
from planners.names import planner_classes

BOX_METHODS = [name for name, made in planner_budgets.RECIPES.items() if made.box and name in planner_classes()]


def price(case: analytic.Case, actions) -> float:
    cost, violation = case.problem.score(case.latent, jnp.asarray(actions), jnp.zeros((case.horizon, 0)))
    return float(cost) + planner_bench.VIOLATION_WEIGHT * float(violation)


def test_riccati_is_the_least_cost():
    case = analytic.linear_quadratic()
    planner = planners.ILQR(case.horizon, iterations=2)
    plan, _ = planners.plan(planner, case.problem, case.latent, planner.init(case.problem), key=jax.random.key(0))
    assert price(case, plan.actions) == pytest.approx(case.optimum, rel=1e-5)
    assert price(case, jnp.zeros((case.horizon, 1))) > case.optimum + 1


def test_the_wall_agrees_with_another_solver():
    """ADMM on the same programme (Boyd et al. 2011, section 5): rows for the wall and the force, both only from the problem."""
    case, n = analytic.wall(), 20
    rollout = jax.jit(lambda u: case.problem.unroll(case.latent, u[:, None], jnp.zeros((n, 0)))[:, 0])
    position = np.asarray(jax.jacfwd(rollout)(jnp.zeros(n)), np.float64)
    weights = np.append(np.ones(n), 5.0)
    rows = np.concatenate([position[1:], np.eye(n)])
    above = np.concatenate([np.full(n, analytic.WALL), np.full(n, analytic.FORCE)])
    below = np.concatenate([np.full(n, -np.inf), np.full(n, -analytic.FORCE)])
    quadratic = 2 * (position.T @ np.diag(weights) @ position + analytic.EFFORT * np.eye(n))
    linear, inverse = -4 * position.T @ weights, np.linalg.inv(quadratic + rows.T @ rows)
    z, dual = np.zeros(2 * n), np.zeros(2 * n)
    for _ in range(20_000):
        u = inverse @ (rows.T @ (z - dual) - linear)
        z = np.clip(rows @ u + dual, below, above)
        dual += rows @ u - z
    assert np.abs(rows @ u - z).max() < 1e-4
    assert weights @ (position @ u - 2) ** 2 + analytic.EFFORT * u @ u == pytest.approx(case.optimum, rel=1e-4)
    assert dual[:n].sum() < planner_bench.VIOLATION_WEIGHT  # the penalty is exact: crossing does not pay


def test_the_way_round_the_cup_is_free_and_the_straight_one_is_not():
    case = analytic.obstacle()
    corners = np.array([[0.0, 0.0], [0.3, 1.0], [1.0, 1.0], [2.0, 0.0]])
    lengths = [5, 4, 11]
    steps = [np.tile((b - a) / n / analytic.SPEED, (n, 1)) for a, b, n in zip(corners, corners[1:], lengths, strict=False)]
    around = np.concatenate(steps)
    assert len(around) == case.horizon and np.abs(around).max() <= 1
    assert price(case, around) == pytest.approx(case.optimum, abs=1e-6)
    assert price(case, np.tile([0.5, 0.0], (case.horizon, 1))) > 1


def test_the_puzzle_agrees_with_brute_force():
    case = analytic.puzzle(horizon=6)
    plans = jnp.asarray(list(itertools.product(range(4), repeat=6)))
    costs = jax.vmap(lambda plan: case.problem.score(case.latent, plan, jnp.zeros((6, 0)))[0])(plans)
    assert float(costs.min()) == pytest.approx(case.optimum, abs=1e-5)
    assert analytic.puzzle().optimum < -analytic.PRIZE / 2  # the door is within reach
    assert not any(analytic.GRID.flat[situation % 25] for situation in analytic.TRANSITIONS[2 * analytic.SIDE])


def test_planners_are_compared_by_the_recipes_of_exported_ones():
    assert set(planner_budgets.methods()) == set(planner_budgets.RECIPES) <= set(planner_classes())
    with pytest.raises(planners.PlannerError, match="'dreams' has no entry"):
        planner_budgets.recipe("dreams")


@pytest.mark.parametrize("method", planner_budgets.RECIPES)
@pytest.mark.parametrize("budget", [64, 1024])
def test_a_budget_is_kept(method, budget):
    planner = planner_budgets.at_budget(method, horizon=5, trajectories=budget, size=3)
    assert 0.75 * budget * 5 <= planner_budgets.model_evaluations(planner, 3) <= 1.15 * budget * 5


def test_the_reference_is_icem_as_the_issue_fixes_it():
    assert planner_budgets.at_budget("icem", horizon=20, trajectories=1024, size=65) == planners.ICEM(20, 256, 4)


@pytest.mark.parametrize("method", ["cem", "icem", "mppi", "predictivesampling", "randomshooting"])
def test_evaluations_are_those_made(method):
    """Counted on the host, call by call; the result is priced and unrolled beyond the search, a few times at most."""
    calls = []

    def dynamics(latent, action, noise):
        jax.debug.callback(lambda _: calls.append(1), action[0])
        return latent + action

    problem = planners.Problem(dynamics, lambda latent, action, step: (latent**2).sum(), planners.Box([-1.0], [1.0]))
    planner = planner_budgets.at_budget(method, horizon=3, trajectories=64, size=2)
    jax.block_until_ready(planners.plan(planner, problem, jnp.ones(1), planner.init(problem), key=jax.random.key(0)))
    jax.effects_barrier()
    assert 0 <= len(calls) - planner_budgets.model_evaluations(planner, 2) <= 3 * planner.horizon


def test_who_does_not_apply_says_why():
    @dataclass(frozen=True)
    class Physics(planners.Problem):
        differentiable = False

    box = planners.Box([-1.0], [1.0])
    cost = lambda latent, action, step: (latent**2).sum()  # noqa: E731
    physics = Physics(lambda latent, action, noise: latent, cost, box)
    assert "derivatives" in str(planner_budgets.obstacle_to("gradient", physics))
    assert planner_budgets.obstacle_to("cem", physics) is None
    assert "no discrete" in str(planner_budgets.obstacle_to("cem", analytic.puzzle().problem))
    assert "discrete actions only" in str(planner_budgets.obstacle_to("categoricalcem", analytic.obstacle().problem))


def test_cells_are_chosen_by_name():
    every = planner_cells.cells()
    assert len(every) == len(set(every))
    assert {cell.model for cell in every} == {"analytic", "simulator", "jepa"}
    some = planner_cells.cells(["cartpole-swingup"], ["icem"], ["jepa"])
    assert {(cell.horizon, cell.trajectories) for cell in some} >= {(30, 1024), (20, 1024), (30, 64)}
    with pytest.raises(results.ResultError, match="task cartpole is not known"):
        planner_cells.cells(["cartpole"])


def test_a_finished_cell_is_not_measured_again(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(planner_bench, "RESULTS", tmp_path / "planners.jsonl")
    monkeypatch.setattr(planner_bench, "PICTURE", tmp_path / "planners.svg")
    monkeypatch.setitem(planner_cells.BUDGETS, "analytic", (16,))
    choice = (["linear-quadratic"], ["cem", "categoricalcem"], ["analytic"])
    (line,) = planner_bench.bench_planners(*choice, seeds=2, resume=True)
    assert "categoricalcem is left out" in " ".join(capsys.readouterr().out.split())
    assert line["model_evaluations"] == 16 * 20
    assert line["regret_mean"] == pytest.approx(line["cost_mean"] - analytic.linear_quadratic().optimum)
    assert line["regret_mean"] > 0 and line["decision_ms_p50"] > 0
    assert planner_bench.bench_planners(*choice, seeds=2, resume=True) == []
    assert len(planner_bench.bench_planners(*choice, seeds=3, resume=True)) == 1
    (written,) = [json.loads(text) for text in (tmp_path / "planners.jsonl").read_text().splitlines()]
    assert written["episodes"] == 3
    assert (tmp_path / "planners.svg").exists()
    monkeypatch.setattr(planner_bench, "RETIMING", 0.0)
    (again,) = planner_bench.bench_planners(*choice, retimed=True)
    assert again["decision_ms_p50"] != written["decision_ms_p50"]
    assert again["regret_mean"] == written["regret_mean"] and again["episodes"] == 3


def test_a_line_of_a_model_that_is_gone_does_not_finish_its_cell(monkeypatch, tmp_path):
    monkeypatch.setattr(planner_cells, "MODELS", tmp_path)
    cell = Cell("reacher-easy", "jepa", "icem", 20, 64)
    settings = {"horizon": 20, "trajectories": 64}
    line = {"task": cell.task, "model": "jepa", "method": "icem", "settings": settings, "episodes": 10}
    assert not planner_bench.finished(cell, 10, [line])
    (tmp_path / "reacher-easy" / "model").mkdir(parents=True)
    assert planner_bench.finished(cell, 10, [line])
    assert not planner_bench.finished(cell, 11, [line])


@pytest.mark.slow
def test_a_model_is_trained_once_and_acted_on(monkeypatch, tmp_path):
    monkeypatch.setattr(planner_cells, "MODELS", tmp_path)
    task = planner_cells.TASKS["cartpole-swingup"]
    environment = planner_cells.mpc.make(task.environment, action_repeat=planner_cells.ACTION_REPEAT)
    settings = planner_cells.demo.DemoSettings(
        task=task.environment, random_episodes=1, rounds=0, updates=5, collector=planners.ICEM(3, samples=16, elites=4, keep=2)
    )
    model = planner_cells.trained(task, environment, settings)
    monkeypatch.setattr(planner_cells.demo, "learn", None)
    again = planner_cells.trained(task, environment, settings)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(model), jax.tree.leaves(again))
    planner_cells.place.cache_clear()
    line = planner_bench.measure(Cell(task.name, "jepa", "icem", 3, 16), seeds=2)
    planner_cells.place.cache_clear()
    assert line["frames"] == 1000 and 0 <= line["return_mean"] <= 1000
