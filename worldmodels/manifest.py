"""The one `manifest.json` of every folder sailplan writes: dataset, model, policy, agent or run; one reader opens any of them."""

import functools
import hashlib
import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from worldmodels.errors import CheckpointError, DataError, WorldModelError
from worldmodels.files import MANIFEST, beside, located, replace_folder, require_writable, sole_writer, write_aside
from worldmodels.spec import Spec

FORMAT = 1
NAMED = 3  # of the files that stand in the way
FOREIGN = {"metadata.json": "Minari", "data/metadata.json": "Minari", "meta/info.json": "LeRobot"}  # by what lies in a folder
FIELDS = {"kind": str, "format": int, "settings": dict, "versions": dict, "checksums": dict}
RECORDED = ("sailplan", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "gymnasium", "mujoco", "dm-control")


@dataclass(frozen=True)
class Manifest:
    """What a folder says of itself.

    Attributes:
      kind: dataset, model, policy, agent or run.
      format: version of this layout; another one is refused.
      settings: what the content was made with.
      versions: of Python and the packages that wrote it.
      checksums: sha256 of every other file, by its path inside the folder.
      extra: what else the writer noted, such as `spec`.
    """

    kind: str
    format: int
    settings: dict[str, Any]
    versions: dict[str, str]
    checksums: dict[str, str]
    extra: dict[str, Any]

    @property
    def spec(self) -> Spec:
        """The environment's spec; `SpecError` where it is missing or cannot be read."""
        return Spec.from_json(self.extra.get("spec", {}))


def write(folder: str | Path, kind: str, *, settings: Any, checksums: Mapping[str, str], **extra: Any) -> Manifest:
    """Write `folder`/manifest.json in one step, over an older one. `settings` is a mapping or a dataclass; all must be JSON."""
    error = _error(kind)
    reserved = sorted(set(extra) & set(FIELDS))
    if reserved:
        raise error(f"{folder}: {reserved} are fields every manifest has. Give the extra field another name.")
    try:
        content = {
            "kind": kind,
            "format": FORMAT,
            "settings": _plain(settings),
            "versions": package_versions(),
            "checksums": dict(checksums),
        }
        text = json.dumps(content | extra, indent=1)
    except (TypeError, ValueError) as cause:
        raise error(
            f"{folder}: the manifest cannot be written as JSON ({cause}). Settings are numbers, strings and lists."
        ) from cause
    write_aside(Path(folder) / MANIFEST, text.encode())
    return _parsed(json.loads(text))


def read(folder: str | Path, kind: str | None = None) -> Manifest:
    """The manifest of `folder`.

    Raises `CheckpointError` (`DataError` where `kind` is "dataset") for a folder that is missing, has no manifest or a damaged
    one, is of another kind, or was written in another format.
    """
    error, path = _error(kind), located(folder) / MANIFEST
    if path.parent.is_file():
        convert = f" To convert data: sailplan data convert {folder} --out DATASET." if kind in ("dataset", None) else ""
        raise error(f"{folder}: that is a file, not a folder. Expected {_named(kind)}.{convert}")
    if not path.parent.is_dir():
        raise error(f"{folder}: there is no such folder. Expected {_named(kind)}.")
    if not path.is_file():
        foreign = next((whose for name, whose in FOREIGN.items() if (path.parent / name).is_file()), None)
        if foreign is not None and kind in ("dataset", None):
            raise error(
                f"{folder}: it holds a dataset of {foreign}, expected one that sailplan wrote. "
                f"Convert it first: sailplan data convert {folder} --out DATASET."
            )
        raise error(f"{folder}: it has no {MANIFEST}, so it is not {_named(kind)}, or it was only half copied.")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, UnicodeDecodeError) as cause:
        raise error(f"{path}: truncated or not JSON ({cause}). Copy the folder again.") from cause
    wrong = content if not isinstance(content, dict) else [n for n, t in FIELDS.items() if not isinstance(content.get(n), t)]
    if wrong or not isinstance(content, dict):
        raise error(f"{path}: the fields {wrong} are missing or of another type. Was it written by sailplan?")
    if content["format"] != FORMAT:
        newer = "Install a newer sailplan." if content["format"] > FORMAT else "Make the folder again with this version."
        raise error(f"{folder}: {content['kind']} in format {content['format']}, this sailplan reads format {FORMAT}. {newer}")
    if kind is not None and content["kind"] != kind:
        raise error(f"{folder}: it holds {_named(content['kind'])}, expected {_named(kind)}.")
    return _parsed(content)


def verify(folder: str | Path, manifest: Manifest) -> dict[str, str]:
    """The files of `folder` that are not as `manifest` says: path -> "missing" or "damaged". Empty where all is well."""
    root, wrong = located(folder), {}
    for name, expected in manifest.checksums.items():
        if not (root / name).is_file():
            wrong[name] = "missing"
        elif checksum(root / name) != expected:
            wrong[name] = "damaged"
    return wrong


def describe(folder: str | Path) -> str:
    """What a folder written by sailplan is, in a few lines. Raises `CheckpointError` like `read`."""
    manifest, root = read(folder), located(folder)
    spec = manifest.extra.get("spec")
    of = f" of {spec['environment']}" if isinstance(spec, dict) and "environment" in spec else ""
    sizes = [(root / name).stat().st_size for name in manifest.checksums if (root / name).is_file()]
    missing = len(manifest.checksums) - len(sizes)
    files = f"{len(sizes)} files, {sum(sizes) / 1e6:.1f} MB" + (f"; {missing} missing" if missing else "")
    notes = {name: value for name, value in manifest.extra.items() if name != "spec"}
    lines = {
        "settings": _listed(manifest.settings),
        **{k: _short(v) for k, v in notes.items()},
        "versions": _listed(manifest.versions),
    }
    return "\n".join(
        [f"{manifest.kind}{of} (format {manifest.format}; {files})", *(f"  {k}: {v}" for k, v in lines.items() if v)]
    )


def check_replaceable(folder: str | Path, kind: str) -> None:
    """Raise unless `folder` is free, empty, or holds an older `kind` and nothing else: nobody's data are replaced by a model.

    Raises too where it cannot be written. Call it early.
    """
    require_writable(Path(folder).resolve().parent, _error(kind))
    present = located(folder)
    if not present.exists() or (present.is_dir() and not any(present.iterdir())):
        return
    try:
        content = json.loads((present / MANIFEST).read_bytes())
        found, own = content["kind"], {MANIFEST, *content["checksums"]}
    except (OSError, ValueError, KeyError, TypeError):
        found, own = None, set()
    if found != kind:
        what = _named(found) if found else "something that sailplan did not write"
        raise _error(kind)(f"{folder}: it holds {what}, expected an empty place or {_named(kind)}. Choose another folder.")
    others = sorted({path.relative_to(present).as_posix() for path in present.rglob("*") if not path.is_dir()} - own)
    if others:
        named = ", ".join(others[:NAMED]) + (", …" if len(others) > NAMED else "")
        raise _error(kind)(
            f"{folder}: beside {_named(kind)} it holds {named}, which replacing would delete. Move them, or choose another folder."
        )


@contextmanager
def replacing(folder: str | Path, kind: str) -> Iterator[Path]:
    """Yield an empty folder to fill; on leaving it takes the place of `folder` in one step, on an error it is removed."""
    check_replaceable(folder, kind)
    target = Path(folder).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    new = beside(target, "new")
    with sole_writer(beside(target, "lock"), _error(kind)):
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        try:
            yield new
            replace_folder(new, target)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def checksum(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(folder: Path) -> dict[str, str]:
    """sha256 of every file under `folder` but the manifest, by its path inside."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): checksum(path) for path in files}


@functools.cache
def package_versions() -> dict[str, str]:
    """Python's version and that of every recorded package that is installed."""
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _plain(settings: Any) -> dict[str, Any]:
    mapping: Any = asdict(settings) if is_dataclass(settings) and not isinstance(settings, type) else settings
    return dict(mapping)


def _parsed(content: dict[str, Any]) -> Manifest:
    return Manifest(**{name: content.pop(name) for name in FIELDS}, extra=content)


def _error(kind: str | None) -> type[WorldModelError]:
    return DataError if kind == "dataset" else CheckpointError


def _named(kind: str | None) -> str:
    return "a folder that sailplan wrote" if kind is None else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _short(value: Any) -> str:
    return f"{len(value)} entries" if isinstance(value, dict | list) and len(value) > 4 else json.dumps(value).strip('"')


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items())
