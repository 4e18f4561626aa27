"""The `sailplan` command."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

import mpc
import worldmodels
from benchmarks import doctor as doctor_page
from benchmarks import planner_bench, plots, report, results, tables
from benchmarks import speed as speed_benchmark
from benchmarks.control import bench_control, bench_simulator
from benchmarks.data import data
from benchmarks.demo import demo
from benchmarks.diagnose import diagnose
from benchmarks.distractors import bench_distractors
from benchmarks.explore import bench_exploration, explore
from benchmarks.export import export
from benchmarks.horizons import bench_horizons
from benchmarks.learn import learn
from benchmarks.loader import bench_loader
from benchmarks.many_tasks import bench_many_tasks
from benchmarks.maze_plot import draw_mazes
from benchmarks.mazes import TASKS as MAZES
from benchmarks.mazes import bench_mazes
from benchmarks.model_cells import Budget
from benchmarks.objectives import bench_objectives
from benchmarks.partial import bench_partial
from benchmarks.progress_bar import Bar
from benchmarks.replay import replay
from benchmarks.runtime import bench_runtime
from benchmarks.solve import solve
from benchmarks.train import train
from benchmarks.training import bench_training
from benchmarks.video import bench_video
from benchmarks.view import view
from planners import PlannerError
from planners.names import planner_named
from worldmodels import manifest
from worldmodels.errors import WorldModelError

console = Console()
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
    planner: str = "icem",
    horizon: int = 20,
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
        planner: the planner that acts where --policy is a model.
        horizon: actions in its plans.
        noise: standard deviation of the exploration noise on normalised actions.
        action_repeat: environment steps a decision lasts.
        copies: environments stepped side by side.
        seed: of the first episode; the following count up.
    """
    if policy in ("random", "pink"):
        made = mpc.make(environment, action_repeat=action_repeat)
        agent = mpc.RandomAgent(made.spec) if policy == "random" else mpc.PinkAgent(made.spec)
    else:
        agent = mpc.load_agent(Path(policy), planner_named(planner, horizon=horizon), exploration=noise)
        action_repeat = agent.model.spec.action_repeat
        made = mpc.make(environment, action_repeat=action_repeat)
    with Bar("collect", "frames") as bar:
        dataset = mpc.collect(made, frames=frames, seed=seed, agent=agent, copies=copies, out=out, progress=bar)
    console.print(f"{out}: {len(dataset)} episodes, {dataset.frames} frames")


def evaluate(
    model: Positional[Path],
    planner: str = "icem",
    horizon: int = 20,
    samples: int | None = None,
    episodes: int = 10,
    seed: int = 100,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Mean return and decision latency of a model under a planner, or of a policy, on unseen seeds.

    Args:
        model: the folder of a model or a policy.
        planner: cem, icem, gradient, …; ignored for a policy.
        horizon: actions in a plan.
        samples: candidates an iteration, for planners that sample.
        episodes: how many, with seeds counting up from --seed.
        seed: of the first episode.
        json_file: write the figures there too.
    """
    settings: dict[str, Any] = {"horizon": horizon} | ({} if samples is None else {"samples": samples})
    agent = mpc.load_agent(model, planner_named(planner, **settings))
    spec = agent.model.spec
    result = mpc.evaluate(mpc.make_for(spec), agent, episodes=episodes, seed=seed)
    summary = {"task": spec.environment, **result.summary()}
    table = Table(*summary)
    table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in summary.values()))
    console.print(table)
    if json_file:
        manifest.write_aside(json_file, json.dumps(summary, indent=1).encode())


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


JSONFile = Annotated[Path | None, tyro.conf.arg(name="json")]


def bench_speed(quick: bool = False, json_file: JSONFile = None) -> None:
    """Our planners beside PyTorch's, a plain scan and the machine's matmul rate, into benchmarks/results/speed.jsonl.

    Args:
        quick: a look in a minute or two; nothing is written into benchmarks/results/.
        json_file: write the lines there too.
    """
    write_lines(json_file, speed_benchmark.speed(quick=quick))


def bench_planners(
    tasks: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    models: tuple[str, ...] = (),
    budgets: tuple[int, ...] = (),
    seeds: int = 10,
    resume: bool = False,
    retimed: bool = False,
    minutes: float = float("inf"),
    json_file: JSONFile = None,
) -> None:
    """What every planner reaches against time and model evaluations, into benchmarks/results/planners.jsonl.

    Args:
        tasks: analytic problems and dm_control tasks; all if not given.
        methods: planners by their names in lower case; all if not given.
        models: some of analytic, simulator and jepa; all if not given.
        budgets: trajectories a decision, as in benchmarks/planner_bench.py; all if not given.
        seeds: keys or episodes that a cell averages over.
        resume: leave out cells measured over as many seeds before, and use the models trained before.
        retimed: measure no cell, only the decision times of those measured before, in turn.
        minutes: begin no cell after so long.
        json_file: write the new lines there too.
    """
    lines = planner_bench.bench_planners(
        tasks, methods, models, budgets, seeds, resume=resume, retimed=retimed, minutes=minutes
    )
    write_lines(json_file, lines)


def bench_control_command(
    tasks: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (0,),
    frames: int = 100_000,
    together: int = 1,
    simulator: bool = False,
    json_file: JSONFile = None,
) -> None:
    """The learning agent against frames and minutes, into benchmarks/results/control.jsonl; goes on where it was stopped.

    Args:
        tasks: dm_control's short names or Gymnasium ids; the twelve of the table if not given.
        seeds: of the runs.
        frames: environment steps of each run.
        together: runs side by side, one core each.
        simulator: measure the planner on the true simulator instead: the ceiling.
        json_file: write the lines there too.
    """
    if simulator:
        bench_simulator(tasks)
        return
    write_lines(json_file, bench_control(tasks, seeds, frames, together=together))


def bench_runtime_command(
    tasks: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    again: bool = False,
    share: float = 1.0,
    json_file: JSONFile = None,
) -> None:
    """The controller under faults, deadlines and delay, and exports, into benchmarks/results/runtime.jsonl.

    Args:
        tasks: dm_control's short names; the three of the table if not given. Agents are learned into runs/runtime/.
        methods: cells by name, as in benchmarks/runtime.py; all if not given.
        again: measure what is in the file already, too.
        share: of every condition's decisions; less than 1 for a look.
        json_file: write the new lines there too.
    """
    write_lines(json_file, bench_runtime(tasks, methods, again=again, share=share))


def bench_loader_command(decisions: int = 500_000, updates: int = 1_000, json_file: JSONFile = None) -> None:
    """Whether reading windows from disk slows training down, into benchmarks/results/training.jsonl.

    Args:
        decisions: in the dataset.
        updates: timed.
        json_file: write the lines there too.
    """
    write_lines(json_file, bench_loader(decisions, updates))


def bench_training_command(json_file: JSONFile = None) -> None:
    """Updates a second beside a PyTorch twin and the machine's matmul rate, into benchmarks/results/training.jsonl.

    Args:
        json_file: write the lines there too.
    """
    write_lines(json_file, bench_training())


def bench_objectives_command(
    tasks: tuple[str, ...] = ("cartpole-swingup",),
    methods: tuple[str, ...] = (),
    budget: tyro.conf.OmitArgPrefixes[Budget] = Budget(),  # noqa: B008
    json_file: JSONFile = None,
) -> None:
    """Every objective on the same data and budget, into benchmarks/results/objectives.jsonl; cells that are there are left out.

    Args:
        tasks: cartpole-swingup, reacher-easy, cheetah-run.
        methods: objectives by name, and none: VICReg without its regulariser; all if not given.
        budget: what a cell costs.
        json_file: write the new lines there too.
    """
    write_lines(json_file, bench_objectives(tasks, methods, budget))


def bench_partial_command(
    methods: tuple[str, ...] = (),
    budget: tyro.conf.OmitArgPrefixes[Budget] = Budget(),  # noqa: B008
    json_file: JSONFile = None,
) -> None:
    """The cartpole without velocities, into benchmarks/results/partial.jsonl; cells that are there are left out.

    Args:
        methods: full-state, memoryless, stack, recurrent; all if not given.
        budget: what a cell costs.
        json_file: write the new lines there too.
    """
    write_lines(json_file, bench_partial(methods, budget))


def bench_distractors_command(
    tasks: tuple[str, ...] = ("cartpole-swingup",),
    methods: tuple[str, ...] = (),
    amounts: tuple[int, ...] = (0, 1, 4),
    widths: tuple[int, ...] = (128,),
    budget: tyro.conf.OmitArgPrefixes[Budget] = Budget(),  # noqa: B008
    json_file: JSONFile = None,
) -> None:
    """Noise beside the state, into benchmarks/results/distractors.jsonl; cells that are there are left out.

    Args:
        tasks: cartpole-swingup, reacher-easy, cheetah-run.
        methods: vicreg, barlow, sigreg, teacher, reconstruction; all if not given.
        amounts: components of noise for each of the state's.
        widths: of the hidden layers.
        budget: what a cell costs.
        json_file: write the new lines there too.
    """
    write_lines(json_file, bench_distractors(tasks, methods, amounts, widths, budget))


def bench_many_tasks_command(
    bodies: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (1,),
    methods: tuple[str, ...] = (),
    frames: int = 100_000,
    updates: int = 5_000,
    json_file: JSONFile = None,
) -> None:
    """One model a body, learned without reward, on every task of that body, into benchmarks/results/many_tasks.jsonl.

    Args:
        bodies: some of cartpole, reacher, walker and cheetah; all if not given.
        seeds: of the models.
        methods: some of random, planner, policy and simulator; all if not given.
        frames: explored without reward.
        updates: of critic and policy in imagination, for each task.
        json_file: write the lines there too.
    """
    write_lines(json_file, bench_many_tasks(bodies, seeds, methods, frames, updates))


def bench_exploration_command(
    tasks: tuple[str, ...] = ("dm_control/cartpole-swingup-v0", "dm_control/reacher-easy-v0"),
    seeds: tuple[int, ...] = (0, 1),
    frames: int = 10_000,
    json_file: JSONFile = None,
) -> None:
    """How much of the state space disagreement, white and pink noise visit, into benchmarks/results/exploration.jsonl.

    Args:
        tasks: Gymnasium ids.
        seeds: of the runs.
        frames: environment steps of each.
        json_file: write the lines there too.
    """
    write_lines(json_file, bench_exploration(tasks, seeds, frames))


def bench_video_command(json_file: JSONFile = None) -> None:
    """What lossless ways of keeping frames cost, into benchmarks/results/video.jsonl; needs the data extra.

    Args:
        json_file: write the lines there too.
    """
    write_lines(json_file, bench_video())


def bench_mazes_command(
    tasks: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (1, 2, 3),
    episodes: int = 20,
    resume: bool = False,
    picture: bool = False,
    json_file: JSONFile = None,
) -> None:
    """Goals across mazes by one level and by two, into benchmarks/results/mazes.jsonl; needs the mazes extra.

    Args:
        tasks: Gymnasium ids of PointMazes; UMaze, Medium and Large if not given.
        methods: one_level, one_level_critic, two_level, simulator; all if not given.
        seeds: of what is learned, which is kept under runs/mazes. The ways to go are the same for all.
        episodes: ways that each method goes.
        resume: leave out cells that are in the file.
        picture: draw docs/images/mazes.svg of the first seed, and measure nothing.
        json_file: write the new lines there too.
    """
    if picture:
        console.print(f"the picture: {draw_mazes(tasks or MAZES, seed=seeds[0])}")
        return
    write_lines(json_file, bench_mazes(tasks, methods, seeds, episodes, resume=resume))


def bench_horizons_command(
    tasks: tuple[str, ...] = (), seeds: tuple[int, ...] = (1, 2, 3), frames: int = 20_000, json_file: JSONFile = None
) -> None:
    """How far ahead each level learned of a maze predicts, into benchmarks/results/horizons.jsonl; needs the mazes extra.

    Args:
        tasks: Gymnasium ids of PointMazes; UMaze, Medium and Large if not given.
        seeds: of what is learned, as in bench mazes.
        frames: environment steps of new episodes to predict.
        json_file: write the lines there too.
    """
    write_lines(json_file, bench_horizons(tasks, seeds, frames))


def write_lines(path: Path | None, lines: list[dict[str, Any]]) -> None:
    if path is not None:
        manifest.write_aside(path, json.dumps(lines, indent=1).encode())


Benchmark = (
    Annotated[None, tyro.conf.subcommand("speed", constructor=bench_speed)]
    | Annotated[None, tyro.conf.subcommand("planners", constructor=bench_planners)]
    | Annotated[None, tyro.conf.subcommand("control", constructor=bench_control_command)]
    | Annotated[None, tyro.conf.subcommand("runtime", constructor=bench_runtime_command)]
    | Annotated[None, tyro.conf.subcommand("training", constructor=bench_training_command)]
    | Annotated[None, tyro.conf.subcommand("loader", constructor=bench_loader_command)]
    | Annotated[None, tyro.conf.subcommand("objectives", constructor=bench_objectives_command)]
    | Annotated[None, tyro.conf.subcommand("partial", constructor=bench_partial_command)]
    | Annotated[None, tyro.conf.subcommand("distractors", constructor=bench_distractors_command)]
    | Annotated[None, tyro.conf.subcommand("exploration", constructor=bench_exploration_command)]
    | Annotated[None, tyro.conf.subcommand("many-tasks", constructor=bench_many_tasks_command)]
    | Annotated[None, tyro.conf.subcommand("video", constructor=bench_video_command)]
    | Annotated[None, tyro.conf.subcommand("mazes", constructor=bench_mazes_command)]
    | Annotated[None, tyro.conf.subcommand("horizons", constructor=bench_horizons_command)]
)


def bench(run: tyro.conf.OmitSubcommandPrefixes[tyro.conf.OmitArgPrefixes[Benchmark]]) -> None:
    """Measure, and write the lines into benchmarks/results/."""


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
    """Entry point: errors people can act on are printed in one line, exit code 2."""
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
        console.print(f"[red]sailplan:[/red] {error}", highlight=False, markup=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
