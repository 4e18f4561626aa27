"""`sailplan bench speed`: our planners against PyTorch's on equal work, a plain scan and the machine's matmul rate, in turn."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

import planners
from benchmarks import results, roofline
from benchmarks.speed_plot import plot_speed
from benchmarks.timing import Stopwatch, Timing, interleaved
from benchmarks.workloads import WORKLOADS, Workload, network, plain_scan, problem

RESULTS = results.RESULTS / "speed.jsonl"
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "speed.svg"
STEPS, STARTS = 10, 16  # of the gradient planners
BATCHES = (1, 8, 64)
PEERS = ("pytorch-mppi", "stable-worldmodel-")  # how their method names begin
NEEDED = ("torch", "pytorch_mppi", "stable_worldmodel", "loguru", "einops")
INSTALL = "pip install 'sailplan[peers]' && pip install --no-deps stable-worldmodel==0.1.1"
SECONDS, QUICK = 30.0, 1.0  # of timing a workload
TOLERATED = 0.1  # share of the machine that others may take before a line is not worth recording
SHOWN = ("ms_p50", "ms_p99", "roofline_fraction", "speedup_over_fastest_peer", "share_of_icem")
console = Console(markup=False)

Calls = dict[str, Callable[[], Any]]


def missing_peers() -> list[str]:
    """The modules that would have to be installed before the peers can run."""
    return [name for name in NEEDED if name not in sys.modules and importlib.util.find_spec(name) is None]


def our_planners(workload: Workload) -> dict[str, planners.Planner]:
    """Ours by method name, on the workload's samples, horizon and iterations."""
    search: dict[str, Any] = {name: getattr(workload, name) for name in ("horizon", "samples", "iterations", "proposals")}
    gradient: dict[str, Any] = {"horizon": workload.horizon, "iterations": STEPS}
    return {
        "cem": planners.CEM(**search, elites=workload.elites),
        "icem": planners.ICEM(**search, elites=workload.elites, keep=min(5, workload.elites)),
        "mppi": planners.MPPI(**search),
        "gradient": planners.Gradient(**gradient, starts=1),
        f"gradient-{STARTS}": planners.Gradient(**gradient, starts=STARTS),
    }


def decision(planner: planners.Planner, made: planners.Problem, latent: Any, batch: int | None = None) -> Callable[[], Any]:
    """One warm-started decision by the public call; with `batch`, of so many environments at once by `jax.vmap`."""
    state = planner.init(made)
    keys = cycle([jax.random.key(i) for i in range(16)])
    if batch is None:
        return lambda: planners.plan(planner, made, latent, state, key=next(keys))

    @jax.jit
    def decide(made, latents, states, keys):
        one = lambda latent, state, key: planners.plan(planner, made, latent, state, key=key)  # noqa: E731
        return jax.vmap(one)(latents, states, keys)

    latents = latent + 0.1 * jax.random.normal(jax.random.key(0), (batch, *latent.shape))
    states = jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *x.shape)), state)
    batched = cycle([jax.random.split(jax.random.key(i), batch) for i in range(4)])
    return lambda: decide(made, latents, states, next(batched))


def baseline(workload: Workload, made: planners.Problem, latent: Any) -> Callable[[], Any]:
    """The plain scan's decision."""
    key = jax.random.key(0)
    return lambda: plain_scan(workload, network(made), latent, key)


def model_steps(workload: Workload, method: str) -> int:
    """Applications of the network in one decision: the search's own, not those that price or unroll the result."""
    if "gradient" not in method:
        return workload.model_steps
    return STEPS * workload.horizon * (STARTS if method.endswith(f"-{STARTS}") else 1)


def flops(workload: Workload, method: str) -> int:
    """Operations in the matrices of these model steps. A gradient costs a second pass: none is needed for the weights."""
    return workload.step_flops * model_steps(workload, method) * (2 if "gradient" in method else 1)


def fastest_peer(timings: Mapping[str, Timing], method: str) -> float | None:
    """p50 of the fastest peer that does the same work as `method`; None where no peer ran."""
    work = method[method.find("gradient") :] if "gradient" in method else "sampling"
    same = [
        timing.p50
        for name, timing in timings.items()
        if name.startswith(PEERS) and (name.endswith(work) if work != "sampling" else "gradient" not in name)
    ]
    return min(same, default=None)


def fields(workload: Workload, method: str, timings: Mapping[str, Timing], peak: float) -> dict[str, Any]:
    """The metrics of one method's line; `peak` in 1e9 operations per second."""
    timing, peer, icem = timings[method], fastest_peer(timings, method), timings.get("icem")
    return {
        "ms_p50": timing.p50,
        "ms_p99": timing.p99,
        "model_steps_per_second": 1e3 * model_steps(workload, method) / timing.p50,
        "roofline_fraction": flops(workload, method) / timing.p50 / 1e6 / peak,
        "speedup_over_fastest_peer": None if peer is None else peer / timing.p50,
        "share_of_icem": None if icem is None else timing.p50 / icem.p50,
        "calls": timing.calls,
    }


def compare(workload: Workload, seconds: float, with_peers: bool) -> list[dict[str, Any]]:
    """Lines of every method on one workload, and of the roofline measured in the same rounds."""
    watch = Stopwatch()
    made, latent = problem(workload)
    products = roofline.products(workload.samples, workload.layers)
    calls: Calls = {name: decision(planner, made, latent) for name, planner in our_planners(workload).items()}
    calls["plain-scan"] = baseline(workload, made, latent)
    if with_peers:
        peers = importlib.import_module("benchmarks.peers")  # needs torch
        calls |= peers.peers(workload, network(made), latent, STEPS, STARTS)
    timings = interleaved({**calls, **roofline.calls(products)}, seconds=seconds)
    peak = roofline.roofline(products, timings)
    lines = [line(workload, name, fields(workload, name, timings, peak.gflops), watch) for name in calls]
    measured = {"gflops": peak.gflops, "best_product": peak.best, "gflops_by_product": peak.by_product}
    return [*lines, line(workload, "matmul-roofline", measured, watch)]


def sweep(workload: Workload, seconds: float) -> list[dict[str, Any]]:
    """CEM, gradient and the plain scan with fewer and more samples, shorter and longer horizons; each size a task of its own."""
    sizes = [replace(workload, samples=int(workload.samples * factor)) for factor in (0.25, 0.5, 2, 4)]
    sizes += [replace(workload, horizon=int(workload.horizon * factor)) for factor in (0.25, 0.5, 2)]
    lines = []
    for size in sizes:
        watch = Stopwatch()
        made, latent = problem(size)
        ours = our_planners(size)
        chosen = ["cem"] if size.samples != workload.samples else ["cem", f"gradient-{STARTS}"]
        calls: Calls = {name: decision(ours[name], made, latent) for name in chosen}
        calls["plain-scan"] = baseline(size, made, latent)
        products = roofline.products(size.samples, size.layers)
        timings = interleaved({**calls, **roofline.calls(products)}, seconds=seconds)
        peak = roofline.roofline(products, timings).gflops
        lines += [line(size, name, fields(size, name, timings, peak), watch) for name in calls]
    return lines


def batches(workload: Workload, seconds: float) -> list[dict[str, Any]]:
    """CEM for several environments at once; `batch_over_looped` is its time over that of as many single decisions."""
    watch = Stopwatch()
    made, latent = problem(workload)
    planner = our_planners(workload)["cem"]
    calls: Calls = {str(size): decision(planner, made, latent, size) for size in BATCHES}
    timings = interleaved(calls, seconds=seconds, burst=1)
    single = timings[str(BATCHES[0])].p50
    lines = []
    for size in BATCHES:
        timing = timings[str(size)]
        metrics = {
            "ms_p50": timing.p50,
            "ms_p99": timing.p99,
            "model_steps_per_second": 1e3 * size * workload.model_steps / timing.p50,
            "batch_over_looped": timing.p50 / (size * single),
            "calls": timing.calls,
        }
        lines.append(line(workload, "cem", metrics, watch, task=f"{workload.name}-batch{size}", batch=size))
    return lines


def dispatch(seconds: float) -> list[dict[str, Any]]:
    """What a decision costs where there is nothing to compute: a bare compiled call, and planners on a scalar problem."""
    watch = Stopwatch()
    workload = Workload(latent=1, actions=1, hidden=1, samples=3, horizon=1, iterations=1)
    made = planners.Problem(
        dynamics=lambda latent, action, noise: latent + action,
        cost=lambda latent, action, step: (latent**2).sum(),  # type: ignore[arg-type]
        actions=planners.Box(-jnp.ones(1), jnp.ones(1)),
    )
    add = jax.jit(lambda x: x + 1)
    latent = jnp.zeros(1)
    calls: Calls = {
        "jit-call": lambda: add(latent),
        "cem": decision(planners.CEM(horizon=1, samples=3, iterations=1, elites=1), made, latent),
        "gradient": decision(planners.Gradient(horizon=1, starts=1, iterations=1), made, latent),
    }
    timings = interleaved(calls, seconds=seconds, burst=50)
    return [
        line(workload, name, {"ms_p50": timing.p50, "ms_p99": timing.p99, "calls": timing.calls}, watch, task="dispatch")
        for name, timing in timings.items()
    ]


def line(
    workload: Workload, method: str, metrics: dict[str, Any], watch: Stopwatch, task: str = "", **settings: Any
) -> dict[str, Any]:
    """A line of speed.jsonl, commit and machine aside."""
    cell = {"benchmark": "speed", "task": task or workload.name, "method": method, "settings": {**asdict(workload), **settings}}
    taken = {"minutes": round(watch.minutes, 3), "busy_elsewhere": watch.busy_elsewhere}
    return {**cell, "seed": 0, "frames": 0, **metrics, **taken}


def speed(quick: bool = False, seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Measure everything, show it, write benchmarks/results/speed.jsonl and draw it; `quick` and a busy machine leave both as they are.

    Each workload is timed for `seconds`. `quick` takes one second and leaves out sweeps and batches: a look, not a result.
    """
    absent = missing_peers()
    if absent:
        console.print(f"Without the PyTorch peers: {', '.join(absent)} not installed ({INSTALL}).")
    seconds = QUICK if quick else seconds
    parts: list[Callable[[], list[dict]]] = [lambda w=w: compare(w, seconds, not absent) for w in WORKLOADS]
    parts.append(lambda: dispatch(seconds / 10))
    if not quick:
        parts += [lambda: sweep(WORKLOADS[0], seconds / 6), lambda: batches(WORKLOADS[2], seconds / 2)]
    lines: list[dict[str, Any]] = []
    for part in parts:
        measured = part()
        show(measured)
        lines += [each if quick or doubtful(each) else results.write_line(RESULTS, each) for each in measured]
    if not quick and not absent and not all(map(doubtful, lines)):
        console.print(f"the picture: {plot_speed(results.read_lines(RESULTS), PICTURE)}")
    return lines


def doubtful(each: dict[str, Any]) -> bool:
    """Whether others kept the machine too busy for a line to be recorded; PyTorch's barriers suffer from that most of all."""
    return (each["busy_elsewhere"] or 0.0) > TOLERATED


def show(lines: list[dict[str, Any]]) -> None:
    """The lines as a table a person reads."""
    table = Table("workload", "method", "p50 ms", "p99 ms", "of roofline", "over fastest peer", "of icem", "other")
    for each in lines:
        text = [f"{each[name]:.3g}" if each.get(name) is not None else "" for name in SHOWN]
        other = [f"{name} {each[name]:.3g}" for name in ("gflops", "batch_over_looped") if name in each]
        table.add_row(each["task"], each["method"], *text, *other)
    console.print(table)
    if any(map(doubtful, lines)):
        busy = max(each["busy_elsewhere"] for each in lines)
        console.print(f"Not recorded: other processes took {busy:.0%} of the machine meanwhile. Measure when it is idle.")
