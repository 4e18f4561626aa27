"""The subcommands of `sailplan bench`: what each measures, and into which file of benchmarks/results/."""

from typing import Annotated

import tyro
from rich.console import Console

from benchmarks import doors, horizons, many_tasks, mazes, planner_bench, results
from benchmarks import speed as speed_benchmark
from benchmarks.ablations import bench_ablations
from benchmarks.control import bench_control, bench_simulator
from benchmarks.explore import bench_exploration, draw_exploration
from benchmarks.loader import bench_loader
from benchmarks.many_tasks import bench_many_tasks
from benchmarks.many_tasks_plot import plot_tasks
from benchmarks.maze_plot import draw_doors, draw_mazes
from benchmarks.maze_results_plot import plot_goals, plot_horizons
from benchmarks.model_bench_cli import (
    JSONFile,
    bench_action_free_command,
    bench_distractors_command,
    bench_futures_command,
    bench_objectives_command,
    bench_partial_command,
    bench_pixels_command,
    write_lines,
)
from benchmarks.model_plots import plot_training
from benchmarks.runtime import bench_runtime
from benchmarks.surprise import bench_surprise
from benchmarks.switching import bench_switching
from benchmarks.task_films import film_switching, film_tasks
from benchmarks.training import bench_training
from benchmarks.video import bench_video

console = Console(markup=False)


def bench_speed(quick: bool = False, seconds: float = speed_benchmark.SECONDS, json_file: JSONFile = None) -> None:
    """Our planners beside PyTorch's, a plain scan and the machine's matmul rate, into benchmarks/results/speed.jsonl.

    Args:
        quick: a look in a minute or two; nothing is written into benchmarks/results/.
        seconds: of timing a workload.
        json_file: write the lines there too.
    """
    write_lines(json_file, speed_benchmark.speed(quick, seconds))


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
        budgets: trajectories a decision, some of those in benchmarks/planner_cells.py; all if not given.
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


def bench_surprise_command(
    tasks: tuple[str, ...] = ("cartpole-swingup", "cheetah-run"),
    methods: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (1,),
    before: int = 20_000,
    after: int = 10_000,
    json_file: JSONFile = None,
) -> None:
    """The body's mass doubles in the middle of a run, into benchmarks/results/surprise.jsonl; cells that are there are left out.

    Args:
        tasks: dm_control's short names or Gymnasium ids, of MuJoCo's bodies.
        methods: always, surprised, never; all if not given.
        seeds: of the runs, which are kept under runs/surprise.
        before: frames with the body as it is.
        after: frames with twice its mass.
        json_file: write the new lines there too.
    """
    write_lines(json_file, bench_surprise(tasks, methods, seeds, before, after))


def bench_ablations_command(
    tasks: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (1,),
    frames: int = 25_000,
    json_file: JSONFile = None,
) -> None:
    """The learning agent without some of its parts, into benchmarks/results/ablations.jsonl; cells that are there are left out.

    Args:
        tasks: dm_control's short names or Gymnasium ids; cartpole-swingup and walker-walk if not given.
        methods: whole, reconstruction, reward-only, no-critic, unseeded, mode-1; all if not given.
        seeds: of the runs.
        frames: environment steps of each.
        json_file: write the new lines there too.
    """
    write_lines(json_file, bench_ablations(tasks, methods, seeds, frames))


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
        decisions: in the dataset of states.
        updates: timed, of states and of pictures; 200 at least.
        json_file: write the lines there too.
    """
    write_lines(json_file, bench_loader(decisions, updates))


def bench_training_command(json_file: JSONFile = None) -> None:
    """Updates a second beside a PyTorch twin and the machine's matmul rate, into benchmarks/results/training.jsonl.

    Args:
        json_file: write the lines there too.
    """
    write_lines(json_file, bench_training())
    console.print(f"the picture: {plot_training(results.read_lines(results.RESULTS / 'training.jsonl'))}")


def bench_many_tasks_command(
    bodies: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (1,),
    methods: tuple[str, ...] = (),
    frames: int = 100_000,
    updates: int = 4_000,
    picture: bool = False,
    json_file: JSONFile = None,
) -> None:
    """One model a body, learned without reward, on every task of that body, into benchmarks/results/many_tasks.jsonl.

    Args:
        bodies: some of cartpole, reacher, walker and cheetah; all if not given.
        seeds: of the models.
        methods: some of task_agent (told from bench control), simulator, random, planner and policy; all if not given.
        frames: explored without reward.
        updates: of critic and policy in imagination, for each task.
        picture: film the planner on the first seed's models, docs/images/many-tasks.gif, and measure nothing.
        json_file: write the lines there too.
    """
    if picture:
        console.print(f"the film: {film_tasks(bodies, seeds[0], frames, updates)}")
        return
    write_lines(json_file, bench_many_tasks(bodies, seeds, methods, frames, updates))
    console.print(f"the picture: {plot_tasks(results.read_lines(many_tasks.RESULTS))}")


def bench_switching_command(
    seeds: tuple[int, ...] = (1,),
    frames: int = 100_000,
    updates: int = 4_000,
    picture: bool = False,
    json_file: JSONFile = None,
) -> None:
    """One walker in one episode, told to stand, to walk and to run, into benchmarks/results/switching.jsonl.

    Args:
        seeds: of the models, which are bench many-tasks's.
        frames: explored without reward.
        updates: of critic and policy in imagination, for each task.
        picture: film one episode of the first seed's model, docs/images/switching.gif, and measure nothing.
        json_file: write the lines there too.
    """
    if picture:
        console.print(f"the film: {film_switching(seeds[0], frames, updates)}")
        return
    write_lines(json_file, bench_switching(seeds, frames, updates))


def bench_exploration_command(
    bodies: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (1,),
    frames: int = 100_000,
    updates: int = 4_000,
    methods: tuple[str, ...] = (),
    picture: bool = False,
    json_file: JSONFile = None,
) -> None:
    """How much of the state space disagreement, white and pink noise visit, and what one plans after each, into benchmarks/results/exploration.jsonl.

    Args:
        bodies: some of cartpole, reacher, walker and cheetah; all if not given.
        seeds: of the runs, which are bench many-tasks's.
        frames: environment steps of each.
        updates: of critic and policy in imagination, for each.
        methods: some of disagreement, pink and random; all if not given.
        picture: draw what the first seed's runs visited, docs/images/exploration.svg, and measure nothing.
        json_file: write the lines there too.
    """
    if picture:
        console.print(f"the picture: {draw_exploration(bodies, seeds[0], frames)}")
        return
    write_lines(json_file, bench_exploration(bodies, seeds, frames, updates, methods))


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
    planning: tyro.conf.OmitArgPrefixes[mazes.MazePlanning] = mazes.MazePlanning(),  # noqa: B008
    json_file: JSONFile = None,
) -> None:
    """Goals across mazes by one level and by two, into benchmarks/results/mazes.jsonl; needs the mazes extra.

    Args:
        tasks: Gymnasium ids of PointMazes; UMaze, Medium and Large if not given.
        methods: one_level, one_level_critic, two_level, simulator; all if not given.
        seeds: of what is learned, which is kept under runs/mazes. The ways to go are the same for all.
        episodes: ways that each method goes.
        resume: leave out cells that are in the file.
        picture: draw docs/images/mazes.svg of the first seed, and the film mazes.gif, and measure nothing.
        planning: how both plan.
        json_file: write the new lines there too.
    """
    if picture:
        console.print(*draw_mazes(tasks or mazes.TASKS, seed=seeds[0]), sep="\n")
        return
    write_lines(json_file, mazes.bench_mazes(tasks, methods, seeds, episodes, resume=resume, planning=planning))
    console.print(f"the picture: {plot_goals(results.read_lines(mazes.RESULTS))}")


def bench_doors_command(
    methods: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (1, 2, 3),
    episodes: int = 60,
    resume: bool = False,
    picture: bool = False,
    one: tyro.conf.OmitArgPrefixes[doors.OneLevel] = doors.OneLevel(),  # noqa: B008
    json_file: JSONFile = None,
) -> None:
    """A maze whose door is open by chance, into benchmarks/results/mazes.jsonl; needs the mazes extra.

    Args:
        methods: two_level, which plans under chance, two_level_mean, which takes the likeliest for certain, one_level_critic
            and simulator; all if not given.
        seeds: of what is learned, which is kept under runs/mazes. The ways to go are the same for all.
        episodes: ways that each method goes.
        resume: leave out cells that are in the file.
        picture: draw docs/images/doors.svg of the first seed, and the film doors.gif, and measure nothing.
        one: how one_level_critic plans and learns.
        json_file: write the new lines there too.
    """
    if picture:
        console.print(*draw_doors(seed=seeds[0]), sep="\n")
        return
    write_lines(json_file, doors.bench_doors(methods, seeds, episodes, resume=resume, one=one))
    console.print(f"the picture: {plot_goals(results.read_lines(mazes.RESULTS))}")


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
    write_lines(json_file, horizons.bench_horizons(tasks, seeds, frames))
    console.print(f"the picture: {plot_horizons(results.read_lines(horizons.RESULTS))}")


Benchmark = (
    Annotated[None, tyro.conf.subcommand("speed", constructor=bench_speed)]
    | Annotated[None, tyro.conf.subcommand("planners", constructor=bench_planners)]
    | Annotated[None, tyro.conf.subcommand("control", constructor=bench_control_command)]
    | Annotated[None, tyro.conf.subcommand("surprise", constructor=bench_surprise_command)]
    | Annotated[None, tyro.conf.subcommand("ablations", constructor=bench_ablations_command)]
    | Annotated[None, tyro.conf.subcommand("runtime", constructor=bench_runtime_command)]
    | Annotated[None, tyro.conf.subcommand("training", constructor=bench_training_command)]
    | Annotated[None, tyro.conf.subcommand("loader", constructor=bench_loader_command)]
    | Annotated[None, tyro.conf.subcommand("objectives", constructor=bench_objectives_command)]
    | Annotated[None, tyro.conf.subcommand("partial", constructor=bench_partial_command)]
    | Annotated[None, tyro.conf.subcommand("distractors", constructor=bench_distractors_command)]
    | Annotated[None, tyro.conf.subcommand("action-free", constructor=bench_action_free_command)]
    | Annotated[None, tyro.conf.subcommand("futures", constructor=bench_futures_command)]
    | Annotated[None, tyro.conf.subcommand("pixels", constructor=bench_pixels_command)]
    | Annotated[None, tyro.conf.subcommand("exploration", constructor=bench_exploration_command)]
    | Annotated[None, tyro.conf.subcommand("many-tasks", constructor=bench_many_tasks_command)]
    | Annotated[None, tyro.conf.subcommand("switching", constructor=bench_switching_command)]
    | Annotated[None, tyro.conf.subcommand("video", constructor=bench_video_command)]
    | Annotated[None, tyro.conf.subcommand("mazes", constructor=bench_mazes_command)]
    | Annotated[None, tyro.conf.subcommand("doors", constructor=bench_doors_command)]
    | Annotated[None, tyro.conf.subcommand("horizons", constructor=bench_horizons_command)]
)


def bench(run: tyro.conf.OmitSubcommandPrefixes[tyro.conf.OmitArgPrefixes[Benchmark]]) -> None:
    """Measure, and write the lines into benchmarks/results/."""
