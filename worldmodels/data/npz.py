"""One episode as the bytes of an `.npz` file: no pickles, readable with numpy alone.

Frames are deflated, without loss, and the rest is stored as it is: at the size that models see, deflate reads faster than any
codec and keeps fewer bytes (`sailplan bench video`, docs/data.md), and numpy alone reads it.
"""

import io
import zipfile

import numpy as np

from worldmodels.data.episode import Episode
from worldmodels.errors import DataError
from worldmodels.spec import DiscreteAction, Spec

OBSERVATION = "observation/"


def encode(episode: Episode, spec: Spec, name: str) -> bytes:
    """An episode as the bytes of an `.npz` file without pickles: float32, images uint8, discrete actions int32."""
    episode.check(spec, name)
    arrays = {OBSERVATION + key: _stored(value, spec.dtype(key)) for key, value in episode.observations.items()}
    arrays["actions"] = _stored(episode.actions, np.int32 if isinstance(spec.action, DiscreteAction) else np.float32)
    if episode.costs is not None:
        arrays["costs"] = _stored(episode.costs, np.float32)
    arrays["terminated"], arrays["truncated"] = np.asarray(episode.terminated, bool), np.asarray(episode.truncated, bool)
    arrays["seed"] = np.asarray(episode.seed, np.int64)
    return _zipped(arrays)


def decode(content: bytes, spec: Spec, where: str) -> Episode:
    """The episode in the bytes of a file. `DataError` names `where`, and the field, if it is truncated or does not fit `spec`."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        episode = Episode(
            observations={k.removeprefix(OBSERVATION): v for k, v in arrays.items() if k.startswith(OBSERVATION)},
            actions=arrays["actions"],
            costs=arrays.get("costs"),
            terminated=bool(arrays["terminated"]),
            truncated=bool(arrays["truncated"]),
            seed=int(arrays["seed"]),
        )
    except KeyError as error:
        raise DataError(f"{where}: the field {error} is missing.") from error
    except Exception as error:  # numpy and zipfile raise a dozen types over foreign bytes
        raise DataError(f"{where}: truncated, or not an episode ({error}).") from error
    episode.check(spec, where)
    return episode


def _zipped(arrays: dict[str, np.ndarray]) -> bytes:
    """As `np.savez` lays it out, frames deflated; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array) if array.ndim else array, allow_pickle=False)
            method = zipfile.ZIP_DEFLATED if array.dtype == np.uint8 else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), compress_type=method)
    return buffer.getvalue()


def _stored(array: np.ndarray, dtype: type) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(array).astype(dtype)
