"""The `sailplan` command."""

import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

import mpc
import worldmodels
from benchmarks import doctor as doctor_page
from benchmarks import plots, report, results, tables
from benchmarks.agents import load_acting
from benchmarks.bench_cli import bench
from benchmarks.data import data
from benchmarks.demo import demo
from benchmarks.diagnose import diagnose
from benchmarks.explore import explore
from benchmarks.export import export
from benchmarks.json_file import write_json
from benchmarks.learn import learn
from benchmarks.progress_bar import Bar
from benchmarks.replay import replay
from benchmarks.solve import solve
from benchmarks.train import train
from benchmarks.view import view
from mpc.evaluation import HELD_OUT
from planners import PlannerError
from planners.names import planner_named
from worldmodels import manifest
from worldmodels.errors import WorldModelError

console = Console(markup=False)
Positional = tyro.conf.Positional
EXPECTED = (
    PlannerError,
    WorldModelError,
    mpc.MPCError,
    tables.TableError,
    results.ResultError,
    report.ReportError,
    plots.MissingExtraError,
)


def collect(
    environment: Positional[str],
    frames: int,
    out: Path,
    policy: str = "random",
    planner: str | None = None,
    horizon: int | None = None,
    noise: float = 0.3,
    action_repeat: int = 1,
    copies: int = 1,
    seed: int = 0,
) -> None:
    """Record episodes into a dataset; a folder that exists is carried on.

    Args:
        environment: a Gymnasium id, or dm_control's as dm_control/cartpole-swingup-v0.
        frames: environment steps in the whole dataset, before action repeat.
        out: the dataset's folder.
        policy: random, pink, or the folder of a model or policy.
        planner: cem, icem, gradient, … where --policy is a model; if not given, a learned agent's own, icem for others.
        horizon: actions in its plans; if not given, that planner's own, or 20.
        noise: standard deviation of the exploration noise on normalised actions.
        action_repeat: environment steps a decision lasts.
        copies: environments stepped side by side.
        seed: of the first episode; the following count up.
    """
    if policy in ("random", "pink"):
        made = mpc.make(environment, action_repeat=action_repeat)
        agent = mpc.RandomAgent(made.spec) if policy == "random" else mpc.PinkAgent(made.spec)
    else:
        agent = load_acting(Path(policy), planner, horizon=horizon, exploration=noise)
        action_repeat = agent.model.spec.action_repeat
        made = mpc.make(environment, action_repeat=action_repeat)
    with Bar("collect", "frames") as bar:
        dataset = mpc.collect(made, frames=frames, seed=seed, agent=agent, copies=copies, out=out, progress=bar)
    console.print(f"{out}: {len(dataset)} episodes, {dataset.frames} frames")


def evaluate(
    model: Positional[Path],
    planner: str | None = None,
    horizon: int | None = None,
    samples: int | None = None,
    episodes: int = 10,
    seed: int = HELD_OUT,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Mean return and decision latency of a model under a planner, or of a policy, on unseen seeds.

    Args:
        model: the folder of a model or a policy.
        planner: cem, icem, gradient, …; ignored for a policy. If not given, a learned agent's own, icem for other models.
        horizon: actions in a plan; if not given, that planner's own, or 20.
        samples: candidates an iteration, for planners that sample.
        episodes: how many, with seeds counting up from --seed.
        seed: of the first episode.
        json_file: write the figures there too.
    """
    agent = load_acting(model, planner, horizon=horizon, samples=samples)
    spec = agent.model.spec
    result = mpc.evaluate(mpc.make_for(spec), agent, episodes=episodes, seed=seed)
    summary = {"task": spec.environment, **result.summary()}
    table = Table(*summary)
    table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in summary.values()))
    console.print(table)
    if json_file:
        write_json(json_file, summary)


def distil(
    model: Positional[Path],
    out: Path,
    planner: str = "icem",
    horizon: int = 20,
    episodes: int = 5,
    rounds: int = 3,
    seed: int = 1_000,
) -> None:
    """Compile a model's planner into a policy that needs no search.

    Args:
        model: a model's folder.
        out: the policy's folder.
        planner: the planner to imitate.
        horizon: actions in a plan.
        episodes: acted in each round.
        rounds: of relabelling the states the policy itself visits.
        seed: of the first episode.
    """
    manifest.check_replaceable(out, "policy")
    agent = mpc.PlanningAgent(worldmodels.load(model), mpc.LearnedCost(), planner_named(planner, horizon=horizon))
    environment = mpc.make_for(agent.model.spec)
    settings = mpc.DistillationSettings(episodes=episodes, rounds=rounds)

    def show(report):
        acted = (
            ""
            if report.policy_return != report.policy_return
            else f", the policy's episodes returned {report.policy_return:.0f}"
        )
        console.print(
            f"round {report.round} of {report.rounds}: {report.states} labelled states, loss {report.loss:.4f}{acted}"
        )

    policy = mpc.distil(agent, environment, settings, seed=seed, progress=show)
    mpc.save_policy(mpc.PolicyAgent(agent.model, policy), out)
    console.print(f"{out}: {manifest.describe(out)}")


def readme(check: bool = False) -> None:
    """Write the tables of README.md and docs/ from benchmarks/results/; --check only says what is stale."""
    stale = tables.update([Path("README.md"), *sorted(Path("docs").glob("*.md"))], check=check)
    console.print("\n".join(f"{'stale' if check else 'updated'}: {path}" for path in stale) or "every table is up to date")
    if check and stale:
        sys.exit(1)


def doctor() -> None:
    """Versions, devices, rendering, and what to install if something is missing."""
    sys.exit(doctor_page.doctor())


def main() -> None:
    """Entry point: errors people can act on, and what the disk refuses, are printed in one line, exit code 2."""
    commands = {
        "collect": collect,
        "train": train,
        "learn": learn,
        "evaluate": evaluate,
        "diagnose": diagnose,
        "explore": explore,
        "distil": distil,
        "solve": solve,
        "export": export,
        "replay": replay,
        "view": view,
        "demo": demo,
        "data": data,
        "bench": bench,
        "readme": readme,
        "doctor": doctor,
    }
    try:
        tyro.extras.subcommand_cli_from_dict(commands, prog="sailplan", description=__doc__)
    except EXPECTED as error:
        refuse(str(error))
    except OSError as error:
        refuse(f"{error.filename}: {error.strerror}." if error.filename else str(error))


def refuse(said: str) -> None:
    """Say what is wrong, and leave."""
    console.print(Text.assemble(("sailplan:", "red"), f" {said}"))
    sys.exit(2)


if __name__ == "__main__":
    main()
