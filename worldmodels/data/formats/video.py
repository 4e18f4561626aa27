"""Frames of a film as arrays, by PyAV."""

from itertools import islice
from pathlib import Path

import numpy as np

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
