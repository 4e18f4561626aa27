"""The main job end to end: observe, learn, plan, distil, on cartpole-swingup, and a report to look at."""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import mpc
import planners
import worldmodels
from benchmarks import plots, provenance, report, results
from benchmarks.open_loop import open_loop
from worldmodels.files import write_aside

RESULTS = Path(__file__).parent / "results" / "demo.jsonl"
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "demo.png"
console = Console(markup=False)


@dataclass(frozen=True)
class DemoSettings:
    """What the demo does, all of it.

    Attributes:
      random_episodes: before the first training.
      rounds: of train, plan, collect with the planner.
      episodes: collected a round.
      updates: a round; twice as many after the last.
      evaluated: unseen seeds of each row.
    """

    task: str = "dm_control/cartpole-swingup-v0"
    action_repeat: int = 4
    random_episodes: int = 5
    rounds: int = 6
    episodes: int = 2
    updates: int = 1_000
    training: worldmodels.TrainingSettings = worldmodels.TrainingSettings(batch=128)
    evaluated: int = 5

    collector: planners.ICEM = planners.ICEM(horizon=30, samples=128)
    cem: planners.CEM = planners.CEM(horizon=30, samples=128, iterations=4, elites=16)
    gradient: planners.Gradient = planners.Gradient(horizon=30, starts=4, iterations=30)
    simulator: planners.ICEM = planners.ICEM(horizon=30, samples=64, iterations=2, elites=8, keep=4)
    distillation: mpc.DistillationSettings = mpc.DistillationSettings(episodes=4, rounds=2)


class Journal:
    """Lines of `progress.jsonl`, and how long each stage took."""

    def __init__(self, folder: Path):
        self.path = folder / "progress.jsonl"
        self.began = time.perf_counter()
        self.seconds: dict[str, float] = {"collect": 0.0, "train": 0.0, "plan": 0.0, "distil": 0.0}

    def write(self, event: str, **fields: Any) -> None:
        line = {"event": event, "seconds": round(time.perf_counter() - self.began, 2), **fields}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    @contextmanager
    def stage(self, name: str):
        """Count the time spent inside towards `name`."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start


def learn(environment: mpc.Environment, settings: DemoSettings, journal: Journal, folder: Path, seed: int) -> worldmodels.JEPA:
    """A few random episodes, then rounds of training and collecting with the planner."""
    training = settings.training
    state = worldmodels.start(worldmodels.JEPA(environment.spec, seed=seed), training)
    with journal.stage("collect"):
        data = mpc.collect(environment, episodes=settings.random_episodes, seed=seed, out=folder / "data")
    say(f"random episodes returned {mean_return(data):.0f} on average")
    for round_ in range(settings.rounds + 1):
        last = round_ == settings.rounds
        with journal.stage("train"):
            updates = settings.updates * (2 if last else 1)
            note = note_training(journal, round_, data.frames)
            key = jax.random.fold_in(jax.random.key(seed), round_)
            state = worldmodels.advance(state, data, training, updates=updates, key=key, progress=note)
        if last:
            return state.model
        agent = mpc.PlanningAgent(state.model, mpc.LearnedCost(), settings.collector)
        known = len(data)
        with journal.stage("collect"):
            data = mpc.collect(
                environment,
                episodes=known + settings.episodes,
                seed=seed,
                agent=agent,
                copies=settings.episodes,
                out=folder / "data",
            )
        new = [episode.total_return for episode in data[known:]]
        journal.write("round", round=round_ + 1, frames=data.frames, return_mean=float(np.mean(new)), returns=new)
        say(
            f"round {round_ + 1} of {settings.rounds}: {data.frames} frames, the planner's episodes returned {np.mean(new):.0f}"
        )
    raise AssertionError("unreachable: the last round returns")


def note_training(journal: Journal, round_: int, frames: int) -> Callable[[worldmodels.Progress], None]:
    """A callback that writes each training report to the journal."""

    def note(progress: worldmodels.Progress) -> None:
        fields = {"losses": progress.losses, "effective_rank": progress.effective_rank}
        journal.write("train", round=round_, frames=frames, update=progress.updates, **fields)

    return note


def simulator_agent(settings: DemoSettings) -> tuple[mpc.Environment, mpc.PlanningAgent]:
    """iCEM on MuJoCo itself, driven by the task's own reward as a cost: the ceiling."""
    environment = mpc.make(settings.task, action_repeat=settings.action_repeat, privileged=True)
    cost = mpc.cost(mpc.tasks.lookup(settings.task))
    return environment, mpc.PlanningAgent(mpc.simulator(environment), cost, settings.simulator)


def rows_of(
    environment: mpc.Environment, agents: dict[str, Any], settings: DemoSettings, journal: Journal
) -> tuple[list[dict[str, Any]], dict[str, mpc.Evaluation]]:
    """Every agent on the same unseen seeds."""
    rows, evaluations = [], {}
    for name, agent in agents.items():
        with journal.stage("plan"):
            where = simulator_agent(settings)[0] if name == "simulator" else environment
            evaluations[name] = mpc.evaluate(where, agent, episodes=settings.evaluated, seed=10_000)
        rows.append({"name": name, **evaluations[name].summary()})
        say(f"{name}: return {rows[-1]['return_mean']:.0f} ± {rows[-1]['return_ci95']:.0f}")
    return rows, evaluations


def measured_before(settings: DemoSettings) -> dict[str, Any] | None:
    """The simulator's row as measured by `sailplan demo --full --record`, from the committed results."""
    for line in results.read_lines(RESULTS):
        if line["method"] == "simulator" and line["task"] == settings.task:
            fields = ("return_mean", "return_ci95", "episodes", "decision_ms_p50", "decision_ms_p99")
            note = f"read from benchmarks/results/demo.jsonl, measured at commit {line['commit']}; sailplan demo --full measures it here"
            return {"name": "simulator", **{name: line[name] for name in fields}, "note": note}
    return None


def first_plans(environment: mpc.Environment, agents: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How each planner lowers the predicted cost, iteration by iteration, at the first decision of one episode."""
    observation = environment.reset(seed=10_000)
    latency = {row["name"]: row["decision_ms_p50"] for row in rows}
    plans = []
    for name, agent in agents.items():
        decision, _ = agent.act(agent.reset(observation), observation, key=jax.random.key(0))
        best = np.asarray(decision.plan.diagnostics.best_cost).tolist()
        plans.append({"name": name, "best_cost": best, "decision_ms_p50": latency[name]})
    return plans


def film(environment: mpc.Environment, evaluations: dict[str, mpc.Evaluation], folder: Path) -> None:
    """A GIF of the first unseen seed of every row; without a rendering backend, none, and a sentence."""
    if mpc.rendering_backend() is None:
        say("no rendering backend: the report has no videos (`sailplan doctor` says what to install)")
        return
    (folder / "videos").mkdir(exist_ok=True)
    for name, evaluation in evaluations.items():
        episode = evaluation.episodes[0]
        frames = mpc.record(environment, episode.actions, episode.seed, width=240, height=180)
        mpc.write_gif(folder / "videos" / f"{name}.gif", frames[::2], 2 * environment.spec.seconds_per_step)


def record_lines(summary: dict[str, Any], settings: DemoSettings, seed: int) -> None:
    """Append the rows to benchmarks/results/demo.jsonl, from which README's table is made."""
    searches = {
        "simulator": settings.simulator,
        "cem": settings.cem,
        "gradient": settings.gradient,
        "policy": settings.gradient,
    }
    for row in summary["rows"]:
        described = {"action_repeat": settings.action_repeat, "planner": repr(searches.get(row["name"]))}
        cell = {"benchmark": "demo", "task": summary["task"], "method": row["name"], "settings": described, "seed": seed}
        metrics = {name: value for name, value in row.items() if name not in ("name", "note")}
        frames = summary["frames"] if row["name"] in ("cem", "gradient", "policy") else 0
        minutes = round(summary["wall_seconds"]["total"] / 60, 2)
        results.write_line(RESULTS, {**cell, "frames": frames, **metrics, "minutes": minutes})


def demo(out: Path = Path("runs/demo"), full: bool = False, record: bool = False, seed: int = 0) -> None:
    """The main job on dm_control's cartpole-swingup, with a report at the end.

    Args:
        out: everything is written there; an older run is replaced.
        full: measure the planner on the true simulator here instead of reading its committed figures.
        record: write the rows into benchmarks/results/demo.jsonl, from which README's table is made, and README's picture.
        seed: of data, model and search.
    """
    settings = DemoSettings()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    journal = Journal(out)
    environment = mpc.make(settings.task, action_repeat=settings.action_repeat)
    model = learn(environment, settings, journal, out, seed)
    worldmodels.save(model, out / "model")

    planning = {
        "cem": mpc.PlanningAgent(model, mpc.LearnedCost(), settings.cem),
        "gradient": mpc.PlanningAgent(model, mpc.LearnedCost(), settings.gradient),
    }
    with journal.stage("distil"):
        policy = mpc.distil(
            planning["gradient"], environment, settings.distillation, seed=seed + 1_000, progress=note_distil(journal)
        )
    reacting = mpc.PolicyAgent(model, policy)
    mpc.save_policy(reacting, out / "policy")

    known = None if full else measured_before(settings)
    ceiling = {} if known else {"simulator": simulator_agent(settings)[1]}
    agents = {"random": mpc.RandomAgent(environment.spec), **ceiling, **planning, "policy": reacting}
    rows, evaluations = rows_of(environment, agents, settings, journal)
    if known:
        rows.insert(1, known)

    data = worldmodels.Dataset.open(out / "data")
    write_json(out / "open_loop.json", open_loop(model, evaluations["cem"].episodes))
    write_json(out / "plans.json", {"planners": first_plans(environment, planning, rows)})
    film(environment, evaluations, out)
    seconds = {**journal.seconds, "total": time.perf_counter() - journal.began}
    summary = {
        "task": settings.task,
        "frames": data.frames,
        "wall_seconds": {name: round(value, 1) for name, value in seconds.items()},
        "rows": rows,
        "settings": {"demo": repr(settings), "model": asdict(model.settings), "seed": seed},
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "machine": provenance.machine(),
    }
    write_json(out / "summary.json", summary)
    environment.close()
    page = report.write_report(out)
    if record:
        record_lines(summary, settings, seed)
        plots.plot_demo(summary, json.loads((out / "open_loop.json").read_text()), PICTURE)
    show(summary, page)


def note_distil(journal: Journal):
    """A callback that says and writes how distillation goes."""

    def note(progress) -> None:
        journal.write("distil", round=progress.round, states=progress.states, loss=progress.loss)
        acted = f", the policy's episodes returned {progress.policy_return:.0f}" if progress.round else ""
        say(f"distil round {progress.round}: {progress.states} labelled states, loss {progress.loss:.4f}{acted}")

    return note


def show(summary: dict[str, Any], page: Path) -> None:
    """The table a person reads at the end."""
    table = Table("", "return", "decision p50", "p99", title=f"{summary['task']}, {summary['frames']} frames")
    for row in summary["rows"]:
        spread = f"{row['return_mean']:.0f} ± {row['return_ci95']:.0f}"
        table.add_row(row["name"], spread, f"{row['decision_ms_p50']:.2f} ms", f"{row['decision_ms_p99']:.2f} ms")
    console.print(table)
    console.print(f"{summary['wall_seconds']['total']:.0f} s in all; the report: {page}")


def mean_return(episodes: Any) -> float:
    return float(np.mean([episode.total_return for episode in episodes]))


def write_json(path: Path, content: Any) -> None:
    write_aside(path, json.dumps(content, indent=1).encode())


def say(text: str) -> None:
    console.print(text, highlight=False)
