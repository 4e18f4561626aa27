"""`sailplan bench many-tasks`: one model a body, learned without reward, driven to every task of that body.

The model explores under runs/many_tasks/; a model that is there is used again. Returns are the environments' own: what each task's
environment rewards, in dm_control's episodes of it; of tasks that dm_control has not, what the library's cost says of what was observed.
A cell that is in benchmarks/results/many_tasks.jsonl is left out.
"""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import mpc
import planners
import worldmodels
from benchmarks import results
from benchmarks.control import RESULTS as CONTROL
from mpc.critic import FutureCost
from mpc.evaluation import HELD_OUT
from mpc.exploration import CHUNK, ExplorationSettings, explore
from mpc.holding import Holding
from mpc.scoring import return_under
from planners import pytree
from worldmodels.data import Dataset, Episode
from worldmodels.files import MANIFEST, beside, sole_writer
from worldmodels.losses import CORNER

RESULTS = results.RESULTS / "many_tasks.jsonl"
RUNS = Path("runs/many_tasks")
BODIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "cartpole": ("swingup", ("balance", "swingup", "balance_sparse", "swingup_sparse")),
    "reacher": ("easy", ("easy", "hard")),
    "walker": ("walk", ("stand", "walk", "run", "run_backwards")),
    "cheetah": ("run", ("run", "run_backwards", "flip")),
}
"""The task in whose environment a body explores, and the tasks it is then driven to."""
UNREWARDED = {"walker.run_backwards", "cheetah.run_backwards", "cheetah.flip"}
"""The library's own tasks, which no environment of dm_control rewards."""
METHODS = ("task_agent", "simulator", "random", "planner", "policy")
"""In the order in which they are told: what a good episode is, the first two tell. `task_agent` is bench control's agent."""
ACTION_REPEAT, DISCOUNT = 2, 0.99
EPISODES, CEILING_EPISODES = 10, 3
GOOD = 0.8  # of the best return known for a task, the simulator's or an agent's that learned with its reward
CEILING = planners.ICEM(horizon=20, samples=640, iterations=4, elites=64, keep=8)
PLANNER = replace(CEILING, samples=64, elites=8, keep=2, proposals=4, spread=0.2)
"""A tenth of the ceiling's samples, each in every member of the ensemble, near the policy that it has and the ceiling has not."""


def bench_many_tasks(
    bodies: Sequence[str], seeds: Sequence[int], methods: Sequence[str], frames: int, updates: int
) -> list[dict[str, Any]]:
    """Lines of the cells that are not there yet: `methods` on every task of `bodies`, after `frames` without reward."""
    chosen, lines = sorted(results.choose("method", methods, METHODS), key=METHODS.index), []
    for body in results.choose("body", bodies, BODIES):
        for seed in seeds:
            for task in BODIES[body][1]:
                cells = {method: cell(body, task, method, seed, frames, updates) for method in chosen}
                wanted = {method: each for method, each in cells.items() if not results.holds(RESULTS, each)}
                if wanted:
                    lines += task_lines(body, task, wanted, seed, frames, updates)
    return lines


@pytree
class Judged:
    """A task's cost on true physics; what comes after a plan is a critic's to say, from what its end would look like to the critic's model."""

    cost: Any
    model: Any
    critic: mpc.Critic
    policy: mpc.Policy

    def running(self, model, latent, action, step):
        return self.cost.running(model, latent, action, step)

    def terminal(self, model, latent, step):
        read = model.readout(latent)
        seen = {name: read[name].reshape(shape) for name, shape in self.model.spec.vectors}
        return FutureCost(self.model, self.critic, self.policy)(self.model.start(seen))


def environment_of(body: str, task: str, *, privileged: bool = False) -> mpc.Environment:
    """The environment of a body's task, that in which the body explores where there is none; `privileged` to plan on its simulator."""
    rewarded = BODIES[body][0] if f"{body}.{task}" in UNREWARDED else task
    return mpc.make(f"dm_control/{body}-{rewarded}-v0", action_repeat=ACTION_REPEAT, privileged=privileged)


def name_of(body: str, task: str) -> str:
    """As lines name it: by its environment, or as the library does where it has none."""
    return f"{body}.{task}" if f"{body}.{task}" in UNREWARDED else f"dm_control/{body}-{task}-v0"


def exploration() -> dict[str, Any]:
    """What lines say of how a model explored."""
    settings = {name: value for name, value in asdict(ExplorationSettings()).items() if name != "training"}
    learning = {"direct": True, "corner": CORNER, "disagreement": "on numbers and encoding", "chunk": CHUNK}
    return settings | learning | {"holding": [Holding.begins, Holding.ends]}


def imagination(updates: int) -> mpc.ImaginationSettings:
    """How the critic and the policy of a task are learned."""
    return mpc.ImaginationSettings(updates=updates, discount=DISCOUNT)


def recipe(updates: int) -> dict[str, Any]:
    """What lines say of how a model, and a task's critic and policy, came about."""
    settings = asdict(imagination(updates)) | {"starts": "by rank of cost"}
    return {"exploration": exploration(), "circles": "kept", "imagination": settings}


def cell(body: str, task: str, method: str, seed: int, frames: int, updates: int) -> dict[str, Any]:
    """What a line is known by; random's knows neither seed, frames nor imagination."""
    searches: dict[str, dict[str, Any]] = {
        "simulator": {"samples": CEILING.samples, "critic_frames": frames},
        "planner": {"samples": PLANNER.samples, "proposals": PLANNER.proposals, "spread": PLANNER.spread},
    }
    return {
        "benchmark": "many_tasks",
        "body": body,
        "task": name_of(body, task),
        "method": method,
        "settings": {
            "action_repeat": ACTION_REPEAT,
            **({} if method in ("random", "task_agent") else recipe(updates)),
            **searches.get(method, {}),
        },
        "seed": 0 if method == "random" else seed,
        "frames": 0 if method in ("random", "simulator") else frames,
    }


def folder(body: str, seed: int, frames: int) -> Path:
    """Where a body's model, its data, and what was imagined for its tasks are."""
    return RUNS / f"{body}-{seed}-{frames}"


def explored(body: str, seed: int, frames: int) -> tuple[Any, Dataset]:
    """The body's model and what it was learned from; explored now where it is not there, going on where that was cut off."""
    run = folder(body, seed, frames)
    run.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(beside(run, "lock"), results.ResultError):
        if not run.exists():
            aside = run.with_name(run.name + ".aside")
            environment, begun = environment_of(body, BODIES[body][0]), (aside / "memory" / MANIFEST).exists()
            console.print(f"{body}, seed {seed}: {frames} frames without reward", highlight=False)
            explore(environment, aside, frames=frames, seed=seed, resume=begun)
            aside.rename(run)
    return worldmodels.load(run / "model"), Dataset.open(run / "memory")


def task_lines(
    body: str, task: str, cells: dict[str, dict[str, Any]], seed: int, frames: int, updates: int
) -> list[dict[str, Any]]:
    """The `cells` of one task by method, in their order: who acts, and what it returns; critic and policy are imagined for it first."""
    name, cells, lines = name_of(body, task), dict(cells), []
    if known := cells.pop("task_agent", None):
        lines += [results.write_line(RESULTS, {**known, **told}) for told in with_reward(name, seed, frames)]
    environment = environment_of(body, task)
    agents: dict[str, Any] = {"random": mpc.RandomAgent(environment.spec)}
    spent = 0.0
    if set(cells) - {"random"}:
        model, dataset = explored(body, seed, frames)
        learned, spent = imagined(folder(body, seed, frames), model, dataset, f"{body}.{task}", updates, seed)
        agents |= learned
    for method, known in cells.items():
        began, played, episodes = time.process_time(), environment, EPISODES
        if method == "simulator":
            played, episodes = environment_of(body, task, privileged=True), CEILING_EPISODES
            agents[method] = ceiling(played, agents["planner"], f"{body}.{task}")
        result = mpc.evaluate(played, agents[method], episodes=episodes, seed=HELD_OUT)
        returns, acted = returned(f"{body}.{task}", played, result), (time.process_time() - began) / 60
        line = {
            **known,
            **result.summary(),
            "return_mean": float(returns.mean()),
            "return_ci95": mpc.confidence_interval(returns),
        }
        line["returns"] = np.round(returns, 2).tolist()
        if method in ("planner", "policy"):
            good = np.flatnonzero(returns >= GOOD * (best_known(name) or np.inf))
            if len(good):  # episodes are played side by side: each is charged its share of the time
                line["minutes_to_first_good_episode"] = round(spent + acted * float(good[0] + 1) / episodes, 2)
            acted += spent
        lines.append(results.write_line(RESULTS, {**line, "minutes": round(acted, 2)}))
        console.print(f"{name} {method}: {line['return_mean']:.1f} ± {line['return_ci95']:.1f}", highlight=False)
    return lines


def with_reward(name: str, seed: int, frames: int) -> list[dict[str, Any]]:
    """What bench control's agent returned that learned with this task's reward on as many frames, on CPUs: its newest line, or none."""
    lines = [
        {**{key: line[key] for key in ("return_mean", "return_ci95", "episodes", "minutes")}, "measured_at": line["commit"]}
        for line in results.read_lines(CONTROL)
        if (line["task"], line["method"], line["seed"], line["frames"]) == (name, "planner", seed, frames)
        and not line["machine"].get("accelerator")
    ]
    return lines[-1:]


def ceiling(environment: mpc.Environment, planner: mpc.PlanningAgent, name: str) -> mpc.PlanningAgent:
    """Plans on the environment's own simulator; the critic of `planner` says what comes after."""
    cost = Judged(mpc.cost(mpc.tasks.lookup(name)), planner.model, planner.critic, planner.policy)
    return mpc.PlanningAgent(mpc.simulator(environment), cost, CEILING, discount=DISCOUNT)


def returned(name: str, environment: mpc.Environment, result: mpc.Evaluation) -> np.ndarray:
    """What each episode returned: the environment's own rewards, or what the library's cost says where it has none."""
    if name not in UNREWARDED:
        return np.asarray(result.returns)
    cost, world = mpc.cost(mpc.tasks.lookup(name)), worldmodels.JEPA(environment.spec, latent=1, hidden=1)
    return np.array([return_under(cost, world, episode) for episode in result.episodes])  # of a world, only its spec is read


def imagined(
    run: Path, model: Any, dataset: Sequence[Episode], name: str, updates: int, seed: int
) -> tuple[dict[str, Any], float]:
    """Planner with critic, and policy, for a cost of the library, and the minutes that imagining took."""
    body = mpc.Configurator(model, task=mpc.Task({name: 1.0}, planner=PLANNER, discount=DISCOUNT))
    critic, policy, minutes = solution(run, model, dataset, name, updates, seed)
    body.solve("task", critic, policy)
    return {"planner": body.agent("task"), "policy": mpc.PolicyAgent(model, policy)}, minutes


def solution(
    run: Path, model: Any, dataset: Sequence[Episode], name: str, updates: int, seed: int
) -> tuple[mpc.Critic, mpc.Policy, float]:
    """Critic and policy for a cost of the library, and the minutes that imagining took; kept in the run, until they are imagined otherwise.

    Tasks that are one cost from two starts, as balancing and swinging up, share them.
    """
    wanted, settings = mpc.tasks.lookup(name), imagination(updates)
    kept = run / "tasks" / next(known for known, cost in mpc.tasks.TASKS.items() if cost is wanted)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(beside(kept, "lock"), results.ResultError):
        told = json.loads((kept / "imagined.json").read_text()) if kept.exists() else {}
        if told.get("settings") != asdict(settings):
            began = time.process_time()
            critic, policy = mpc.imagine(model, mpc.cost(wanted), list(dataset), settings, seed=seed)
            told = {"settings": asdict(settings), "minutes": (time.process_time() - began) / 60}
            aside = kept.with_name(kept.name + ".aside")
            shutil.rmtree(aside, ignore_errors=True)
            mpc.save_critic(critic, aside / "critic")
            mpc.save_policy(mpc.PolicyAgent(model, policy), aside / "policy")
            (aside / "imagined.json").write_text(json.dumps(told))
            shutil.rmtree(kept, ignore_errors=True)
            aside.rename(kept)
    return mpc.load_critic(kept / "critic"), mpc.load_policy(kept / "policy").policy, told["minutes"]


def best_known(task: str) -> float | None:
    """The best return of the simulator, or of an agent that learned with the task's reward; None where neither was measured."""
    lines = [line for line in results.read_lines(RESULTS) if line["method"] in ("simulator", "task_agent")]
    return max((line["return_mean"] for line in lines if line["task"] == task), default=None)


console = Console(markup=False)
