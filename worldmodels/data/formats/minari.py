"""Minari's datasets (Farama), read and written by its own package: HDF5 or Arrow, spaces as JSON, no pickles."""

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from worldmodels.data.episode import Episode
from worldmodels.data.formats.source import Reading, Source, episode_from_rows, guarded, require, source_of
from worldmodels.errors import DataError
from worldmodels.files import beside, replace_folder, require_writable
from worldmodels.spec import ContinuousAction, DiscreteAction, Spec

METADATA, HDF5 = "metadata.json", "main_data.hdf5"
ROWS = ("rewards", "terminations")  # read of an episode beside what was seen and done
OURS = "sailplan_spec"  # so that what we wrote comes back with action repeat, seconds and units


def data_folder(path: Path) -> Path | None:
    """Where the metadata of a Minari dataset lie: `path` itself or its `data`; None for something else."""
    return next((folder for folder in (path, path / "data") if (folder / METADATA).is_file()), None)


def open_minari(path: Path, reading: Reading) -> Source:
    """A Minari dataset's folder. `DataError` for a damaged one and for spaces without numbers."""
    return guarded(str(path), _open, path, reading)


def _open(path: Path, reading: Reading) -> Source:
    folder = data_folder(path)
    assert folder is not None
    metadata = json.loads((folder / METADATA).read_bytes())
    lacking = [name for name in ("observation_space", "action_space", "total_episodes") if name not in metadata]
    if lacking:
        raise DataError(f"{folder}/{METADATA}: the fields {lacking} are missing. Make the dataset again with a newer Minari.")
    stored, stated = _stored(folder), int(metadata["total_episodes"])
    if stored > stated:
        raise DataError(
            f"{folder}/{METADATA}: total_episodes={stated}, but {stored} episodes are stored. Correct it, or copy it again."
        )
    storage = require("minari.dataset.minari_storage").MinariStorage.read(folder)
    ours = Spec.from_json(metadata[OURS]) if OURS in metadata else None
    action, first = _action(storage.action_space, reading, folder)

    def load(name: str) -> Episode:
        index, where = int(name.removeprefix("episode ")), f"{path}: {name}"
        content = _content(storage, folder, index, reading.action_free)
        (about,) = storage.get_episode_metadata([index])
        seed = about.get("seed")
        rewards, actions = np.asarray(content["rewards"]), np.asarray(content.get("actions"))
        if actions.dtype != object and actions.size:  # else it is said, where they are needed, that there are none
            actions = actions - first if isinstance(action, DiscreteAction) else actions.reshape(len(actions), -1)
        ended = bool(np.asarray(content["terminations"])[-1:].any())
        return episode_from_rows(
            where,
            dict(_observed(content["observations"], storage.observation_space, (), where)),
            actions,
            None if np.isnan(rewards).all() else rewards,
            terminated=ended,
            seed=index if seed is None else int(seed),
            action_free=reading.action_free,
        )

    names = tuple(f"episode {index}" for index in range(stated))
    lossy = metadata.get("jpeg_encoding", True) and _has_image(storage.observation_space)
    notes = ("Its images were stored as JPEG, with loss.",) if lossy else ()
    return source_of(
        f"Minari ({metadata.get('data_format')})",
        path,
        names,
        load,
        reading,
        environment=_environment(metadata, path),
        action=action,
        stated=ours,
        notes=notes,
    )


def write_minari(out: Path, spec: Spec, episodes: Iterable[Episode]) -> None:
    """Write a Minari dataset (HDF5, images without loss) to `out`/data in one step; `out` must be free.

    Episodes without costs get rewards of NaN. Set MINARI_DATASETS_PATH to `out`'s parent and load it by `out`'s name.
    """
    require_writable(out.parent, DataError)
    if out.exists():
        raise DataError(f"{out}: something is there already. Choose another folder.")
    if not re.fullmatch(r"[-\w]+-v\d+", out.name):
        raise DataError(f"{out}: Minari's names end in a version. Choose a folder such as {out.name}-v0.")
    if spec.action.shape == (0,):
        raise DataError(f"{out}: Minari needs actions, these episodes have none. Keep them in sailplan's own format.")
    storage_class, buffer_class = (
        require("minari.dataset.minari_storage").MinariStorage,
        require("minari.data_collector").EpisodeBuffer,
    )
    require("h5py")
    new = beside(out, "new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        storage = None
        for index, episode in enumerate(episodes):
            if storage is None:
                observed = spaces.Dict({name: _box(shape, spec.dtype(name)) for name, shape in spec.observation})
                storage = storage_class.new(
                    new / "data", observed, _action_space(spec), _registered(spec.environment), "hdf5", jpeg_encoding=False
                )
            storage.update_episodes([_buffer(buffer_class, episode, spec, index)])
        if storage is None:
            raise DataError(f"{out}: there is no episode to write.")
        storage.update_metadata({"dataset_id": out.name, "minari_version": require("minari").__version__, OURS: spec.to_json()})
        replace_folder(new, out)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _buffer(buffer_class: Any, episode: Episode, spec: Spec, index: int) -> Any:
    episode.check(spec, f"episode {index}")
    last = np.arange(len(episode)) == len(episode) - 1
    rewards = np.full(len(episode), np.nan, np.float32) if episode.costs is None else -episode.costs
    return buffer_class(
        seed=episode.seed,
        observations={name: episode.observations[name].astype(spec.dtype(name)) for name in spec.names},
        actions=episode.actions,  # type: ignore[arg-type]
        rewards=rewards,
        terminations=last & episode.terminated,
        truncations=last & episode.truncated,
    )


def _stored(folder: Path) -> int:
    """How many episodes lie there: groups of an HDF5 file, or folders of Arrow's files called by their number."""
    file = folder / HDF5
    if not file.is_file():
        return sum(path.name.isdigit() for path in folder.iterdir())
    with require("h5py").File(file, "r") as content:
        return sum(name.startswith("episode_") for name in content)


def _content(storage: Any, folder: Path, index: int, action_free: bool) -> dict[str, Any]:
    """An episode as Minari decodes it, but for its actions where they are not read, or not there; Minari itself reads none without."""
    if storage.FORMAT == "hdf5":
        with require("h5py").File(folder / HDF5, "r") as file:
            group = file[f"episode_{index}"]
            if "actions" in group and not action_free:
                return next(iter(storage.get_episodes([index])))
            observations = storage._decode_space(group["observations"], storage.observation_space)
            return {"observations": observations, **{name: group[name][()] for name in ROWS}}
    ignored = ["_", ".", METADATA]
    stored = require("pyarrow.dataset").dataset(folder / str(index), format=storage.FORMAT, ignore_prefixes=ignored)
    rows = stored.to_table([name for name in ("actions", *ROWS) if name in stored.schema.names])
    if not action_free and "actions" in rows.column_names and rows["actions"].null_count < len(rows):
        return next(iter(storage.get_episodes([index])))
    decode = require("minari.dataset._storages.arrow_storage")._decode_space
    seen = stored.to_table(["observations"])["observations"].combine_chunks()
    observations = decode(storage.observation_space, seen, jpeg_encoding=storage.jpeg_encoding)
    return {"observations": observations, **{name: rows[name].to_numpy()[:-1] for name in ROWS}}


def _observed(value: Any, space: Any, path: tuple[str, ...], where: str) -> Iterable[tuple[str, np.ndarray]]:
    name = ".".join(path) or "observation"
    if isinstance(space, spaces.Dict | spaces.Tuple):
        children: Mapping[Any, Any] = dict(space.spaces) if isinstance(space, spaces.Dict) else dict(enumerate(space.spaces))
        for key, child in children.items():
            yield from _observed(value[key], child, (*path, str(key)), where)
    elif isinstance(space, spaces.Discrete):
        yield name, np.eye(int(space.n), dtype=np.float32)[np.asarray(value, int) - int(space.start)]
    elif isinstance(space, spaces.Box | spaces.MultiBinary):
        yield name, np.asarray(value)
    else:
        raise DataError(f"{where}: observation {name!r} is a {type(space).__name__}: expected Box, Discrete or MultiBinary.")


def _has_image(space: Any) -> bool:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return any(map(_has_image, space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces))
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


def _action(space: Any, reading: Reading, where: Path) -> tuple[ContinuousAction | DiscreteAction, int]:
    """The action space, and the integer that its first action is."""
    if reading.action_free:
        return ContinuousAction((), ()), 0
    if isinstance(space, spaces.Discrete):
        return reading.choices(int(space.n), str(where)), int(space.start)
    if isinstance(space, spaces.Box) and space.dtype.kind == "f":
        return reading.box(space.low.ravel().tolist(), space.high.ravel().tolist(), str(where)), 0
    raise DataError(f"{where}: the action space is {space}: expected a Box of floats or Discrete.")


def _action_space(spec: Spec) -> Any:
    if isinstance(spec.action, DiscreteAction):
        return spaces.Discrete(spec.action.n)
    return spaces.Box(np.asarray(spec.action.low, np.float32), np.asarray(spec.action.high, np.float32), dtype=np.float32)


def _box(shape: tuple[int, ...], dtype: type) -> Any:
    return spaces.Box(0, 255, shape, dtype) if dtype == np.uint8 else spaces.Box(-np.inf, np.inf, shape, dtype)  # type: ignore[arg-type]


def _registered(environment: str) -> Any:
    try:
        return gymnasium.spec(environment)
    except (gymnasium.error.Error, ImportError):
        return None


def _environment(metadata: Mapping[str, Any], path: Path) -> str:
    try:
        return str(json.loads(metadata["env_spec"])["id"])
    except (KeyError, TypeError, ValueError):
        return str(metadata.get("dataset_id", path.name))
