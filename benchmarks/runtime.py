"""`sailplan bench runtime`: the controller on a real task under injected faults, into benchmarks/results/runtime.jsonl."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import mpc
import planners
from benchmarks import results
from mpc.evaluation import confidence_interval
from worldmodels import manifest

RESULTS = results.RESULTS / "runtime.jsonl"
CONDITIONS = {"clean": 0.0, "faults-1-percent": 0.01, "faults-30-percent": 0.3}
"""Share of decisions that meet a fault, by the method's name."""
RATE = 1.0  # largest change of a normalised action between two decisions
FIRST_SEED = 700_000
FROZEN = 12  # decisions for which a frozen sensor stays so
console = Console()


class Faults:
    """Draws a fault for some calls, and spoils what the controller is given. Every kind comes as often as another."""

    KINDS = (
        "nan",
        "inf",
        "dtype",
        "shape",
        "nothing",
        "huge",
        "frozen",
        "late",
        "repeated",
        "reversed",
        "no-time",
        "raise",
        "weights",
    )

    def __init__(self, share: float, seed: int):
        self.share, self.random = share, np.random.default_rng(seed)
        self.frozen: tuple[int, Any] = (0, None)

    def draw(self) -> str | None:
        return str(self.random.choice(self.KINDS)) if self.random.random() < self.share else None

    def spoil(self, kind: str | None, observation: dict[str, np.ndarray], time: float, period: float) -> tuple[Any, Any]:
        """The observation and stamp as the controller will see them."""
        left, still = self.frozen
        if left and kind is None:
            self.frozen = (left - 1, still)
            return still, time
        name = str(self.random.choice(sorted(observation)))
        value = observation[name]
        spoilt = {
            "nan": {**observation, name: value * np.nan},
            "inf": {**observation, name: np.full_like(value, np.inf)},
            "dtype": {**observation, name: value.astype(str)},
            "shape": {**observation, name: np.zeros((*value.shape, 2), np.float32)},
            "nothing": None,
            "huge": {**observation, name: value + 1e6},
        }
        if kind == "frozen":
            self.frozen = (FROZEN, observation)
        stamps = {"late": time + 5 * period, "repeated": time - period, "reversed": time - 10 * period, "no-time": float("nan")}
        return spoilt.get(kind or "", observation), stamps.get(kind or "", time)


def bench_runtime(agents: list[Path], decisions: int, deadline: float | None = None) -> list[dict[str, Any]]:
    """Every condition of every agent that is not measured yet."""
    lines = []
    for folder in agents:
        spec = manifest.read(folder).spec
        for method, share in CONDITIONS.items():
            known = {(line["task"], line["method"]) for line in results.read_lines(RESULTS) if line["decisions"] >= decisions}
            if (spec.environment, method) in known:
                continue
            line = measure(folder, method, share, decisions, deadline)
            lines.append(results.write_line(RESULTS, line))
            console.print(
                f"{line['task']} {method}: {line['decisions']} decisions, {line['exceptions']} exceptions, "
                f"{line['limit_violations']} outside limits, {line['unnamed_faults']} faults unnamed, return {line['return_mean']:.0f}",
                highlight=False,
            )
    return lines


def controller_of(folder: Path, deadline: float | None) -> mpc.Controller:
    spec = manifest.read(folder).spec
    half_range = (
        np.asarray(spec.action.denormalise(np.ones(spec.action.shape))) / 2
        - np.asarray(spec.action.denormalise(-np.ones(spec.action.shape))) / 2
    )
    settings = mpc.ControllerSettings(
        period=spec.seconds_per_step, deadline=deadline, rate=tuple((RATE * half_range).tolist()), safe="hold"
    )
    made = mpc.Controller.load(folder, planners.CEM(horizon=3, samples=128, iterations=4, elites=16, proposals=16), settings)
    made.warm_up()
    return made


def measure(folder: Path, method: str, share: float, decisions: int, deadline: float | None) -> dict[str, Any]:
    """One line: whole episodes until `decisions` are made."""
    spec = manifest.read(folder).spec
    made = controller_of(folder, deadline)
    environment = mpc.make_for(spec)
    tally = {"exceptions": 0, "limit_violations": 0, "unnamed_faults": 0, "deadline_missed": 0}
    returns, seconds = [], []
    while len(seconds) < decisions:
        episode = _episode(environment, made, Faults(share, FIRST_SEED + len(returns)), FIRST_SEED + len(returns), tally)
        total = 0.0
        for took, cost in episode:
            seconds.append(took)
            total -= cost
        returns.append(total)
    milliseconds = 1000 * np.asarray(seconds)
    tally["deadline_missed"] = 0 if deadline is None else int((milliseconds > 1000 * deadline).sum())
    return {
        "benchmark": "runtime",
        "task": spec.environment,
        "method": method,
        "settings": {"deadline": deadline, "rate": RATE, "share": share},
        "seed": FIRST_SEED,
        "frames": 0,
        "decisions": len(seconds),
        **tally,
        "return_mean": float(np.mean(returns)),
        "return_ci95": min(confidence_interval(np.asarray(returns)), 1e9),
        "step_ms_p50": float(np.percentile(milliseconds, 50)),
        "step_ms_p99": float(np.percentile(milliseconds, 99)),
        "rungs": {name: made.counts[name] for name in ("PLAN", "SHIFTED", "POLICY", "SAFE")},
        "minutes": round(float(np.sum(seconds)) / 60, 3),
    }


def _episode(environment: mpc.Environment, made: mpc.Controller, faults: Faults, seed: int, tally: dict[str, int]) -> Iterator:
    """Seconds and cost of each decision of one episode."""
    low, high, period = made.low, made.high, made.settings.period
    rate = np.inf if made.rate is None else made.rate
    observation, done, tick = environment.reset(seed), False, 0
    made.reset()
    last = np.clip(np.zeros_like(low), low, high)
    flat, state = made._flat, None
    while not done:
        kind = faults.draw()
        given = faults.spoil(kind, observation, tick * period, period)
        if kind == "weights":
            made._flat = [x * np.nan if np.asarray(x).dtype.kind == "f" else x for x in flat[0]], flat[1]
        if kind == "raise":
            state, made._state = made._state, "not a planner's state"
        try:
            decision = made.step(*given)
        except Exception:
            tally["exceptions"] += 1
            raise
        made._flat = flat
        if kind == "raise":
            made._state = state
        outside = (decision.action < low).any() or (decision.action > high).any() or not np.isfinite(decision.action).all()
        jumped = (np.abs(decision.action - last) > rate * (1 + 1e-5) + 1e-6).any()
        tally["limit_violations"] += int(outside or jumped)
        tally["unnamed_faults"] += int(kind not in (None, "frozen") and not decision.status.faults)
        last = decision.action
        transition = environment.step(decision.action)
        observation, done, tick = transition.observation, transition.terminated or transition.truncated, tick + 1
        yield decision.timing.total, transition.cost
