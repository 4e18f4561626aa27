"""Measured results: one `.jsonl` file per benchmark, one line per cell. Every figure in the documentation comes from here."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import provenance
from worldmodels.files import write_aside

RESULTS = Path(__file__).resolve().parent / "results"
CELL = ("benchmark", "task", "method", "settings", "seed", "frames")


class ResultError(ValueError):
    """A line or a file of results that cannot be used: what was given, what was expected, what to do."""


def write_line(path: str | Path, line: Mapping[str, Any]) -> dict[str, Any]:
    """Add a measured cell to the file at `path`, or replace the one with the same `CELL` fields. Returns what was written.

    Besides the `CELL` fields, `line` holds the metrics, named with their units (`decision_ms_p50`), and `minutes`, the time
    it took to measure. Commit, versions and machine are filled in. Safe against a kill at any moment and against other
    processes that write the same file.

    Raises `ResultError`, with the file untouched, where a field is missing or a value is not finite JSON.
    """
    path = Path(path)
    full = _checked({**line, "commit": provenance.commit(), "versions": provenance.versions(), "machine": provenance.machine()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        lines = read_lines(path)
        places = {_cell(old): place for place, old in enumerate(lines)}
        place = places.get(_cell(full), len(lines))
        lines[place : place + 1] = [full]
        write_aside(path, "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in lines).encode())
    return full


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """All cells of a results file, in the order first measured; none where the file does not exist.

    Raises `ResultError`, naming the line, where one is not a JSON object with the `CELL` fields.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError as error:
            raise ResultError(
                f"{path}, line {number}: not JSON ({error}). Remove the line and measure its cell again."
            ) from None
        missing = [name for name in CELL if not isinstance(line, dict) or name not in line]
        if missing:
            raise ResultError(f"{path}, line {number}: lacks {', '.join(missing)}. Remove the line and measure its cell again.")
        lines.append(line)
    return lines


def _checked(line: dict[str, Any]) -> dict[str, Any]:
    missing = [name for name in (*CELL, "minutes") if name not in line]
    if missing:
        raise ResultError(f"The result lacks {', '.join(missing)}. Expected {', '.join(CELL)}, the metrics, and minutes.")
    try:
        return json.loads(json.dumps(line, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ResultError(
            f"The result is not finite JSON: {error}. Give plain finite numbers, texts, lists and dicts."
        ) from None


def holds(path: str | Path, cell: Mapping[str, Any]) -> bool:
    """Whether a line of the results file at `path` has all of `cell`'s fields and values."""
    return any(all(line.get(name) == value for name, value in cell.items()) for line in read_lines(path))


def choose(what: str, names: Sequence[str], among: Iterable[str]) -> list[str]:
    """`names`, or all there are where none is given; `ResultError` for one that is not there."""
    every = list(among)
    for name in names:
        if name not in every:
            raise ResultError(f"{what} {name} is not known. Expected some of {', '.join(every)}.")
    return list(names or every)


def _cell(line: Mapping[str, Any]) -> str:
    return json.dumps([line[name] for name in CELL], sort_keys=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that no other process replaces a file between our reading and writing it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
