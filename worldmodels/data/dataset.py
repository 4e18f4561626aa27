"""Episodes on disk, append-only: one file an episode, one manifest, and a kill loses at most the episode being recorded.

An episode's file is written aside, synced and renamed; then the manifest that names it is. A kill between the two leaves a
whole file that the manifest does not know: the next writer adopts it.
"""

import math
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from worldmodels import manifest
from worldmodels.data.episode import Episode
from worldmodels.data.npz import decode, encode
from worldmodels.errors import DataError, SpecError
from worldmodels.files import MANIFEST, located, release_lock, require_writable, sole_writer, take_lock, write_aside
from worldmodels.spec import Spec

KIND = "dataset"
LOCK = ".lock"
NOTED = {"decisions": int, "return": float | int | None, "seed": int}  # of each episode, in the manifest


class Dataset(Sequence):
    """The episodes of one folder; the same interface as `Episodes`. An episode is read, and checked, when it is asked for.

    `Dataset.create` and `Dataset.open` make one. Only one writer may hold a folder; `close`, or leaving a `with`, lets it go.

    Attributes:
      folder: where it lies.
      damaged: what is wrong with each episode that was left out, by its file.
    """

    def __init__(self, folder: Path, content: manifest.Manifest):
        self.folder = folder
        self.damaged: dict[str, str] = {}
        self._content = content
        self._spec = _checked(folder, content)
        self._release: weakref.finalize | None = None

    @classmethod
    def create(cls, folder: str | Path, spec: Spec, settings: Any = None) -> "Dataset":
        """An empty dataset to append to. `settings` (a mapping or dataclass) says how it is recorded.

        Raises `DataError` where `folder` holds anything already.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder}: it is a file. Choose a folder for the dataset.")
        require_writable(folder, DataError)
        folder.mkdir(parents=True, exist_ok=True)
        with sole_writer(folder / LOCK, DataError):
            if (folder / MANIFEST).exists():
                raise DataError(f"{folder}: it holds a dataset already. Go on with it by Dataset.open(folder, append=True).")
            if any(path.is_file() and not path.name.startswith(".") for path in folder.rglob("*")):
                raise DataError(f"{folder}: it holds other files. Choose an empty folder.")
            (folder / "episodes").mkdir(exist_ok=True)
            fields: dict[str, Any] = {"spec": spec.to_json(), "decisions": 0, "frames": 0, "episodes": {}}
            manifest.write(folder, KIND, settings=settings or {}, checksums={}, **fields)
        return cls.open(folder, append=True)

    @classmethod
    def open(cls, folder: str | Path, *, skip_damaged: bool = False, append: bool = False) -> "Dataset":
        """The dataset in `folder`, every file read and checked.

        Args:
          skip_damaged: leave damaged episodes out, with a warning, instead of raising.
          append: hold the folder for writing, and adopt an episode that a killed writer left behind.

        Raises `DataError` for what is no dataset, for a damaged episode, for one without episodes (unless to append), and for
        a second writer.
        """
        dataset = cls(Path(folder), manifest.read(folder, KIND))
        try:
            if append:
                dataset._begin_writing()
            advice = (
                "Copy it again, or choose another folder." if append else "Leave it out with skip_damaged=True (--skip-bad)."
            )
            dataset._check(None if skip_damaged else advice)
            if not append and not len(dataset):
                raise DataError(f"{folder}: the dataset holds no usable episode. Collect some first (`sailplan collect`).")
        except DataError:
            dataset.close()
            raise
        return dataset

    @classmethod
    def unchecked(cls, folder: str | Path, *, append: bool = False) -> "Dataset":
        """As `open`, but no episode is looked at before it is asked for."""
        dataset = cls(Path(folder), manifest.read(folder, KIND))
        if append:
            dataset._begin_writing()
        return dataset

    @property
    def files(self) -> tuple[str, ...]:
        """The episodes' files inside the folder, without those left out."""
        return tuple(self._names)

    @property
    def spec(self) -> Spec:
        return self._spec

    @property
    def settings(self) -> dict[str, Any]:
        """How it was recorded."""
        return self._content.settings

    @property
    def decisions(self) -> int:
        return sum(self.lengths)

    @property
    def frames(self) -> int:
        """Environment steps before action repeat, as published tables count them."""
        return self.decisions * self.spec.action_repeat

    @property
    def lengths(self) -> tuple[int, ...]:
        """Decisions in each episode; read from the manifest alone."""
        return tuple(self._notes[name]["decisions"] for name in self._names)

    @property
    def checksums(self) -> dict[str, str]:
        """sha256 of each of `files`."""
        return {name: self._content.checksums[name] for name in self._names}

    @property
    def seeds(self) -> tuple[int, ...]:
        """What each episode's environment was reset with; read from the manifest alone."""
        return tuple(self._notes[name]["seed"] for name in self._names)

    @property
    def returns(self) -> tuple[float, ...]:
        """Sum of rewards of each episode, NaN without rewards; read from the manifest alone."""
        values = (self._notes[name]["return"] for name in self._names)
        return tuple(math.nan if value is None else value for value in values)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: Any) -> Any:
        names = self._names[index]
        return self.read(names) if isinstance(names, str) else tuple(self.read(name) for name in names)

    def __iter__(self) -> Iterator[Episode]:
        return (self.read(name) for name in self._names)

    def append(self, episode: Episode) -> None:
        """Store one episode; on return it is on the disk. Raises `DataError`, and writes nothing, where it does not fit."""
        if self._release is None:
            raise DataError(f"{self.folder}: opened for reading. To append, use Dataset.open(folder, append=True).")
        number = 1 + max((int(path.stem) for path in self._files()), default=-1)
        name = f"episodes/{number:06d}.npz"
        content = encode(episode, self.spec, name)
        write_aside(self.folder / name, content)
        self._note({name: content})

    def close(self) -> None:
        """Let another writer in."""
        if self._release is not None:
            self._release()
            self._release = None

    def __enter__(self) -> "Dataset":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def _names(self) -> list[str]:
        return [name for name in self._content.checksums if name not in self.damaged]

    @property
    def _notes(self) -> dict[str, dict[str, Any]]:
        return self._content.extra["episodes"]

    def _files(self) -> list[Path]:
        return sorted(path for path in (self.folder / "episodes").glob("*.npz") if path.stem.isdigit())

    def _check(self, advice: str | None) -> None:
        """Read every episode; without `advice` to give, a damaged one is left out."""
        for name in self._content.checksums:
            try:
                self.read(name)
            except DataError as error:
                if advice is not None:
                    raise DataError(f"{error} {advice}") from error
                self.damaged[name] = str(error)
        if self.damaged:
            reasons = " ".join(self.damaged.values())
            warnings.warn(f"{self.folder}: left out {len(self.damaged)} damaged episodes. {reasons}", stacklevel=3)

    def _begin_writing(self) -> None:
        lock = self.folder / LOCK
        self._release = weakref.finalize(self, release_lock, lock, take_lock(lock, DataError))
        self._content = manifest.read(self.folder, KIND)
        (self.folder / "episodes").mkdir(exist_ok=True)
        orphans = {}
        for path in self._files():
            name = f"episodes/{path.name}"
            if name not in self._content.checksums:
                orphans[name] = path.read_bytes()
                decode(orphans[name], self.spec, f"{self.folder}/{name} (not in the manifest; remove it to go on)")
        if orphans:
            self._note(orphans)

    def _note(self, contents: Mapping[str, bytes]) -> None:
        """Name new files in the manifest."""
        checksums, notes = dict(self._content.checksums), dict(self._notes)
        for name, content in contents.items():
            episode = decode(content, self.spec, name)
            total = None if episode.costs is None else episode.total_return
            checksums[name] = sha256(content).hexdigest()
            notes[name] = {"decisions": len(episode), "return": total, "seed": episode.seed}
        decisions = sum(note["decisions"] for note in notes.values())
        fields = {"decisions": decisions, "frames": decisions * self.spec.action_repeat, "episodes": notes}
        fields = {**self._content.extra, **fields}
        self._content = manifest.write(self.folder, KIND, settings=self.settings, checksums=checksums, **fields)

    def read(self, name: str) -> Episode:
        """The episode in one of `files`, its checksum and content checked; `DataError` names what is wrong."""
        where = f"{self.folder}/{name}"
        try:
            content = (self.folder / name).read_bytes()
        except OSError as error:
            raise DataError(f"{where}: the file is missing or cannot be read ({error.strerror}).") from error
        if sha256(content).hexdigest() != self._content.checksums[name]:
            raise DataError(f"{where}: damaged, its {len(content)} bytes do not match the manifest's checksum.")
        episode = decode(content, self.spec, where)
        if self._notes[name]["decisions"] != len(episode):
            raise DataError(f"{where}: it has {len(episode)} decisions, the manifest says {self._notes[name]['decisions']}.")
        return episode


def _checked(folder: Path, content: manifest.Manifest) -> Spec:
    """The spec of a manifest; `DataError` where it cannot be read, or where an episode's length, return and seed are not noted."""
    path, notes = located(folder) / MANIFEST, content.extra.get("episodes")
    try:
        spec = content.spec
    except SpecError as error:
        raise DataError(f"{path}: {error}") from error
    if not isinstance(notes, dict):
        raise DataError(f"{path}: the field 'episodes' is missing or of another type. Copy the folder again.")
    for name in content.checksums:
        if not (
            isinstance(notes.get(name), dict) and all(isinstance(notes[name].get(key, ""), kind) for key, kind in NOTED.items())
        ):
            raise DataError(
                f"{path}: episodes[{name}] is {notes.get(name)}: expected {', '.join(NOTED)}. Copy the folder again."
            )
    return spec
