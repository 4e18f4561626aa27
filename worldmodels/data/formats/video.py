"""Frames as arrays: of a film by PyAV, of single pictures by PIL."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from worldmodels.data.formats.source import require
from worldmodels.errors import DataError


def frames(path: Path, count: int, *, fps: float, start: float | None = None, where: str, field: str) -> np.ndarray:
    """`count` frames [T, height, width, 3] uint8, `fps` of them a second, from second `start` on; the whole film if not given.

    `DataError` names `where` and `field` for a film that is missing or damaged, where a frame is not there at its time (half a
    frame early or late), and where a whole film has more.
    """
    av, named = require("av"), f"{where}: observations[{field}]"
    if not path.is_file():
        raise DataError(f"{named} is in {path.name}, which is missing.")
    first, half, most = start or 0.0, 0.5 / fps, count + (start is None)
    try:
        with av.open(str(path)) as film:
            stream = film.streams.video[0]
            if first > 0:
                film.seek(int(first / stream.time_base), stream=stream)
            shown = (frame for frame in film.decode(stream) if frame.time >= first - half)
            taken = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in islice(shown, most)]
    except Exception as error:  # av raises OSError and ValueError of many names over damaged bytes
        raise DataError(f"{named} in {path.name} is damaged ({error}).") from error
    if len(taken) < count:
        raise DataError(f"{named} has {len(taken)} frames in {path.name}, expected {count}: frames are missing.")
    for index, (time, _) in enumerate(taken[:count]):
        if abs(time - (first + index / fps)) >= half:
            raise DataError(
                f"{named} has frame {index} at second {time:g} of {path.name}, expected {first + index / fps:g}: "
                "frames are missing, or more than there should be."
            )
    if len(taken) > count:
        raise DataError(f"{named} has more than {count} frames in {path.name}, expected as many as there are rows.")
    return np.stack([frame for _, frame in taken])


def pictures(cells: Sequence[Mapping[str, Any]], *, where: str, field: str) -> np.ndarray:
    """The pictures in `cells`, each of `bytes` and a `path`, as [T, height, width, 3] uint8.

    `DataError` names `where`, `field` and the first frame that is missing, cannot be decoded, or is of another size than most.
    """
    decoded = [_decoded(cell, f"{where}: {field} frame {index}") for index, cell in enumerate(cells)]
    expected = Counter(frame.shape for frame in decoded).most_common(1)[0][0]
    for index, frame in enumerate(decoded):
        if frame.shape != expected:
            raise DataError(f"{where}: {field} frame {index} has shape {frame.shape}, expected {expected} as most have.")
    return np.stack(decoded)


def _decoded(cell: Mapping[str, Any], named: str) -> np.ndarray:
    content, path = cell["bytes"], cell.get("path")
    if not content:
        only = f", only the path {path!r}. Write the pictures into the table" if path else ""
        raise DataError(f"{named} is missing: it has no bytes{only}.")
    try:
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    except Exception as error:  # PIL raises OSError, SyntaxError and ValueError over damaged bytes
        raise DataError(f"{named} cannot be decoded: its {len(content)} bytes are no picture, or a damaged one.") from error
