"""From any format that is read to sailplan's own, or to Minari; nothing is left out in silence."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from worldmodels import manifest
from worldmodels.data.dataset import Dataset
from worldmodels.data.episode import Episode
from worldmodels.data.formats.hdf5 import open_hdf5
from worldmodels.data.formats.minari import data_folder, open_minari, write_minari
from worldmodels.data.formats.parquet import open_parquet
from worldmodels.data.formats.source import Reading, Source, require_known
from worldmodels.errors import DataError
from worldmodels.files import MANIFEST, located

HDF5 = (".hdf5", ".h5", ".hdf")


@dataclass
class Report:
    """What was read: how many episodes and decisions, how many with rewards, and what is wrong with each left out, by its name."""

    episodes: int = 0
    decisions: int = 0
    paid: int = 0
    bad: dict[str, str] = field(default_factory=dict)


def open_source(path: str | Path, reading: Reading | None = None) -> Source:
    """The episodes under `path`, whatever known format it is in.

    Raises `DataError` for a path that is not there, for a format nobody knows, for a missing optional package, and for what
    the formats' own readers refuse.
    """
    path, reading = Path(path), reading or Reading()
    if not located(path).exists():
        raise DataError(f"{path}: there is no such file or folder.")
    if (located(path) / MANIFEST).is_file():
        return _own(path, reading)
    if path.is_dir() and data_folder(path) is not None:
        return open_minari(path, reading)
    if path.is_file() and path.suffix.lower() in HDF5:
        return open_hdf5(path, reading)
    if path.suffix.lower() == ".parquet" or (path.is_dir() and next(path.rglob("*.parquet"), None) is not None):
        return open_parquet(path, reading)
    raise DataError(
        f"{path}: no format that is read here. Expected a folder of sailplan, Minari or LeRobot, a .parquet file or folder, "
        f"or a file ending in {', '.join(HDF5)}."
    )


def convert(
    source: Source,
    out: str | Path,
    to: Literal["sailplan", "minari"] = "sailplan",
    *,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write every episode of `source` to the new folder `out`, in one step; the report lists what was left out.

    Raises `DataError` at the first bad episode, unless `skip_bad`, and where no episode is good.
    """
    out = Path(out)
    report = Report()
    episodes = _good(source, report, skip_bad, progress)
    if to == "minari":
        write_minari(out, source.spec, episodes)
        return report
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: something is there already. Choose another folder.")
    with manifest.replacing(out, "dataset") as new:
        with Dataset.create(new, source.spec, {"converted_from": str(source.where), "format": source.kind}) as dataset:
            for episode in episodes:
                dataset.append(episode)
        if not report.episodes:
            raise DataError(f"{out}: no episode of {source.where} is good. The first: {next(iter(report.bad.values()))}")
    return report


def verify(source: Source, progress: Callable[[int, int], None] | None = None) -> Report:
    """Read every episode; the report lists the bad ones."""
    report = Report()
    for _ in _good(source, report, True, progress):
        pass
    return report


def _good(source: Source, report: Report, skip_bad: bool, progress: Callable[[int, int], None] | None) -> Iterator[Episode]:
    for index, name in enumerate(source.names):
        try:
            episode = source.read(name)
        except DataError as error:
            if not skip_bad:
                raise DataError(f"{error} Leave such episodes out with --skip-bad, which lists them.") from error
            report.bad[name] = str(error)
            continue
        report.episodes, report.decisions = report.episodes + 1, report.decisions + len(episode)
        report.paid += episode.costs is not None
        if progress is not None:
            progress(index + 1, len(source))
        yield episode


def _own(path: Path, reading: Reading) -> Source:
    """Our own dataset; a damaged episode is found when it is read, not before."""
    dataset = Dataset.unchecked(path)
    spec, names = dataset.spec, dataset.files
    require_known(path, reading.observations, spec.names)
    spec = reading.spec(spec, str(path))

    def load(name: str) -> Episode:
        episode = dataset.read(name)
        return replace(episode, actions=np.zeros((len(episode), 0), np.float32)) if reading.action_free else episode

    ignored = tuple(name for name in dataset.spec.names if name not in spec.names)
    return Source("sailplan", path, spec, names, load, ignored=ignored)
