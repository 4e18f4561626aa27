"""Frames of a film as arrays, by PyAV."""

from pathlib import Path

import numpy as np

from worldmodels.data.formats.source import require
from worldmodels.errors import DataError


def frames(path: Path, count: int, *, start: float = 0.0, where: str, field: str) -> np.ndarray:
    """`count` frames [T, height, width, 3] uint8 from second `start` on; `DataError` names `where` and `field` if fewer are there."""
    av = require("av")
    if not path.is_file():
        raise DataError(f"{where}: observations[{field}] is in {path.name}, which is missing.")
    taken: list[np.ndarray] = []
    try:
        with av.open(str(path)) as film:
            stream = film.streams.video[0]
            half = 0.5 / float(stream.average_rate or 1)
            if start > 0:
                film.seek(int(start / stream.time_base), stream=stream)
            for frame in film.decode(stream):
                if len(taken) == count:
                    break
                if frame.time is None or frame.time >= start - half:
                    taken.append(frame.to_ndarray(format="rgb24"))
    except Exception as error:  # av raises OSError and ValueError of many names over damaged bytes
        raise DataError(f"{where}: observations[{field}] in {path.name} is damaged ({error}).") from error
    if len(taken) < count:
        raise DataError(
            f"{where}: observations[{field}] has {len(taken)} frames in {path.name}, expected {count}: frames are missing."
        )
    return np.stack(taken)
