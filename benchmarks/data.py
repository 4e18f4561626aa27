"""`sailplan data info|convert|verify`: our own datasets, and other people's."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.text import Text

import worldmodels
from worldmodels import manifest
from worldmodels.data.formats import Reading, Report, Source, convert, open_source
from worldmodels.data.formats import verify as verify_source
from worldmodels.files import MANIFEST, located
from worldmodels.spec import DiscreteAction

console = Console(markup=False)
Positional = tyro.conf.Positional


def info(source: Positional[Path], observations: tuple[str, ...] = ()) -> None:
    """What a folder that sailplan wrote is, or what a foreign dataset holds.

    Args:
        source: any folder of sailplan; a folder of Minari or LeRobot; an HDF5 or parquet file.
        observations: quantities to look at; all if not given.
    """
    if _is_ours(source):
        console.print(manifest.describe(source), highlight=False)
        return
    _describe(open_source(source, Reading(observations=observations)))


def verify(source: Positional[Path], observations: tuple[str, ...] = ()) -> None:
    """Check every file's checksum, or read every episode of a foreign dataset; bad ones are listed, and the exit code is 2.

    Args:
        source: as in `sailplan data info`.
        observations: quantities to read; all if not given.
    """
    if _is_ours(source):
        content = manifest.read(source)
        console.print(manifest.describe(source), highlight=False)
        wrong = manifest.verify(source, content)
        if wrong:
            raise worldmodels.DataError(f"{source}: {', '.join(f'{name} is {what}' for name, what in wrong.items())}.")
        console.print("every file matches its checksum")
        if content.kind != "dataset":
            return
    foreign = open_source(source, Reading(observations=observations))
    if not _is_ours(source):
        _describe(foreign)
    report = verify_source(foreign)
    _tell(report)
    if report.bad:
        raise worldmodels.DataError(f"{source}: {len(report.bad)} of {len(foreign)} episodes are bad.")
    console.print(f"all {report.episodes} episodes are good")


def convert_command(
    source: Positional[Path],
    out: Path,
    to: Literal["sailplan", "minari"] = "sailplan",
    observations: tuple[str, ...] = (),
    low: tuple[float, ...] = (),
    high: tuple[float, ...] = (),
    environment: str | None = None,
    action_repeat: int | None = None,
    seconds_per_step: float | None = None,
    action_free: bool = False,
    skip_bad: bool = False,
) -> None:
    """Write another dataset's episodes into a new folder, checked one by one.

    Args:
        source: as in `sailplan data info`.
        out: the new folder; for Minari its name ends in a version, as cartpole-v0.
        to: sailplan's own format, or Minari's (HDF5, images without loss).
        observations: quantities to keep; all if not given.
        low: bounds of the actions, one number or one each; as the source says, or else -1, if not given.
        high: likewise, or else 1; the last one of actions that are integers.
        environment: the id to note, instead of what the source says.
        action_repeat: environment steps a row lasts; as the source says, or else 1, if not given.
        seconds_per_step: that a row lasts, instead of what the source says.
        action_free: read no actions, to learn from observation alone.
        skip_bad: leave bad episodes out, and list them, instead of stopping at the first.
    """
    reading = Reading(environment, observations, low, high, action_free, action_repeat, seconds_per_step)
    foreign = open_source(source, reading)
    _describe(foreign)
    report = convert(foreign, out, to, skip_bad=skip_bad)
    _tell(report)
    left = f"; left out, being bad: {len(report.bad)}" if report.bad else ""
    console.print(f"{out}: {report.episodes} of {len(foreign)} episodes, {report.decisions} decisions{left}", highlight=False)


Data = (
    Annotated[None, tyro.conf.subcommand("info", constructor=info)]
    | Annotated[None, tyro.conf.subcommand("convert", constructor=convert_command)]
    | Annotated[None, tyro.conf.subcommand("verify", constructor=verify)]
)


def data(run: tyro.conf.OmitSubcommandPrefixes[tyro.conf.OmitArgPrefixes[Data]]) -> None:
    """Look into datasets, convert and check them."""


def _is_ours(source: Path) -> bool:
    return not source.exists() or ((located(source) / MANIFEST).is_file() and not source.is_file())


def _describe(source: Source) -> None:
    spec = source.spec
    action = (
        f"{spec.action.n} choices" if isinstance(spec.action, DiscreteAction) else f"{spec.action.low} to {spec.action.high}"
    )
    frames = dict.fromkeys(spec.images, "frames")
    lines = {
        "observations": ", ".join(f"{name} {list(shape)} {frames.get(name, '')}".strip() for name, shape in spec.observation),
        "actions": action,
        "seconds a step": f"{spec.seconds_per_step:g}",
        "not read": ", ".join(source.ignored),
    }
    console.print(f"{source.where}: {source.kind}, {len(source)} episodes of {spec.environment}", highlight=False)
    for name, value in lines.items():
        if value:
            console.print(f"  {name}: {value}", highlight=False)
    for note in source.notes:
        console.print(f"  note: {note}", highlight=False)


def _tell(report: Report) -> None:
    for reason in report.bad.values():
        console.print(Text.assemble(("bad:", "red"), f" {reason}"))
    if 0 < report.paid < report.episodes:
        console.print(
            f"  note: only {report.paid} of {report.episodes} episodes have rewards; training asks for all or none.",
            highlight=False,
        )
