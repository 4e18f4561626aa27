"""`sailplan solve`: a new task on a model that never saw it: its cost, a critic and a policy from imagination, no environment step."""

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import mpc
import worldmodels
from benchmarks.json_file import write_json
from mpc.evaluation import HELD_OUT
from mpc.scoring import return_under
from mpc.terms import cost_in
from planners.errors import require_counts
from worldmodels import manifest
from worldmodels.data.dataset import Dataset

console = Console(markup=False)
LASTING = 0.99  # discount of the critic of a task that has none


def solve(
    model: tyro.conf.Positional[Path],
    data: tyro.conf.Positional[Path],
    out: Path,
    cost: str = "",
    task: Path | None = None,
    updates: int = 4_000,
    episodes: int = 5,
    seed: int = HELD_OUT,
) -> None:
    """Drive a model by a cost it was not trained for; train critic and policy for it in imagination, then compare who acts.

    Args:
        model: a model's folder.
        data: a dataset of the same environment: where imagination starts. Its rewards, if any, are not looked at.
        out: a folder for policy/, critic/ and solve.json.
        cost: a name of the cost library, such as walker.run, or a Python file that defines cost(readout, action, step).
        task: a TOML file with cost terms, weights, goal, planner and discount, in place of --cost.
        updates: of critic and policy.
        episodes: on unseen seeds, for each who acts.
        seed: of the first episode.
    """
    require_counts(episodes=episodes)
    for kind in ("critic", "policy"):
        manifest.check_replaceable(out / kind, kind)
    loaded, dataset = worldmodels.load(model), Dataset.open(data)
    if dataset.spec.environment != loaded.spec.environment:
        raise mpc.ConfigurationError(f"{data} is of {dataset.spec.environment}, the model of {loaded.spec.environment}.")
    wanted, own = described(cost, task)
    judged = wanted
    if wanted.discount == 1:
        judged = replace(wanted, discount=LASTING)
        console.print(f"discount = 1: what lasts for ever has no cost to go, the critic takes {LASTING}.", highlight=False)
    body = mpc.Configurator(loaded, costs=own, task=judged, plain=replace(wanted, mode="plan"))
    settings = mpc.ImaginationSettings(updates=updates, discount=judged.discount)
    environment = mpc.make_for(loaded.spec)  # refused before minutes of imagination, where it is not there

    def show(report: Any) -> None:
        if report.updates % 1000 == 0 or report.updates == report.total:
            said = f"{report.updates} of {report.total} updates: the policy is expected to cost {report.cost_to_go:.3g}"
            console.print(said, highlight=False)

    began = time.perf_counter()
    critic, policy = mpc.imagine(loaded, body.cost("task"), list(dataset), settings, seed=seed, progress=show)
    minutes = (time.perf_counter() - began) / 60
    mpc.save_policy(mpc.PolicyAgent(loaded, policy), out / "policy")
    mpc.save_critic(critic, out / "critic")
    agents = {"planner": body.agent("plain"), "policy": mpc.PolicyAgent(loaded, policy)}
    body.solve("task", critic, policy)
    if wanted.mode != "react":
        agents["planner with critic" if wanted.mode == "plan" else "both modes, mixed"] = body.agent("task")
    agents = {"random": mpc.RandomAgent(loaded.spec), **agents}
    with contextlib.closing(environment):
        rows = {name: scored(environment, agent, body.cost("task"), loaded, episodes, seed) for name, agent in agents.items()}
    content = {"cost": cost or str(task), "imagination_minutes": round(minutes, 2), "rows": rows}
    write_json(out / "solve.json", content)
    table = Table("who acts", "return by this cost", "decision, ms", "reacted", title=f"{minutes:.1f} minutes of imagination")
    for name, row in rows.items():
        reacted = f"{row['reacted_share']:.0%}" if "reacted_share" in row else ""
        table.add_row(name, f"{row['return_mean']:.1f} ± {row['return_ci95']:.1f}", f"{row['decision_ms_p50']:.2f}", reacted)
    console.print(table)


def described(cost: str, task: Path | None) -> tuple[mpc.Task, dict[str, Any]]:
    """The task and its own terms, from --cost or --task."""
    if bool(cost) == bool(task):
        raise mpc.ConfigurationError(f"cost={cost!r}, task={task}: expected one of --cost and --task.")
    if task is not None:
        return mpc.Task.read(task), {}
    if not cost.endswith(".py"):
        return mpc.Task({cost: 1.0}), {}
    return mpc.Task({"cost": 1.0}), {"cost": cost_in(cost)}


def scored(environment: mpc.Environment, agent: Any, cost: Any, model: Any, episodes: int, seed: int) -> dict[str, Any]:
    """Return by `cost` and decision latency on unseen seeds."""
    result = mpc.evaluate(environment, agent, episodes=episodes, seed=seed)
    returns = np.array([return_under(cost, model, episode) for episode in result.episodes])
    own = {"return_mean": float(returns.mean()), "return_ci95": mpc.confidence_interval(returns)}
    return {**result.summary(), **own, "returns": np.round(returns, 2).tolist()}
