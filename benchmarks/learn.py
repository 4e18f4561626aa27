"""`sailplan learn`: an agent that acts, remembers, learns and plans, with evaluations on unseen seeds as it grows."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

import mpc
import planners
from mpc.evaluation import HELD_OUT
from mpc.learning import LearningProgress, Run, RunSettings
from mpc.learning import learn as learn_in
from planners.errors import require_positive
from worldmodels.files import keep_whole_lines
from worldmodels.spec import DiscreteAction

TREE = planners.TreeSearch(horizon=8, simulations=64, gumbel=0.0, rollout=False)  # nodes are valued by the critic
console = Console(markup=False)


def evaluations(environment: mpc.Environment, run: Run, episodes: int) -> dict[str, dict[str, Any]]:
    """Planner, the learner's policy and the compiled one on the same unseen seeds: `mpc.evaluate`'s summaries and the returns.

    Where actions are discrete, tree search on what was learned stands beside them. The better one of the two policies is saved in the run.
    """
    rows, policies = {}, {"policy": run.policy_agent(), "compiled": run.compiled_agent()}
    agents = {"planner": run.planning_agent(), **policies}
    if isinstance(environment.spec.action, DiscreteAction):
        agents["tree"] = replace(run.planning_agent(), planner=TREE)
    for name, agent in agents.items():
        result = mpc.evaluate(environment, agent, episodes=episodes, seed=HELD_OUT)
        rows[name] = {**result.summary(), "returns": np.round(result.returns, 2).tolist()}
    better = max(policies, key=lambda name: rows[name]["return_mean"])
    mpc.save_policy(policies[better], run.folder / "policy")
    return rows


def evaluated_at(folder: Path) -> int:
    """Frames at the last evaluation in a run's folder; 0 before the first."""
    path = folder / "evaluations.jsonl"
    keep_whole_lines(path)
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1])["frames"] if lines else 0


def learn(
    environment: tyro.conf.Positional[str],
    frames: int,
    out: Path,
    seed: int = 0,
    action_repeat: int = 2,
    evaluate_every: int = 10_000,
    episodes: int = 10,
    resume: bool = False,
) -> None:
    """Act in an environment and learn from it: world model, critic and policy; one set of defaults for every task.

    Args:
        environment: a Gymnasium id, or dm_control's as dm_control/cheetah-run-v0.
        frames: environment steps in all, before action repeat.
        out: the run's folder: memory/, agent/, progress.jsonl, and policy/, the better one at the last evaluation.
        seed: of networks, environment and search.
        action_repeat: environment steps a decision lasts.
        evaluate_every: frames between evaluations of planner and policy on unseen seeds.
        episodes: in each evaluation.
        resume: go on with the run in --out where it stopped.
    """
    require_positive(frames=frames, evaluate_every=evaluate_every, episodes=episodes)
    made = mpc.make(environment, action_repeat=action_repeat)
    unseen, before = made.copy(), evaluated_at(out)

    def show(report: LearningProgress) -> None:
        losses = "  ".join(f"{name} {value:.3g}" for name, value in report.losses.items())
        console.print(
            f"{report.frames:>7} of {report.total} frames  return {report.episode_return:8.1f}  {report.seconds:6.0f} s  {losses}",
            highlight=False,
        )

    def milestone(run: Run) -> None:
        nonlocal before
        if run.frames_learned // evaluate_every > before // evaluate_every:
            evaluate(run)

    def evaluate(run: Run) -> None:
        nonlocal before
        rows, before = evaluations(unseen, run, episodes), run.frames_learned
        for name, row in rows.items():
            said = f"{row['return_mean']:.1f} ± {row['return_ci95']:.1f}, {row['decision_ms_p50']:.2f} ms a decision"
            console.print(f"{name} on {episodes} unseen seeds: {said}", highlight=False)
        lines = [json.dumps({"method": name, "frames": before, **row}) + "\n" for name, row in rows.items()]
        with (out / "evaluations.jsonl").open("a") as file:
            file.write("".join(lines))

    run = learn_in(
        made, out, frames=frames, seed=seed, settings=RunSettings(), resume=resume, progress=show, milestone=milestone
    )
    if before < run.frames_learned:  # the end, or what a kill cut off there
        evaluate(run)
    console.print(
        f"{out}: the agent is in {out / 'agent'}, sailplan evaluate {out / 'agent'} plays it; "
        f"its policy is in {out / 'policy'}, sailplan export {out / 'policy'} --out FOLDER ships it"
    )
