"""Data larger than memory: windows drawn from memory-mapped arrays, gathered ahead in a thread, handed over as small buffers.

A dataset is unpacked once, into one flat array a quantity, beside its episodes. After that a `Buffer` of fresh windows is
made on another thread while the one before is trained on; the compiled update is the one for data that fit on the device.
"""

import contextlib
import json
import queue
import shutil
import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from worldmodels.data.dataset import Dataset
from worldmodels.data.windows import Buffer, normalised, warn_of_short
from worldmodels.errors import DataError
from worldmodels.files import beside, replace_folder, sole_writer
from worldmodels.spec import DiscreteAction, Spec

UNPACKED = ".unpacked"
CONTENTS = "contents.json"


@dataclass(frozen=True)
class Stream:
    """Memory-mapped rows, laid out as in a `Buffer`: an episode of T decisions fills T+1.

    Attributes:
      spec: of the dataset.
      observations: name -> [N, *shape], float32, or uint8 for images.
      actions: [N, A] normalised, or integers [N].
      costs: [N].
      terminated: [N].
      starts: first row of each episode, and N at the end.
      has_costs: whether the data have costs at all.
    """

    spec: Spec
    observations: dict[str, np.ndarray]
    actions: np.ndarray
    costs: np.ndarray
    terminated: np.ndarray
    starts: np.ndarray
    has_costs: bool

    @classmethod
    def open(cls, dataset: Dataset) -> "Stream":
        """The rows of `dataset`, unpacked inside its folder unless they are there already.

        Raises `DataError` for a bad episode, where only some episodes have costs, and where there is none.
        """
        if not len(dataset):
            raise DataError(f"{dataset.folder}: there is no episode to train on. Collect some first (`sailplan collect`).")
        folder = dataset.folder / UNPACKED
        with contextlib.suppress(OSError, ValueError):
            if json.loads((folder / CONTENTS).read_bytes()) == _contents(dataset):
                return cls(dataset.spec, **_mapped(dataset, folder, "r"))
        with sole_writer(beside(folder, "lock"), DataError):
            new = beside(folder, "new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            try:
                _unpack(dataset, new)
                replace_folder(new, folder)
            finally:
                shutil.rmtree(new, ignore_errors=True)
        return cls(dataset.spec, **_mapped(dataset, folder, "r"))

    def __len__(self) -> int:
        """Episodes."""
        return len(self.starts) - 1

    def rows(self, *, megabytes: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """Flattened observations [n, D], without images, and costs [n] of all rows, or of a random part that fits into so much memory."""
        acted = self.windows(1)
        count = max(1, megabytes * 2**20 // (4 * (self.spec.size + 1)))
        rows = acted if count >= len(acted) else np.sort(np.random.default_rng(0).choice(acted, count))
        return self._flat(rows), self.costs[rows]

    def windows(self, length: int) -> np.ndarray:
        """Every row that a window of `length` decisions may start in.

        `DataError` where there is none; a `ShortEpisodeWarning` where some episodes have none.
        """
        spans = zip(self.starts[:-1], self.starts[1:] - length, strict=True)
        found = np.concatenate([np.arange(first, max(first, end)) for first, end in spans])
        if not len(found):
            raise DataError(f"the longest of {len(self)} episodes is shorter than a window of {length} decisions.")
        warn_of_short((np.diff(self.starts) - 1).tolist(), length)
        return found

    def bounded(self, count: int, length: int, *, megabytes: int = 256) -> int:
        """`count`, or how many windows of `length` decisions fit into so much memory where that is less: of pictures, for instance."""
        row = sum(values.nbytes // len(values) for values in (*self.observations.values(), self.actions, self.costs))
        return max(1, min(count, megabytes * 2**20 // (row * (length + 1))))

    def sample(self, count: int, length: int, *, seed: int) -> Buffer:
        """A buffer of `count` windows, each start equally likely. Rows are read in the order in which they lie."""
        return self._gather(self.windows(length), count, length, np.random.default_rng(seed))

    def buffers(self, count: int, length: int, *, seed: int, ahead: int = 2) -> Generator[Buffer, None, None]:
        """Buffers of `count` fresh windows without end, up to `ahead` of them made in advance. Close it to stop the thread."""
        possible, ready, stop = self.windows(length), queue.Queue(maxsize=ahead), threading.Event()

        def work() -> None:
            random = np.random.default_rng(seed)
            while not stop.is_set():
                try:
                    made = self._gather(possible, count, length, random)
                except Exception as error:
                    made = error
                while not stop.is_set():
                    with contextlib.suppress(queue.Full):
                        ready.put(made, timeout=0.1)
                        break

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while True:
                made = ready.get()
                if isinstance(made, Exception):
                    raise made
                yield made
        finally:
            stop.set()
            thread.join()

    def _gather(self, possible: np.ndarray, count: int, length: int, random: np.random.Generator) -> Buffer:
        first = np.sort(random.choice(possible, count))
        rows = (first[:, None] + np.arange(length + 1)).ravel()
        arrays = {
            "observations": self._flat(rows),
            "actions": self.actions[rows],
            "costs": self.costs[rows],
            "terminated": self.terminated[rows],
            "starts": np.arange(0, len(rows), length + 1, dtype=np.int32),
            "frames": {name: self.observations[name][rows] for name in self.spec.images},
        }
        return Buffer(**jax.device_put(arrays), count=jnp.int32(count), length=length)

    def _flat(self, rows: np.ndarray) -> np.ndarray:
        """As `spec.flatten` does, without images: [n, D], float32."""
        parts = [self.observations[name][rows].reshape(len(rows), -1) for name, _ in self.spec.vectors]
        return np.concatenate([np.zeros((len(rows), 0), np.float32), *parts], 1, dtype=np.float32)


def _contents(dataset: Dataset) -> dict[str, object]:
    """What tells one dataset's rows from another's."""
    contents = {"files": dataset.files, "checksums": dataset.checksums, "spec": dataset.spec.to_json()}
    return json.loads(json.dumps(contents))


def _mapped(dataset: Dataset, folder: Path, mode: str) -> dict:
    """The fields of a stream, as arrays over files."""
    spec = dataset.spec
    lengths = np.array(dataset.lengths) + 1
    starts = np.concatenate([[0], np.cumsum(lengths)])

    def array(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        if 0 in shape:
            return np.zeros((int(starts[-1]), *shape), dtype)
        return np.memmap(folder / f"{name}.bin", dtype, mode, shape=(int(starts[-1]), *shape))  # type: ignore[arg-type]

    observations = {
        name: array(f"observation_{index}", shape, spec.dtype(name)) for index, (name, shape) in enumerate(spec.observation)
    }
    kind = np.int32 if isinstance(spec.action, DiscreteAction) else np.float32
    return {
        "observations": observations,
        "actions": array("actions", spec.action.shape, kind),
        "costs": array("costs", (), np.float32),
        "terminated": array("terminated", (), np.bool_),
        "starts": starts,
        "has_costs": dataset[0].costs is not None,
    }


def _unpack(dataset: Dataset, folder: Path) -> None:
    arrays = _mapped(dataset, folder, "w+")
    for name, episode, row in zip(dataset.files, dataset, arrays["starts"], strict=False):
        if (episode.costs is not None) != arrays["has_costs"]:
            raise DataError(f"{dataset.folder}/{name}: costs in some episodes, but not in all. Expected all of them or none.")
        count = len(episode)
        for key, observed in episode.observations.items():
            arrays["observations"][key][row : row + count + 1] = observed
        arrays["actions"][row : row + count] = normalised(episode.actions, dataset.spec)
        if episode.costs is not None:
            arrays["costs"][row : row + count] = episode.costs
        arrays["terminated"][row + count - 1] = episode.terminated
    for array in [*arrays["observations"].values(), *arrays.values()]:
        if isinstance(array, np.memmap):
            array.flush()
    (folder / CONTENTS).write_text(json.dumps(_contents(dataset)))
