"""`sailplan bench control`: the learning agent on the control tasks, against frames and minutes, beside published results.

One run a task and seed, each evaluated at the same numbers of frames; every cell is a line of benchmarks/results/control.jsonl.
A run that was stopped goes on where it was; a run whose lines are all there is left out.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import mpc
import planners
from benchmarks import results
from benchmarks.control_plot import plot_control
from benchmarks.learn import evaluations
from benchmarks.provenance import machine
from benchmarks.table_text import group_by_accelerator
from mpc.evaluation import HELD_OUT
from mpc.learning import Run, RunSettings
from mpc.learning import learn as learn_in
from mpc.learning.run import begun
from worldmodels.files import write_aside

RESULTS = results.RESULTS / "control.jsonl"
RUNS = Path("runs/control")
ACTION_REPEAT = 2
EPISODES = 10
LAST = "planner"  # recorded after the others: a milestone without it is not done
LATE = 2_500  # frames after a milestone, by which it is passed in a round at most
FRAMES = (10_000, 25_000, 50_000, 100_000)
TASKS = (
    "pendulum-swingup",
    "cartpole-balance",
    "cartpole-swingup",
    "cartpole-swingup_sparse",
    "reacher-easy",
    "reacher-hard",
    "ball_in_cup-catch",
    "finger-spin",
    "cheetah-run",
    "walker-walk",
    "walker-run",
    "hopper-hop",
)
THREADS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
console = Console(markup=False)


def identifier(task: str) -> str:
    """dm_control's short names as Gymnasium ids; ids stay what they are."""
    return task if "/" in task or "-v" in task else f"dm_control/{task}-v0"


def bench_control(tasks: Sequence[str], seeds: Sequence[int], frames: int, *, together: int = 1) -> list[dict[str, Any]]:
    """Every missing run, `together` at a time on one core each, then random's row; the lines of all of them."""
    wanted = [(identifier(task), seed) for seed in seeds for task in tasks or TASKS]
    running: dict[int, tuple[str, subprocess.Popen]] = {}  # by core
    cores = sorted(os.sched_getaffinity(0))[:together]
    failed = []
    while wanted or running:
        for core, (name, process) in list(running.items()):
            if process.poll() is not None:
                del running[core]
                failed += [f"{RUNS / name}.log"] if process.returncode else []
        for core in set(cores) - set(running):
            if wanted:
                task, seed = wanted.pop(0)
                running[core] = name_of(task, seed), start(task, seed, frames, core)
                console.print(f"{task}, seed {seed}: to {frames} frames on core {core}", highlight=False)
        time.sleep(1)
    chosen = {identifier(task) for task in tasks or TASKS}
    lines = results.read_lines(RESULTS)
    for path in plot_control(lines):
        console.print(f"the picture: {path}")
    if failed:
        raise results.ResultError(f"{len(failed)} runs failed; {', '.join(failed)} tell why.")
    return [line for line in lines if line["task"] in chosen]


def start(task: str, seed: int, frames: int, core: int) -> subprocess.Popen:
    """One run in a process of its own, on one core and with one thread, as the published minutes are counted."""
    environment = {**os.environ, "XLA_FLAGS": THREADS, "OMP_NUM_THREADS": "1"}
    log = RUNS / f"{name_of(task, seed)}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.control", task, str(seed), str(frames)]
    with log.open("a") as file:
        return subprocess.Popen(
            command, env=environment, stdout=file, stderr=file, preexec_fn=lambda: os.sched_setaffinity(0, {core})
        )


def name_of(task: str, seed: int) -> str:
    return f"{task.replace('dm_control/', '')}-{seed}"


def missing(task: str, seed: int, frames: int) -> list[int]:
    """The evaluations of a run as it is set now that no line of this accelerator, or of none, holds yet."""
    lines = group_by_accelerator(results.read_lines(RESULTS)).get(str(machine()["accelerator"] or ""), [])
    cell = (task, seed, LAST, described())
    known = {line["frames"] for line in lines if (line["task"], line["seed"], line["method"], line["settings"]) == cell}
    return [at for at in sorted({*FRAMES, frames}) if at <= frames and at not in known]


def described() -> dict[str, Any]:
    """The settings of a learner's lines."""
    return {"action_repeat": ACTION_REPEAT, "run": repr(RunSettings())}


def run_task(task: str, seed: int, frames: int) -> None:
    """Learn `task`, and record planner and policy whenever one of `FRAMES` is reached.

    Minutes are those that processors worked for the run: the wall's on a core that nothing else wants, about those beside an accelerator.
    """
    if not missing(task, seed, frames):
        console.print(f"{task}, seed {seed}: measured already", highlight=False)
        return
    folder, environment = RUNS / name_of(task, seed), mpc.make(task, action_repeat=ACTION_REPEAT)
    unseen = environment.copy()
    evaluating = 0.0
    known = minutes_before(folder)
    began = time.process_time()
    if not any(line["method"] == "random" and line["task"] == task for line in results.read_lines(RESULTS)):
        row = mpc.evaluate(unseen, mpc.RandomAgent(environment.spec), episodes=EPISODES, seed=HELD_OUT).summary()
        record(task, "random", 0, 0, {"action_repeat": ACTION_REPEAT}, row, 0.0)
        began = time.process_time()

    def milestone(run: Run) -> None:
        nonlocal evaluating
        now = time.process_time()
        minutes = known + (now - began - evaluating) / 60
        write_aside(folder / "minutes", str(minutes).encode())
        due = [at for at in missing(task, seed, frames) if 0 <= run.frames_learned - at < LATE]
        rows = evaluations(unseen, run, EPISODES) if due else {}
        for at in due:
            for method in sorted(rows, key=lambda method: method == LAST):
                record(task, method, seed, at, described(), {**rows[method], "frames_seen": run.frames_learned}, minutes)
        evaluating += time.process_time() - now

    run = learn_in(environment, folder, frames=frames, seed=seed, resume=begun(folder), milestone=milestone)
    milestone(run)  # where the last one was cut off


def minutes_before(folder: Path) -> float:
    """What earlier processes spent on this run, evaluations left out."""
    path = folder / "minutes"
    return float(path.read_text()) if path.exists() else 0.0


def record(task: str, method: str, seed: int, frames: int, settings: dict, row: dict[str, Any], minutes: float) -> None:
    cell = {"benchmark": "control", "task": task, "method": method, "settings": settings, "seed": seed, "frames": frames}
    results.write_line(RESULTS, {**cell, **row, "minutes": round(minutes, 2)})
    console.print(f"{task} {method} {frames}: {row['return_mean']:.1f} ± {row['return_ci95']:.1f}", highlight=False)


def bench_simulator(tasks: Sequence[str], episodes: int = 5) -> None:
    """The ceiling: iCEM 64 × 15 × 2 on MuJoCo itself under the task's reward as a cost, where `mpc.tasks` knows it."""
    planner = planners.ICEM(horizon=15, samples=64, iterations=2, elites=8, keep=4)
    for task in map(identifier, tasks or TASKS):
        cost = mpc.cost(mpc.tasks.lookup(task))
        environment = mpc.make(task, action_repeat=ACTION_REPEAT, privileged=True)
        began = time.perf_counter()
        agent = mpc.PlanningAgent(mpc.simulator(environment), cost, planner)
        row = mpc.evaluate(environment, agent, episodes=episodes, seed=HELD_OUT).summary()
        minutes = (time.perf_counter() - began) / 60
        record(task, "simulator", 0, 0, {"action_repeat": ACTION_REPEAT, "planner": repr(planner)}, row, minutes)


if __name__ == "__main__":
    run_task(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
