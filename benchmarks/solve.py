"""`sailplan solve`: a new task on a model that never saw it: its cost, a critic and a policy from imagination, no environment step."""

import contextlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import mpc
import worldmodels
from benchmarks import plots, provenance
from benchmarks.json_file import finite, write_json
from benchmarks.solve_page import solve_page
from mpc.description import usual_planner
from mpc.evaluation import HELD_OUT
from mpc.imagination import ImaginationProgress
from mpc.scoring import return_under
from mpc.terms import cost_in
from planners.errors import require_counts
from worldmodels import manifest
from worldmodels.data import Dataset, Episode
from worldmodels.files import MANIFEST, write_aside

console = Console(markup=False)
LASTING = 0.99  # discount of the critic of a task that has none
NAMES = {"plan": "planner with critic", "mixed": "both modes, mixed"}  # of who acts by a task's mode, beside the policy
SECONDS_A_FRAME = 0.08  # of a film, about


def solve(
    model: tyro.conf.Positional[Path],
    data: tyro.conf.Positional[Path | None] = None,
    *,
    out: Path,
    cost: str = "",
    task: Path | None = None,
    updates: int = 4_000,
    episodes: int = 5,
    seed: int = HELD_OUT,
) -> None:
    """Drive a model by a cost it was not trained for; train critic and policy for it in imagination, then compare who acts.

    Args:
        model: a model's folder, or that of a run which holds model/ and memory/, as explore leaves it.
        data: episodes of the same environment, where imagination starts; if not given, memory/ beside the model. Rewards do not count.
        out: a folder for policy/, critic/, progress.jsonl, solve.json, videos/ and report.html.
        cost: a name of the cost library, such as walker.run, or a Python file that defines cost: a function (readout, action, step), or mpc's.
        task: a TOML file with cost terms, weights, goal, planner and discount, in place of --cost.
        updates: of critic and policy.
        episodes: on unseen seeds, for each who acts.
        seed: of the first episode, and of imagination.
    """
    require_counts(episodes=episodes)
    for kind in ("critic", "policy"):
        manifest.check_replaceable(out / kind, kind)
    loaded, dataset = opened(model, data)
    wanted, own = described(cost, task)
    judged = lasting(wanted)
    body = mpc.Configurator(loaded, costs=own, task=judged)
    alone, settings = planning_alone(body, wanted), mpc.ImaginationSettings(updates=updates, discount=judged.discount)
    with contextlib.closing(mpc.make_for(loaded.spec)) as environment:
        rehearse(body, alone, settings, environment.reset(seed), dataset[0])
        minutes = imagined(body, dataset, settings, seed, out)
        agents = {"random": mpc.RandomAgent(loaded.spec), "planner": alone, **solvers(body)}
        played = {name: mpc.evaluate(environment, agent, episodes=episodes, seed=seed) for name, agent in agents.items()}
        content = {
            "cost": cost or str(task),
            "task": loaded.spec.environment,
            "imagination_minutes": round(minutes, 2),
            "rows": {name: scored(result, body.cost("task"), loaded) for name, result in played.items()},
            "settings": {"updates": updates, "planner": repr(alone.planner), "model": str(model), "data": str(dataset.folder)},
            "seed": seed,
            "commit": provenance.commit(),
            "versions": provenance.versions(),
            "machine": provenance.machine(),
        }
        write_json(out / "solve.json", content)
        show(content)
        films = filmed(environment, {name: played[name].episodes[0] for name in solvers(body)}, out / "videos")
    write_page(out, content, films)


def opened(model: Path, data: Path | None) -> tuple[Any, Dataset]:
    """The model, and the episodes that imagination starts from: those beside it if no others are given."""
    if (model / "model" / MANIFEST).is_file():
        model = model / "model"
    loaded, beside = worldmodels.load(model), model.resolve().with_name("memory")
    if data is None and not beside.is_dir():
        raise worldmodels.DataError(
            f"{beside}: there is no such folder, and no other data are given. Imagination starts from episodes: give a dataset of "
            f"{loaded.spec.environment}, or a model with its memory/ beside it, as sailplan explore leaves them."
        )
    dataset = Dataset.open(data or beside)
    if dataset.spec.environment != loaded.spec.environment:
        raise mpc.ConfigurationError(
            f"{dataset.folder} is of {dataset.spec.environment}, the model of {loaded.spec.environment}."
        )
    dataset[0].check(loaded.spec, f"{dataset.folder}, episode 0")
    return loaded, dataset


def described(cost: str, task: Path | None) -> tuple[mpc.Task, dict[str, Any]]:
    """The task and its own terms, from --cost or --task."""
    if bool(cost) == bool(task):
        raise mpc.ConfigurationError(f"cost={cost!r}, task={task}: expected one of --cost and --task.")
    if task is not None:
        return mpc.Task.read(task), {}
    if not cost.endswith(".py"):
        return mpc.Task({cost: 1.0}), {}
    return mpc.Task({"cost": 1.0}), {"cost": cost_in(cost)}


def lasting(wanted: mpc.Task) -> mpc.Task:
    """The task as a critic judges it: with a discount."""
    if wanted.discount < 1:
        return wanted
    console.print(f"discount = 1: what lasts for ever has no cost to go, the critic takes {LASTING}.", highlight=False)
    return replace(wanted, discount=LASTING)


def planning_alone(body: mpc.Configurator, wanted: mpc.Task) -> mpc.PlanningAgent:
    """Who plans for the task without critic and policy."""
    planner: Any = wanted.planner or usual_planner(body.model.spec)
    if getattr(planner, "proposals", 0):
        planner = replace(planner, proposals=0)  # there is no policy to propose
    return mpc.PlanningAgent(body.model, body.cost("task"), planner, discount=wanted.discount)


def rehearse(
    body: mpc.Configurator, alone: mpc.PlanningAgent, settings: mpc.ImaginationSettings, observation: Any, episode: Episode
) -> None:
    """Trace the decisions that follow imagination, with a critic and a policy that know nothing: what cannot work is told before it."""
    model, price = body.model, body.cost("task")
    size = jax.eval_shape(lambda seen: model.features(model.start(seen)), observation).shape[-1]
    critic, policy = mpc.Critic(size, model.spec, hidden=settings.hidden), mpc.Policy(size, model.spec, hidden=settings.hidden)
    body.solve("task", critic, policy)
    for agent in (alone, body.agent("task")):
        jax.eval_shape(partial(agent.act, agent.reset(observation), observation), key=jax.random.key(0))
    return_under(price, model, episode)


def imagined(body: mpc.Configurator, dataset: Dataset, settings: mpc.ImaginationSettings, seed: int, out: Path) -> float:
    """Learn critic and policy into `out`, set the task up with them, and tell the minutes that it took."""
    out.mkdir(parents=True, exist_ok=True)
    began, report = time.perf_counter(), noted(out / "progress.jsonl")
    critic, policy = mpc.imagine(body.model, body.cost("task"), list(dataset), settings, seed=seed, progress=report)
    minutes = (time.perf_counter() - began) / 60
    mpc.save_policy(mpc.PolicyAgent(body.model, policy), out / "policy")
    mpc.save_critic(critic, out / "critic")
    body.solve("task", critic, policy)
    return minutes


def solvers(body: mpc.Configurator) -> dict[str, Any]:
    """Who acts by what was learned: the policy, and the planner that has it and the critic too."""
    reacting = {"policy": mpc.PolicyAgent(body.model, body.solutions["task"].policy)}
    mode = body.tasks["task"].mode
    return reacting | ({NAMES[mode]: body.agent("task")} if mode in NAMES else {})


def noted(path: Path) -> Callable[[ImaginationProgress], None]:
    """Writes each report as a line of `path`, begun anew, and says every thousandth update."""
    path.unlink(missing_ok=True)

    def note(report: ImaginationProgress) -> None:
        with path.open("a") as file:
            file.write(json.dumps(finite(report._asdict())) + "\n")
        if report.updates % 1000 == 0 or report.updates == report.total:
            said = f"{report.updates} of {report.total} updates: the policy is expected to cost {report.cost_to_go:.3g}"
            console.print(said, highlight=False)

    return note


def scored(result: mpc.Evaluation, cost: mpc.TaskCost, model: Any) -> dict[str, Any]:
    """Return by `cost` and decision latency on unseen seeds."""
    returns = np.array([return_under(cost, model, episode) for episode in result.episodes])
    own = {"return_mean": float(returns.mean()), "return_ci95": mpc.confidence_interval(returns)}
    return {**result.summary(), **own, "returns": np.round(returns, 2).tolist()}


def show(content: dict[str, Any]) -> None:
    """The rows as a table on the console."""
    title = f"{content['imagination_minutes']:.1f} minutes of imagination"
    table = Table("who acts", "return by this cost", "decision, ms", "reacted", title=title)
    for name, row in content["rows"].items():
        reacted = f"{row['reacted_share']:.0%}" if "reacted_share" in row else ""
        table.add_row(name, f"{row['return_mean']:.1f} ± {row['return_ci95']:.1f}", f"{row['decision_ms_p50']:.2f}", reacted)
    console.print(table)


def filmed(environment: mpc.Environment, episodes: Mapping[str, Episode], folder: Path) -> list[Path]:
    """A GIF of each one's episode, in real time; none, and a sentence, where nothing draws."""
    films = {folder / f"{re.sub(r'[^a-z]+', '-', name)}.gif": episode for name, episode in episodes.items()}
    folder.mkdir(exist_ok=True)
    for path in films:
        path.unlink(missing_ok=True)  # of an older run
    seconds = environment.spec.seconds_per_step
    every = max(1, round(SECONDS_A_FRAME / seconds))
    try:
        for path, episode in films.items():
            frames = mpc.record(environment, episode.actions, episode.seed, width=240, height=180)
            mpc.write_gif(path, frames[::every], every * seconds)
    except mpc.RenderingError as error:
        console.print(f"no videos: {error}", highlight=False)
        return []
    return list(films)


def write_page(out: Path, content: dict[str, Any], films: list[Path]) -> None:
    """`out`/report.html, replaced whole; without matplotlib none, and a sentence."""
    progress = [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()]
    try:
        page = solve_page(finite(content), progress, films)
    except plots.MissingExtraError as error:
        console.print(f"no report: {error}", highlight=False)
        return
    write_aside(out / "report.html", page.encode())
    console.print(f"{out}: the report is {out / 'report.html'}, the policy is in {out / 'policy'}", highlight=False)
