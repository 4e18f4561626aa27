"""Parquet by pyarrow: LeRobot's datasets (versions 2 and 3, films included), and plain tables with the same column names.

A row is one step: `observation.<name>` (or `observation`), `action`, `next.reward` or `reward`, `next.done` or `done`,
`episode_index`, `frame_index`. Without `episode_index` each file is an episode.
"""

import contextlib
import functools
import json
from collections import Counter
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from worldmodels.data.episode import Episode
from worldmodels.data.formats.source import (
    ACTIONS,
    ENDS,
    REWARDS,
    Glance,
    Reading,
    Source,
    episode_from_rows,
    found,
    guarded,
    require,
    require_known,
    source_of,
)
from worldmodels.data.formats.video import frames, pictures
from worldmodels.errors import DataError

EPISODE, FRAME = "episode_index", "frame_index"
Span = tuple[Path, int, int]  # file, first and last row
DECISION = (
    "A row is an observation and the action taken at it: the last row of each episode gives its observation, and no decision."
)


def open_parquet(path: Path, reading: Reading) -> Source:
    """A parquet file, a folder of them, or a LeRobot dataset. `DataError` for damage and for columns that are not there."""
    return guarded(str(path), _open, path, reading)


def _open(path: Path, reading: Reading) -> Source:
    pq = require("pyarrow.parquet")
    info = json.loads((path / "meta" / "info.json").read_bytes()) if (path / "meta" / "info.json").is_file() else {}
    files = [path] if path.is_file() else sorted((path / "data" if info else path).rglob("*.parquet"))
    if not files:
        raise DataError(f"{path}: it holds no parquet file.")
    columns, spans = _spans(pq, files, path)
    about = _about(pq, path)
    lengths = dict.fromkeys(f"episode {number}" for number in range(int(info.get("total_episodes") or 0)))
    lengths |= {f"episode {number}": row.get("length") for number, row in about.items()}
    names = tuple(dict.fromkeys([*spans, *lengths]))
    films = [name for name, feature in info.get("features", {}).items() if feature.get("dtype") == "video"]
    shown = Counter(_short(name) for name in dict.fromkeys((*columns, *films)) if name in films or _observed(name))
    if twice := [name for name, count in shown.items() if count > 1]:
        raise DataError(f"{path}: more than one column is called {', '.join(twice)}. Rename all but one.")
    known = set(shown)
    require_known(path, reading.observations, known)
    left = known - set(reading.observations or known)
    films = [name for name in films if _short(name) not in left]
    fps = float(info.get("fps") or 0.0)
    if films and fps <= 0:
        raise DataError(f"{path / 'meta' / 'info.json'}: fps={info.get('fps')}: expected the frames a second of {films}.")
    table = functools.lru_cache(maxsize=1)(pq.read_table)
    numbers = functools.lru_cache(maxsize=1)(lambda file: pq.read_table(file, columns=_without_pictures(pq, file)))
    film = _film_finder(path, info, about)

    def load(name: str) -> Episode:
        where = f"{path}: {name}"
        if name not in spans:
            raise DataError(f"{where}: it has no rows in {path}/data, though the metadata name it.")
        file, start, stop = spans[name]
        rows = guarded(f"{where} ({file.name})", table, file).slice(start, stop - start)
        read = {column: _column(rows, column, where) for column in rows.column_names if _wanted(column, left)}
        _check_frames(read.get(FRAME), stop - start, lengths.get(name), where)
        observations = {_short(c): _full(array, c, where) for c, array in read.items() if _observed(c)}
        for column in films:
            video, second = film(column, int(name.removeprefix("episode ")))
            observations[_short(column)] = frames(video, stop - start, fps=fps, start=second, where=where, field=_short(column))
        full = {column: array for column, array in read.items() if array is not None}
        actions, rewards, ends = (full.get(found(names, full) or "") for names in (ACTIONS, REWARDS, ENDS))
        return episode_from_rows(
            where,
            observations,
            actions,
            rewards,
            terminated=ends is not None and bool(ends[-1]),
            seed=names.index(name),
            action_free=reading.action_free,
        )

    def glance(name: str) -> Glance:
        file, start, stop = spans[name]
        return _glance(numbers(file).slice(start, stop - start), name)

    notes = (DECISION, *(f"{_short(name)} is a film, most likely stored with loss." for name in films), *_empty(pq, spans))
    return source_of(
        f"LeRobot {info.get('codebase_version', '')}".strip() if info else "parquet",
        path,
        names,
        load,
        reading,
        environment=str(info.get("robot_type") or path.stem),
        glance=glance,
        seconds_per_step=1.0 / (fps or 1.0),
        ignored=(*sorted(left), *(name for name in columns if not _wanted(name))),
        notes=notes,
    )


def _spans(pq: Any, files: list[Path], path: Path) -> tuple[list[str], dict[str, Span]]:
    """All columns, and where each episode lies, by its name; a file that cannot be read counts as one, called after it."""
    columns: dict[str, None] = {}
    spans: dict[str, Span] = {}
    for file in files:
        try:
            names, numbers = guarded(str(file), _numbers, pq, file)
        except DataError:  # which is said when the episode is read
            spans[file.relative_to(path.parent).as_posix()] = (file, 0, 0)
            continue
        columns |= dict.fromkeys(names)
        if numbers is None:
            spans[f"episode {len(spans)}"] = (file, 0, pq.read_metadata(file).num_rows)
            continue
        borders = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        for start, stop in zip(borders, borders[1:], strict=False):
            if start == stop:
                continue
            name = f"episode {int(numbers[start])}"
            if name in spans:
                raise DataError(
                    f"{file}: {name} begins again in row {start}. Expected the rows of an episode one after the other."
                )
            spans[name] = (file, start, stop)
    return list(columns), spans


def _numbers(pq: Any, file: Path) -> tuple[list[str], np.ndarray | None]:
    """The columns of a file, and to which episode each row belongs; None where all are of one."""
    names = pq.read_schema(file).names
    return names, pq.read_table(file, columns=[EPISODE]).column(EPISODE).to_numpy() if EPISODE in names else None


def _about(pq: Any, path: Path) -> dict[int, dict[str, Any]]:
    """What LeRobot's metadata say of each episode: lines of JSON in version 2, tables in version 3."""
    lines, tables = path / "meta" / "episodes.jsonl", sorted((path / "meta" / "episodes").rglob("*.parquet"))
    rows = [json.loads(line) for line in lines.read_text().splitlines() if line.strip()] if lines.is_file() else []
    rows += [row for file in tables for row in pq.read_table(file).to_pylist()]
    return {int(row[EPISODE]): row for row in rows}


def _empty(pq: Any, spans: dict[str, Span]) -> Iterator[str]:
    """What is said of columns of rewards or ends that hold nothing in some episodes."""
    counts: Counter[str] = Counter()

    @functools.lru_cache(maxsize=1)
    def table(file: Path) -> Any:
        return pq.read_table(file, columns=[name for name in pq.read_schema(file).names if name in (*REWARDS, *ENDS)])

    for file, start, stop in spans.values():
        with contextlib.suppress(DataError):  # which is said when the episode is read
            rows = guarded(str(file), table, file).slice(start, stop - start)
            counts.update(name for name in rows.column_names if rows.column(name).null_count == stop - start)
    for name, count in counts.items():
        lost = "costs" if name in REWARDS else "end"
        yield f"{name} is empty in {count} of {len(spans)} episodes, which have no {lost} by it."


def _glance(rows: Any, where: str) -> Glance:
    """Of the rows of an episode without its pictures: one row, and all actions where each is one number."""
    first = {column: _column(rows.slice(0, 1), column, where) for column in rows.column_names}
    shapes = {_short(c): array.shape[1:] for c, array in first.items() if _observed(c) and array is not None}
    acted = found(ACTIONS, first)
    if acted is None or not _is_plain(rows.column(acted).type):
        return shapes, first.get(acted or "")
    return shapes, _column(rows, acted, where)


def _without_pictures(pq: Any, file: Path) -> list[str]:
    """The columns that are read of one file, but for pictures, which are large."""
    return [field.name for field in pq.read_schema(file) if _wanted(field.name) and "struct" not in str(field.type)]


def _film_finder(path: Path, info: dict[str, Any], about: dict[int, Any]) -> Callable[[str, int], tuple[Path, float | None]]:
    """(column, episode) -> the film's file and the second where the episode begins in it; None where the film is all its own."""
    pattern, per_chunk = str(info.get("video_path")), int(info.get("chunks_size") or 1000)
    if "episode_index" in pattern:
        return lambda column, number: (
            path / pattern.format(video_key=column, episode_index=number, episode_chunk=number // per_chunk),
            None,
        )

    def find(column: str, number: int) -> tuple[Path, float]:
        row, key = about[number], f"videos/{column}"
        file = pattern.format(video_key=column, chunk_index=row[f"{key}/chunk_index"], file_index=row[f"{key}/file_index"])
        return path / file, float(row[f"{key}/from_timestamp"])

    return find


def _column(rows: Any, column: str, where: str) -> np.ndarray | None:
    """A column as [N] or [N, ...]; None where it holds nothing at all."""
    values = rows.column(column)
    if values.null_count == len(values):
        return None
    if values.null_count:
        raise DataError(f"{where}: {_field(column)} is empty in {values.null_count} of {len(values)} rows.")
    listed = values.to_pylist() if not _is_plain(values.type) else None
    if listed is None:
        return values.to_numpy()
    if isinstance(listed[0], dict) and "bytes" in listed[0]:
        return pictures(listed, where=where, field=_field(column))
    kind = np.float32 if "float" in str(values.type) or "double" in str(values.type) else None
    try:
        return np.asarray(listed, kind)
    except ValueError as error:
        raise DataError(f"{where}: {_field(column)} has rows of different lengths ({error}).") from error


def _full(array: np.ndarray | None, column: str, where: str) -> np.ndarray:
    if array is None:
        raise DataError(f"{where}: {_field(column)} is empty. Leave it out by naming the others with --observations.")
    return array


def _check_frames(numbers: np.ndarray | None, rows: int, stated: int | None, where: str) -> None:
    if stated is not None and rows != stated:
        raise DataError(f"{where}: it has {rows} rows, its metadata say length={stated}: frames are missing, or too many.")
    if numbers is None:
        return
    if numbers[0] != 0:
        raise DataError(f"{where}: {FRAME} begins at {int(numbers[0])}, expected 0: frames are missing.")
    gaps = np.flatnonzero(np.diff(numbers) != 1)
    if len(gaps):
        before, after = int(numbers[gaps[0]]), int(numbers[gaps[0] + 1])
        raise DataError(f"{where}: {FRAME} goes from {before} to {after}: frames are missing.")


def _is_plain(kind: Any) -> bool:
    return not any(word in str(kind) for word in ("list", "struct", "map"))


def _wanted(column: str, left: Container[str] = ()) -> bool:
    if _observed(column):
        return _short(column) not in left
    return column in (*ACTIONS, *REWARDS, *ENDS, FRAME)


def _observed(column: str) -> bool:
    return column.partition(".")[0] in ("observation", "observations")


def _short(column: str) -> str:
    """The name of what a column or a film shows."""
    return (column.partition(".")[2] or "observation") if _observed(column) else column


def _field(column: str) -> str:
    return f"observations[{_short(column)}]" if _observed(column) else column
