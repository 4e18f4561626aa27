"""Writing files and folders so that a kill at any moment leaves the old or the new one whole.

A file is written aside, synced to the disk and renamed over the old one. A whole folder is too: it grows as `.NAME.new`, then
the older one steps aside as `.NAME.old` and the new one takes its place. Between those two renames only `.NAME.old` is
complete; `located` finds it, and the next writer puts it back.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worldmodels.errors import CheckpointError

MANIFEST = "manifest.json"


def write_aside(path: str | Path, content: bytes) -> None:
    """Put `content` at `path` in one step: after a kill at any moment either the old or the new file is whole."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.aside")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def require_writable(folder: Path, error: type[Exception] = CheckpointError) -> None:
    """Raise `error` where nothing can be written into `folder`, or where it cannot be made."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise error(f"{folder}: {there} is a file. Choose another folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise error(f"{folder}: {there} cannot be written to. Choose another folder, or change its permissions.")


def located(folder: str | Path) -> Path:
    """`folder`, or the older version beside it where a writer was killed between two renames."""
    folder = Path(folder)
    old = beside(folder, "old")
    return old if not folder.exists() and (old / MANIFEST).is_file() else folder


def replace_folder(new: Path, target: Path) -> None:
    """Sync the folder `new` to the disk and rename it to `target`; at every moment `located(target)` is a whole folder."""
    for path in [*new.rglob("*"), new]:
        sync(path)
    old = beside(target, "old")
    if located(target) == old:
        old.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def sole_writer(lock: Path, error: type[Exception] = CheckpointError) -> Iterator[None]:
    """Hold the file `lock` while writing; raises `error` where another writer holds it. A kill releases it."""
    descriptor = take_lock(lock, error)
    try:
        yield
    finally:
        release_lock(lock, descriptor)


def take_lock(lock: Path, error: type[Exception] = CheckpointError) -> int:
    """Lock a file and return its descriptor, for `release_lock`."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The writer before us may have removed the file between our opening and our locking it: then it guards nothing.
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
        except BlockingIOError as cause:
            os.close(descriptor)
            raise error(
                f"{lock}: another process is writing here and holds this lock. Wait for it, or write elsewhere."
            ) from cause
        except FileNotFoundError:
            pass
        os.close(descriptor)


def release_lock(lock: Path, descriptor: int) -> None:
    """Remove the lock file, then let go of it."""
    lock.unlink(missing_ok=True)
    os.close(descriptor)


def keep_whole_lines(path: Path) -> None:
    """Take away what a kill left of the last line of `path`."""
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        write_aside(path, content[: content.rfind(b"\n") + 1])


def sync(path: Path) -> None:
    """Wait until a file or a folder's entries are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def beside(folder: Path, role: str) -> Path:
    """The hidden neighbour of `folder` that is `new`, `old` or its `lock`."""
    folder = folder.resolve()
    return folder.with_name(f".{folder.name}.{role}")
