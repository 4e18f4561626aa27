"""HDF5 of three common layouts, by h5py, which loads no pickles.

- rows of all episodes in one table, cut by `terminals` and `timeouts` (D4RL: observations, actions, rewards, next_observations);
- a group an episode, at the root or in `data` (robomimic: data/demo_0/obs/…, actions, rewards, dones);
- one file an episode (ALOHA: action, observations/qpos, observations/images/…).
"""

import functools
import json
import re
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
    source_of,
)
from worldmodels.errors import DataError

OBSERVATIONS = ("observations", "observation", "obs")
FOLLOWING = ("next_observations", "next_observation", "next_obs")
CUTS = ("timeouts", "truncations", "truncated")
Span = tuple[str, int | None, int | None]  # group, first and last row
KNOWN = (*OBSERVATIONS, *FOLLOWING, *ACTIONS, *REWARDS, *ENDS, *CUTS)


def open_hdf5(path: Path, reading: Reading) -> Source:
    """The episodes of an HDF5 file. `DataError` for a damaged one, one without actions, or one of an unknown layout."""
    return guarded(str(path), _open, path, reading)


def _open(path: Path, reading: Reading) -> Source:
    h5py = require("h5py")
    with h5py.File(path, "r") as file:
        root = file["data"] if isinstance(file.get("data"), h5py.Group) else file
        whole = [name for name in root if _is_episode(h5py, root.get(name))]
        alike = {_without_number(name) for name in whole}  # one that lacks all is an episode too, a bad one
        groups = sorted(
            (name for name in root if _without_number(name) in alike and not isinstance(root.get(name), h5py.Dataset)),
            key=_number,
        )
        environment = _environment(file, path)
        if groups:
            spans: dict[str, Span] = {n: (f"{root.name}/{n}", None, None) for n in groups}
            layout, fields, notes = "a group an episode", set(root[whole[0]]), ()
        elif found(OBSERVATIONS, file) is None:
            raise DataError(
                f"{path}: no observations at the root and no groups of episodes, only {sorted(file)}. "
                "Expected the layout of D4RL, robomimic or ALOHA."
            )
        else:
            spans, notes = _cut(file)
            layout, fields = "one table of rows", set(file)

    def load(name: str) -> Episode:
        group, start, stop = spans[name]
        with h5py.File(path, "r") as file:
            return _episode(f"{path}: {name}", file[group], start, stop, list(spans).index(name), reading)

    @functools.lru_cache(maxsize=1)
    def outline(group: str) -> Glance:
        with h5py.File(path, "r") as file:
            observed = _leaves(file[group][found(OBSERVATIONS, file[group])])
            return {key: leaf.shape[1:] for key, leaf in observed.items()}, _read(file[group], ACTIONS, slice(None))

    def glance(name: str) -> Glance:
        group, start, stop = spans[name]
        shapes, actions = outline(group)
        return shapes, None if actions is None else actions[start:stop]

    ignored = tuple(sorted(fields - set(KNOWN)))
    return source_of(
        f"HDF5, {layout}",
        path,
        tuple(spans),
        load,
        reading,
        environment=environment,
        glance=glance,
        ignored=ignored,
        notes=notes,
    )


def _episode(where: str, group: Any, start: int | None, stop: int | None, seed: int, reading: Reading) -> Episode:
    span = slice(start, stop)
    key = found(OBSERVATIONS, group)
    if key is None:
        raise DataError(f"{where}: observations are missing; it has {sorted(group)}.")
    observations = _arrays(group[key], span)
    following = found(FOLLOWING, group)
    if following is not None:
        last = {name: array[-1:] for name, array in _arrays(group[following], span).items()}
        if set(last) != set(observations):
            raise DataError(f"{where}: {following} has {sorted(last)}, {key} has {sorted(observations)}.")
        observations = {name: np.concatenate([array, last[name]]) for name, array in observations.items()}
    ends = _read(group, ENDS, span)
    return episode_from_rows(
        where,
        observations,
        _read(group, ACTIONS, span),
        _read(group, REWARDS, span),
        terminated=ends is not None and bool(np.asarray(ends[-1:]).any()),
        seed=seed,
        action_free=reading.action_free,
    )


def _cut(file: Any) -> tuple[dict[str, Span], tuple[str, ...]]:
    """Spans of rows between the flags that end episodes, by name."""
    flags = [np.asarray(file[key]).astype(bool).ravel() for key in (found(ENDS, file), found(CUTS, file)) if key is not None]
    if not flags:
        return {"episode 0": ("/", None, None)}, ("It has neither terminals nor timeouts: it is read as one episode.",)
    if len({len(flag) for flag in flags}) > 1:
        raise DataError(f"{file.filename}: terminals and timeouts have {[len(flag) for flag in flags]} rows, expected as many.")
    rows = len(flags[0])
    for key in (found(names, file) for names in (OBSERVATIONS, FOLLOWING, ACTIONS, REWARDS)):
        for leaf in _leaves(file[key]).values() if key else ():
            if len(leaf) != rows:
                raise DataError(
                    f"{file.filename}: {leaf.name[1:]} has {len(leaf)} rows, expected {rows} as the flags that end episodes."
                )
    stops = sorted({*(np.flatnonzero(np.logical_or.reduce(flags)) + 1).tolist(), rows})
    spans: dict[str, Span] = {f"episode {i}": ("/", a, b) for i, (a, b) in enumerate(zip([0, *stops], stops, strict=False))}
    if found(FOLLOWING, file) is not None:
        return spans, ()
    return spans, ("It has no next_observations: the last row of each episode gives its observation, and no decision.",)


def _arrays(node: Any, span: slice) -> dict[str, np.ndarray]:
    return {name: leaf[span] for name, leaf in _leaves(node).items()}


def _leaves(node: Any, name: str = "") -> dict[str, Any]:
    """Every array under `node`, unread; nested names joined by "."; a lone array is called "observation"."""
    if hasattr(node, "shape"):
        return {name or "observation": node}
    return {key: leaf for child in node for key, leaf in _leaves(node[child], f"{name}.{child}" if name else child).items()}


def _read(group: Any, names: tuple[str, ...], span: slice) -> np.ndarray | None:
    key = found(names, group)
    return None if key is None else np.asarray(group[key][span])


def _is_episode(h5py: Any, node: Any) -> bool:
    return isinstance(node, h5py.Group) and any(name in node for name in (*ACTIONS, *OBSERVATIONS)) and len(node) > 0


def _number(name: str) -> tuple[int, str]:
    digits = re.findall(r"\d+", name)
    return (int(digits[-1]) if digits else 0, name)


def _without_number(name: str) -> str:
    return re.sub(r"\d+", "", name)


def _environment(file: Any, path: Path) -> str:
    """The environment's name where robomimic notes it, else the file's."""
    try:
        return str(json.loads(file["data"].attrs["env_args"])["env_name"])
    except (KeyError, TypeError, ValueError):
        return path.stem
