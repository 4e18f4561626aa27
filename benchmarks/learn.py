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
from mpc.learning import LearningProgress, Run, RunSettings
from mpc.learning import learn as learn_in
from worldmodels.spec import DiscreteAction

HELD_OUT = 500_000  # first seed of evaluation, far from any episode's
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
    return json.loads(path.read_text().splitlines()[-1])["frames"] if path.exists() else 0


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
    made = mpc.make(environment, action_repeat=action_repeat)
    unseen = made.copy()

    def show(report: LearningProgress) -> None:
        losses = "  ".join(f"{name} {value:.3g}" for name, value in report.losses.items())
        console.print(
            f"{report.frames:>7} of {report.total} frames  return {report.episode_return:8.1f}  {report.seconds:6.0f} s  {losses}",
            highlight=False,
        )

    before = evaluated_at(out)

    def milestone(run: Run) -> None:
        nonlocal before
        learned = run.frames_learned
        if learned // evaluate_every == before // evaluate_every and learned < frames:
            return
        before = learned
        for name, row in evaluations(unseen, run, episodes).items():
            said = f"{row['return_mean']:.1f} ± {row['return_ci95']:.1f}, {row['decision_ms_p50']:.2f} ms a decision"
            console.print(f"{name} on {episodes} unseen seeds: {said}", highlight=False)
            with (out / "evaluations.jsonl").open("a") as file:
                file.write(json.dumps({"method": name, "frames": learned, **row}) + "\n")

    learn_in(made, out, frames=frames, seed=seed, settings=RunSettings(), resume=resume, progress=show, milestone=milestone)
    console.print(
        f"{out}: the agent is in {out / 'agent'}, sailplan evaluate {out / 'agent'} plays it; "
        f"its policy is in {out / 'policy'}, sailplan export {out / 'policy'} ships it"
    )
