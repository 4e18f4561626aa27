"""The cells of `sailplan bench runtime`: faults, deadlines, delay, the policy alone, memory, and exports."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import numpy as np

import mpc
import planners
from benchmarks.faults import LOOP, Faults
from benchmarks.timing import interleaved
from mpc.controller import ControllerSettings, SimulatedLatency
from mpc.evaluation import confidence_interval
from mpc.export import export, iree_programs, load_export

FIRST_SEED = 700_000
RATE = 1.0  # largest change of a normalised action between two decisions
SMALL = planners.CEM(horizon=3, samples=32, iterations=2, elites=8, proposals=8)
USUAL = planners.CEM(horizon=3, samples=128, iterations=4, elites=16, proposals=16)
AHEAD = planners.CEM(horizon=8, samples=32, iterations=2, elites=8, proposals=8)  # to follow while the next plan is made
FIFTY = 0.02  # seconds between decisions at 50 Hz


class Setting(NamedTuple):
    """What a cell of the table is measured with. `seconds` is the pace of real time, None for as fast as it goes."""

    decisions: int
    planner: Any = USUAL
    share: float = 0.0
    kinds: tuple[str, ...] = LOOP
    deadline: float | None = None
    asynchronous: bool = False
    simulated: bool = False
    delayed: float = 0.0  # seconds between an action and its effect
    compensated: bool = False
    seconds: float | None = None

    def describe(self) -> dict[str, Any]:
        """As the line's settings."""
        kept = {name: value for name, value in self._asdict().items() if value != self._field_defaults.get(name)}
        planner = self.planner
        kept["planner"] = f"{planner.samples}x{planner.horizon}x{planner.iterations}"
        kept.pop("kinds", None)
        return kept | {"rate": RATE}


def driven(setting: Setting) -> Callable[[Path], dict[str, Any]]:
    """A cell in which a controller drives its task, whole episodes until there are enough decisions."""
    return lambda folder: _drive(folder, setting)


def controller_of(folder: Path, setting: Setting) -> mpc.Controller:
    """The agent of a run under the cell's settings."""
    agent = mpc.load_agent(folder, setting.planner)
    spec = agent.model.spec
    half_range = (np.asarray(spec.action.high) - np.asarray(spec.action.low)) / 2
    settings = ControllerSettings(
        period=spec.seconds_per_step,
        deadline=None if setting.deadline is None else min(setting.deadline, spec.seconds_per_step),
        rate=tuple((RATE * half_range).tolist()),
        delay=setting.delayed if setting.compensated else 0.0,
        safe="hold",
        asynchronous=setting.asynchronous,
        simulated=SimulatedLatency(begin=0.004, improve=0.004, finish=0.004) if setting.simulated else None,
    )
    made = mpc.Controller(agent, settings)
    made.warm_up()
    return made


def _drive(folder: Path, setting: Setting) -> dict[str, Any]:
    made = controller_of(folder, setting)
    faults = Faults(made, setting.share, FIRST_SEED, setting.kinds)
    environment = mpc.make_for(made.spec)
    tally = {"exceptions": 0, "limit_violations": 0}
    returns, timings, began = [], [], time.perf_counter()
    while len(timings) < setting.decisions:
        episode = list(_episode(environment, made, faults, setting, FIRST_SEED + len(returns), tally))
        timings.extend(timing for timing, _ in episode)
        returns.append(-sum(cost for _, cost in episode))
    made.close()
    total, planning = (1000 * np.array([getattr(timing, name) for timing in timings]) for name in ("total", "planning"))
    deadline = made.settings.deadline
    return {
        "decisions": len(timings),
        **tally,
        "deadline_missed": 0 if deadline is None or setting.simulated else int((total > 1000 * deadline).sum()),
        "return_mean": float(np.mean(returns)),
        **({"return_ci95": confidence_interval(np.array(returns))} if len(returns) > 1 else {}),
        **({} if setting.simulated else _times(total, planning)),
        "faults": {kind: count for kind, count in faults.drawn.items() if count},
        "unnamed_faults": sum(faults.unnamed.values()),
        "unnamed": {kind: count for kind, count in faults.unnamed.items() if count},
        "rungs": {name: made.counts[name] for name in ("PLAN", "SHIFTED", "POLICY", "SAFE")},
        "minutes": round((time.perf_counter() - began) / 60, 3),
    }


def _times(total: np.ndarray, planning: np.ndarray) -> dict[str, float]:
    """Milliseconds of a call, and of what it does beside planning."""
    named = {"step": total, "overhead": total - planning}
    return {f"{name}_ms_p{rank}": float(np.percentile(took, rank)) for name, took in named.items() for rank in (50, 99)}


def _episode(
    environment: mpc.Environment, made: mpc.Controller, faults: Faults, setting: Setting, seed: int, tally
) -> Iterator:
    """Timing and cost of each decision of one episode."""
    period = made.settings.period
    observation, done, tick, began = environment.reset(seed), False, 0, time.perf_counter()
    made.reset()
    faults.begin()
    last, cost = made.memory.last, 0.0
    on_their_way = deque([last] * round(setting.delayed / period))
    while not done:
        kind = faults.draw()
        for _ in range(3 if kind == "missed" else 0):  # the controller is not called, and the robot goes on with what it has
            if not done:
                transition = environment.step(last)
                cost, tick = cost + transition.cost, tick + 1
                observation, done = transition.observation, transition.terminated or transition.truncated
        if done:
            return
        try:
            decision = faults.step(kind, observation, tick * period)
        except Exception:
            tally["exceptions"] += 1
            raise
        tally["limit_violations"] += _outside(made, decision.action, last)
        last = decision.action
        on_their_way.append(last)
        if setting.seconds is not None:
            time.sleep(max(0.0, began + (tick + 1) * setting.seconds - time.perf_counter()))
        transition = environment.step(on_their_way.popleft())
        observation, done, tick = transition.observation, transition.terminated or transition.truncated, tick + 1
        yield decision.timing, cost + transition.cost
        cost = 0.0


def _outside(made: mpc.Controller, action: np.ndarray, last: np.ndarray) -> bool:
    """Whether an action breaks a limit, or is no action."""
    rules = made.rules
    if action.shape != rules.low.shape or not np.isfinite(action).all():
        return True
    jump = np.abs(action.astype(np.float64) - last.astype(np.float64))
    return bool(((action < rules.low) | (action > rules.high) | (jump > rules.rate)).any())


def _policy_controller(folder: Path) -> tuple[mpc.Controller, list[dict[str, np.ndarray]]]:
    """A controller that only reacts, and the observations of an episode of it."""
    planning = mpc.load_agent(folder, SMALL)
    agent = mpc.PolicyAgent(planning.model, planning.policy)
    made = mpc.Controller(agent, ControllerSettings(period=agent.model.spec.seconds_per_step))
    made.warm_up()
    environment = mpc.make_for(made.spec)
    observation, done, seen = environment.reset(FIRST_SEED), False, []
    while not done:
        seen.append(observation)
        transition = environment.step(made.step(observation, len(seen) * made.settings.period).action)
        observation, done = transition.observation, transition.terminated or transition.truncated
    made.reset()
    return made, seen


def policy_only(steps: int) -> Callable[[Path], dict[str, Any]]:
    """How long `step` takes without a plan, and how the process grows over so many steps, along an episode's observations."""

    def cell(folder: Path) -> dict[str, Any]:
        made, seen = _policy_controller(folder)
        period, warm, began = made.settings.period, steps // 10, time.perf_counter()
        seconds, early = np.zeros(steps, np.float32), 0.0
        for tick, observation in enumerate(islice(cycle(seen), steps)):
            seconds[tick] = made.step(observation, tick * period).timing.total
            if tick == warm:
                early = _resident()
        milliseconds = 1000 * seconds.astype(np.float64)
        return {
            "decisions": steps,
            "step_ms_p50": float(np.percentile(milliseconds, 50)),
            "step_ms_p99": float(np.percentile(milliseconds, 99)),
            "memory_mb": early,
            "memory_growth_mb": _resident() - early,
            "minutes": round((time.perf_counter() - began) / 60, 3),
        }

    return cell


def _resident() -> float:
    """Megabytes of memory that this process holds (Linux)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def exported_policy(folder: Path) -> dict[str, Any]:
    """The policy in ONNX Runtime beside JAX: error in half ranges of the action, and time."""
    made, seen = _policy_controller(folder)
    agent, began = made.agent, time.perf_counter()
    with TemporaryDirectory() as place:
        export(agent, Path(place) / "policy")  # type: ignore[arg-type]
        act = load_export(Path(place) / "policy").programs["act"]
    key = jax.random.key(0)
    wanted = np.stack([np.asarray(agent.act(agent.reset(o), o, key=key)[0].action) for o in seen])
    error = np.abs(np.stack([act(o) for o in seen]) - wanted) / ((made.rules.high - made.rules.low) / 2)
    state, inputs = agent.reset(seen[0]), cycle(seen)
    timed = interleaved(
        {"onnx": lambda: act(next(inputs)), "jax": lambda: agent.act(state, next(inputs), key=key)}, seconds=5.0, burst=50
    )
    return _exported(timed, "onnx", error, began)


def exported_planner(folder: Path) -> dict[str, Any]:
    """The whole planner in IREE beside JAX, along an episode's observations, each decision from the same state.

    A planner that ranks candidates answers by rounding where two are equally good: its error is small or as large as their distance.
    """
    agent, began = mpc.load_agent(folder, USUAL), time.perf_counter()
    seen = _policy_controller(folder)[1][:200]
    with TemporaryDirectory() as place:
        export(agent, Path(place) / "planner", "stablehlo")
        programs = iree_programs(Path(place) / "planner")
    state, errors = agent.reset(seen[0]), []
    half_range = (np.asarray(agent.model.spec.action.high) - np.asarray(agent.model.spec.action.low)) / 2
    one = np.float32(1)
    for number, observation in enumerate(seen):
        key, exported = np.array([7, number], np.uint32), jax.tree.leaves(state)
        made, state = agent.act(state, observation, key=jax.random.wrap_key_data(jax.numpy.asarray(key)))
        action, _ = programs["act"](exported, observation, one, key)
        errors.append(float((np.abs(action - np.asarray(made.action)) / half_range).max()))
    exported = jax.tree.leaves(state)
    fixed = jax.random.key(0)
    timed = interleaved(
        {
            "iree": lambda: programs["act"](exported, seen[0], one, np.array([7, 0], np.uint32)),
            "jax": lambda: agent.act(state, seen[0], key=fixed),
        },
        seconds=10.0,
        burst=5,
    )
    return _exported(timed, "iree", np.array(errors), began)


def _exported(timed: dict[str, Any], name: str, error: np.ndarray, began: float) -> dict[str, Any]:
    return {
        "decisions": timed[name].calls,
        "error_p50": float(np.median(error)),
        "error_max": float(error.max()),
        "within_1e-5": float((error < 1e-5).mean()),
        "step_ms_p50": timed[name].p50,
        "step_ms_p99": timed[name].p99,
        "jax_ms_p50": timed["jax"].p50,
        "minutes": round((time.perf_counter() - began) / 60, 3),
    }
