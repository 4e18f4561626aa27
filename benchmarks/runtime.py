"""`sailplan bench runtime`: the controller under faults, deadlines and delay, and what runs without JAX, into runtime.jsonl.

One agent a task, learned by `sailplan learn` under runs/runtime/ where it is not there yet. One line a task and method; a cell that
is in the file is measured again only if it is named.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import mpc
from benchmarks import results
from benchmarks.control import ACTION_REPEAT, identifier
from benchmarks.faults import LOOP
from benchmarks.runtime_cells import (
    AHEAD,
    FIFTY,
    FIRST_SEED,
    SMALL,
    Setting,
    driven,
    exported_planner,
    exported_policy,
    policy_only,
)
from mpc.learning import RunSettings
from mpc.learning import learn as learn_in
from mpc.learning.run import begun

RESULTS = results.RESULTS / "runtime.jsonl"
RUNS = Path("runs/runtime")
TASKS = ("cartpole-swingup", "walker-walk", "cheetah-run")
FRAMES = 25_000
DELAY = 0.04

SETTINGS = {
    "clean": Setting(5_000, SMALL, deadline=FIFTY),
    "faults-1-percent": Setting(12_000, SMALL, 0.01, deadline=FIFTY),
    "faults-30-percent": Setting(16_000, SMALL, 0.3, deadline=FIFTY),
    "beside": Setting(2_500, AHEAD, asynchronous=True, simulated=True),
    "beside-faults-30-percent": Setting(6_000, AHEAD, 0.3, asynchronous=True, simulated=True),
    "thread-clean": Setting(500, AHEAD, asynchronous=True, seconds=FIFTY),
    "thread-faults-10-percent": Setting(500, AHEAD, 0.1, (*LOOP, *["killed"] * 4), asynchronous=True, seconds=FIFTY),
    "50-hz": Setting(3_000, deadline=FIFTY, seconds=FIFTY),
    "undelayed": Setting(3_000),
    "delay-40-ms": Setting(3_000, delayed=DELAY),
    "delay-40-ms-compensated": Setting(3_000, delayed=DELAY, compensated=True),
}
"""Cells in which a controller drives its task: `faults-*` in the loop, `beside-*` planned on a simulated clock beside it, `thread-*`
in a real thread in real time, in which that thread is killed too."""

STEPS = 1_000_000  # of the policy alone

CELLS = (*SETTINGS, "policy-only", "onnx-policy", "iree-planner")
ONE_TASK = {"policy-only": "cartpole-swingup", "50-hz": "cartpole-swingup"}
"""Cells that are measured on one task, whose model step is that of 50 Hz."""


def bench_runtime(
    tasks: Sequence[str] = (), methods: Sequence[str] = (), *, again: bool = False, share: float = 1.0
) -> list[dict[str, Any]]:
    """Every cell that is not in the file yet, or every chosen one `again`; with a `share` of its decisions. The lines written."""
    unknown = sorted(set(methods) - set(CELLS))
    if unknown:
        raise results.ResultError(f"no method {unknown}: expected some of {', '.join(CELLS)}.")
    lines = []
    for task in tasks or TASKS:
        folder = agent_of(task)
        for method in methods or CELLS:
            if ONE_TASK.get(method, task) != task:
                continue
            settings = SETTINGS[method].describe() if method in SETTINGS else {}
            settings.pop("decisions", None)
            known = {(line["task"], line["method"]) for line in results.read_lines(RESULTS)}
            if (identifier(task), method) in known and not again:
                continue
            line = {"benchmark": "runtime", "task": identifier(task), "method": method, "settings": settings}
            line |= {"seed": FIRST_SEED, "frames": FRAMES, **_cell(method, share)(folder)}
            lines.append(results.write_line(RESULTS, line))
            console.print(_said(line), highlight=False)
    return lines


def _cell(method: str, share: float) -> Callable[[Path], dict[str, Any]]:
    if method in SETTINGS:
        return driven(SETTINGS[method]._replace(decisions=round(share * SETTINGS[method].decisions)))
    alone = {"policy-only": policy_only(round(share * STEPS)), "onnx-policy": exported_policy, "iree-planner": exported_planner}
    return alone[method]


def agent_of(task: str) -> Path:
    """The task's learned agent; learned now where it is not there (some five minutes on an idle core)."""
    folder = RUNS / task
    if not (folder / "agent").is_dir():
        environment = mpc.make(identifier(task), action_repeat=ACTION_REPEAT)
        console.print(f"learning {task} for {FRAMES} frames", highlight=False)
        learn_in(environment, folder, frames=FRAMES, seed=0, settings=RunSettings(), resume=begun(folder))
    return folder / "agent"


def _said(line: dict[str, Any]) -> str:
    names = ("decisions", "exceptions", "limit_violations", "unnamed_faults", "deadline_missed", "return_mean", "error_max")
    names += ("step_ms_p50", "step_ms_p99", "overhead_ms_p99", "jax_ms_p50", "memory_growth_mb", "minutes")
    said = [f"{name} {line[name]:.4g}" for name in names if name in line]
    return f"{line['task']} {line['method']}: {', '.join(said)} {line.get('unnamed') or ''}"


console = Console(markup=False)
