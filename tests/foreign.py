"""Files of other people's formats, written from known episodes."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from worldmodels.data import Dataset
from worldmodels.data.episode import Episode, Episodes
from worldmodels.spec import ContinuousAction, Spec

SPEC = Spec(
    "test/Arm-v0", (("state", (3,)), ("camera", (8, 8, 3))), ContinuousAction((-1.0, -1.0), (1.0, 1.0)), seconds_per_step=0.1
)
STATE_ONLY = Spec("test/Arm-v0", (("observation", (3,)),), SPEC.action)


def episode(seed: int, length: int = 5, *, camera: bool = True) -> Episode:
    """Random, but the same for the same seed; odd ones terminate."""
    random = np.random.default_rng(seed)
    name = "state" if camera else "observation"
    observations = {name: random.normal(size=(length + 1, 3)).astype(np.float32)}
    if camera:
        observations["camera"] = random.integers(0, 256, (length + 1, 8, 8, 3), np.uint8)
    actions = random.uniform(-1, 1, (length, 2)).astype(np.float32)
    ended = bool(seed % 2)
    return Episode(observations, actions, random.normal(size=length).astype(np.float32), ended, not ended, seed)


def episodes(count: int = 3, *, camera: bool = True) -> Episodes:
    return Episodes(SPEC if camera else STATE_ONLY, tuple(episode(seed, 4 + seed, camera=camera) for seed in range(count)))


def write_d4rl(path: Path, given: Episodes, *, following: bool = True) -> Path:
    """One table of rows: T of each episode with `next_observations`, without them T+1 (the last action is made up)."""
    import h5py

    extra = 0 if following else 1
    seen = [e.observations["observation"] for e in given]
    columns = {
        "observations": np.concatenate([s[: len(s) - 1 + extra] for s in seen]),
        "actions": np.concatenate([np.pad(e.actions, ((0, extra), (0, 0))) for e in given]),
        "rewards": np.concatenate([np.pad(-e.costs, (0, extra)) for e in given]),
        "terminals": np.concatenate([_last(len(e) + extra) & e.terminated for e in given]),
        "timeouts": np.concatenate([_last(len(e) + extra) & e.truncated for e in given]),
        "infos/qpos": np.zeros(3),
    }
    if following:
        columns["next_observations"] = np.concatenate([s[1:] for s in seen])
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            file[name] = column
    return path


def write_robomimic(path: Path, given: Episodes) -> Path:
    """data/demo_<n>, written in an order that is not theirs."""
    import h5py

    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_name": "Lift"})
        for number, one in reversed(list(enumerate(given))):
            group = file["data"].create_group(f"demo_{number}")
            for name, array in one.observations.items():
                group[f"obs/{name}"], group[f"next_obs/{name}"] = array[:-1], array[1:]
            group["actions"], group["rewards"] = one.actions, -one.costs
            group["dones"] = (_last(len(one)) & one.terminated).astype(int)
            group["states"] = np.zeros((len(one), 7))
    return path


def write_lerobot(folder: Path, given: Episodes, version: int = 2) -> Path:
    """A row for each of the T+1 observations; the camera as PNG in the table, and again as a lossless film."""
    for name in ("data/chunk-000", "meta/episodes/chunk-000", "videos"):
        (folder / name).mkdir(parents=True)
    tables, films, about, start = [], [], [], 0.0
    for number, one in enumerate(given):
        tables.append(lerobot_table(number, one))
        films.append(one.observations["camera"])
        about.append(
            {"episode_index": number, "videos/observation.film/chunk_index": 0, "videos/observation.film/file_index": 0}
        )
        about[-1]["length"] = len(one) + 1
        about[-1]["videos/observation.film/from_timestamp"] = start
        start += len(films[-1]) / 10
    info = {
        "codebase_version": f"v{version}.0",
        "fps": 10,
        "robot_type": "arm",
        "chunks_size": 1000,
        "total_episodes": len(given),
    }
    info["features"] = {"observation.film": {"dtype": "video"}}
    _write_tables(folder, tables, films, about, info, version)
    (folder / "meta/info.json").write_text(json.dumps(info))
    return folder


def _write_tables(folder, tables, films, about, info, version):
    import pyarrow as pa
    import pyarrow.parquet as pq

    if version == 2:
        info["video_path"] = "videos/{video_key}/episode_{episode_index:06d}.mp4"
        for number, table in enumerate(tables):
            pq.write_table(table, folder / f"data/chunk-000/episode_{number:06d}.parquet")
            write_film(folder / f"videos/observation.film/episode_{number:06d}.mp4", films[number])
        (folder / "meta/episodes.jsonl").write_text("\n".join(json.dumps(row) for row in about))
        return
    info["video_path"] = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    pq.write_table(pa.concat_tables(tables), folder / "data/chunk-000/file-000.parquet")
    pq.write_table(pa.Table.from_pylist(about), folder / "meta/episodes/chunk-000/file-000.parquet")
    write_film(folder / "videos/observation.film/chunk-000/file-000.mp4", np.concatenate(films))


def lerobot_table(number: int, one: Episode, **changed):
    """The rows of an episode; `changed` columns replace or, being None, remove."""
    import pyarrow as pa

    rows = len(one) + 1
    columns = {
        "observation.state": list(one.observations["state"]),
        "observation.camera": [{"bytes": png(frame), "path": None} for frame in one.observations["camera"]],
        "action": list(np.pad(one.actions, ((0, 1), (0, 0)))),
        "next.reward": np.pad(-one.costs, (0, 1)),
        "next.done": _last(rows),
        "timestamp": np.arange(rows) / 10,
        "frame_index": np.arange(rows),
        "episode_index": np.full(rows, number),
    } | changed
    return pa.table({name: column for name, column in columns.items() if column is not None})


def write_film(path: Path, frames: np.ndarray, times: Sequence[int] | None = None) -> None:
    """Lossless H.264 in RGB at 10 frames a second; `times`, in tenths of a second, if they do not follow each other."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264rgb", rate=10, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "rgb24"
        for time, pixels in zip(times or range(len(frames)), frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = time
            film.mux(stream.encode(frame))
        film.mux(stream.encode())


def png(frame: np.ndarray) -> bytes:
    """A picture as PNG."""
    content = io.BytesIO()
    Image.fromarray(frame).save(content, "PNG")
    return content.getvalue()


def _last(length: int) -> np.ndarray:
    return np.arange(length) == length - 1


def own(folder: Path, episodes: Episodes) -> Path:
    """Write them as a dataset of ours."""
    with Dataset.create(folder, episodes.spec) as dataset:
        for episode in episodes:
            dataset.append(episode)
    return folder


def edit(path: Path, number: int, **changed: np.ndarray | None) -> Path:
    """Replace datasets (None removes) of one robomimic episode."""
    import h5py

    with h5py.File(path, "a") as file:
        group = file[f"data/demo_{number}"]
        for name, array in changed.items():
            name = name.replace("__", "/")
            if name in group:
                del group[name]
            if array is not None:
                group[name] = array
    return path


CAMERA, PLAIN = episodes(), episodes(camera=False)
