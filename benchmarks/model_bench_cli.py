"""The subcommands of `sailplan bench` that train one model a cell and plan on it."""

from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks.action_free import bench_action_free
from benchmarks.distractors import bench_distractors
from benchmarks.futures import bench_futures
from benchmarks.json_file import write_json
from benchmarks.model_cells import Budget
from benchmarks.model_plots import PICTURES, plot_futures, plot_returns, plot_widths
from benchmarks.objectives import bench_objectives
from benchmarks.partial import bench_partial
from benchmarks.pixels import bench_pixels
from benchmarks.results import RESULTS, read_lines

JSONFile = Annotated[Path | None, tyro.conf.arg(name="json")]


def write_lines(path: Path | None, lines: list[dict[str, Any]]) -> None:
    if path is not None:
        write_json(path, lines)


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
    plot_returns(read_lines(RESULTS / "objectives.jsonl"), PICTURES / "objectives.svg", by=("method",))


def bench_partial_command(
    methods: tuple[str, ...] = (),
    budget: tyro.conf.OmitArgPrefixes[Budget] = Budget(updates=5_000),  # noqa: B008
    json_file: JSONFile = None,
) -> None:
    """The cartpole without velocities, into benchmarks/results/partial.jsonl; cells that are there are left out.

    Args:
        methods: full-state, memoryless, stack, recurrent; all if not given.
        budget: what a cell costs.
        json_file: write the new lines there too.
    """
    write_lines(json_file, bench_partial(methods, budget))
    plot_returns(read_lines(RESULTS / "partial.jsonl"), PICTURES / "partial.svg", by=("method",))


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
    lines = read_lines(RESULTS / "distractors.jsonl")
    plot_returns(lines, PICTURES / "distractors.svg", by=("method", "condition"))
    plot_widths(lines, PICTURES / "widths.svg")


def bench_action_free_command(
    tasks: tuple[str, ...] = ("cartpole-swingup",),
    methods: tuple[str, ...] = (),
    budget: tyro.conf.OmitArgPrefixes[Budget] = Budget(updates=5_000),  # noqa: B008
    json_file: JSONFile = None,
) -> None:
    """A tenth of the actions, into benchmarks/results/action_free.jsonl; cells that are there are left out.

    Args:
        tasks: cartpole-swingup, reacher-easy, cheetah-run.
        methods: labelled, tenth-alone, watched; all if not given.
        budget: what a cell costs; watching costs as many updates again.
        json_file: write the new lines there too.
    """
    write_lines(json_file, bench_action_free(tasks, methods, budget))
    plot_returns(read_lines(RESULTS / "action_free.jsonl"), PICTURES / "action-free.svg")


def bench_futures_command(
    codes: tuple[int, ...] = (),
    budget: tyro.conf.OmitArgPrefixes[Budget] = Budget(updates=4_000, episodes=40),  # noqa: B008
    json_file: JSONFile = None,
) -> None:
    """A strait where a gust blows from either side, into benchmarks/results/futures.jsonl; cells that are there are left out.

    Args:
        codes: of the latent variable, 1 for a deterministic model, 0 for the world itself; 0, 1, 2, 4, 16 and 64 if not given. Those of
            2 and 64 are also measured without the prior.
        budget: what a cell costs.
        json_file: write the new lines there too.
    """
    write_lines(json_file, bench_futures(codes, budget))
    plot_futures(read_lines(RESULTS / "futures.jsonl"))


def bench_pixels_command(
    tasks: tuple[str, ...] = ("cartpole-swingup",),
    methods: tuple[str, ...] = (),
    budget: tyro.conf.OmitArgPrefixes[Budget] = Budget(updates=5_000, batch=64),  # noqa: B008
    json_file: JSONFile = None,
) -> None:
    """Pictures in the place of the state, into benchmarks/results/pixels.jsonl; cells that are there are left out.

    Args:
        tasks: cartpole-swingup, reacher-easy, cheetah-run.
        methods: state, pixels, wind (leaves in the wind behind the body), reconstruction, reconstruction-wind; all if not given.
        budget: what a cell costs.
        json_file: write the new lines there too.
    """
    write_lines(json_file, bench_pixels(tasks, methods, budget))
    plot_returns(read_lines(RESULTS / "pixels.jsonl"), PICTURES / "pixels.svg")
