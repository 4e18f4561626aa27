"""The one manifest, and folders that are replaced whole or not at all."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from worldmodels import files, manifest
from worldmodels.errors import CheckpointError, DataError


@dataclass(frozen=True)
class Settings:
    latent: int = 8
    widths: tuple[int, ...] = (4, 4)


class Killed(BaseException):
    """Stands for a SIGKILL: nothing in the packages catches it."""


def folder_of(path: Path, text: str = "hello", kind: str = "model") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "data.txt").write_text(text)
    manifest.write(path, kind, settings=Settings(), checksums=manifest.checksums(path), note=text)
    return path


def test_what_is_written_is_read(tmp_path):
    folder = folder_of(tmp_path / "model")
    read = manifest.read(folder, "model")
    assert read.kind == "model"
    assert read.settings == {"latent": 8, "widths": [4, 4]}
    assert read.extra == {"note": "hello"}
    assert {"python", "jax", "numpy"} <= set(read.versions)
    assert set(read.checksums) == {"data.txt"}
    written = manifest.write(folder, "model", settings=Settings(), checksums=read.checksums, note="hello")
    assert written == read


def test_verify_names_damaged_and_missing_files(tmp_path):
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "lost.bin").write_bytes(b"x")
    folder_of(folder)
    content = manifest.read(folder)
    assert manifest.verify(folder, content) == {}
    (folder / "data.txt").write_text("hellO")
    (folder / "deep" / "lost.bin").unlink()
    assert manifest.verify(folder, content) == {"data.txt": "damaged", "deep/lost.bin": "missing"}
    assert "1 missing" in manifest.describe(folder)


def test_describe_says_what_it_is(tmp_path):
    text = manifest.describe(folder_of(tmp_path / "somewhere", kind="policy"))
    assert text.startswith("policy (format 1; 1 files")
    assert "latent 8" in text
    assert "note: hello" in text


@pytest.mark.parametrize(("kind", "error"), [("model", CheckpointError), ("dataset", DataError), (None, CheckpointError)])
def test_no_folder_and_no_manifest(tmp_path, kind, error):
    with pytest.raises(error, match="no such folder"):
        manifest.read(tmp_path / "nowhere", kind)
    with pytest.raises(error, match=r"no manifest\.json"):
        manifest.read(tmp_path, kind)


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "demo.hdf5").write_bytes(b"\x89HDF")
    with pytest.raises(
        DataError, match=r"demo.hdf5: that is a file, not a folder.*a dataset.*sailplan data convert .*demo.hdf5"
    ):
        manifest.read(tmp_path / "demo.hdf5", "dataset")
    with pytest.raises(CheckpointError, match=r"not a folder. Expected a model.$"):
        manifest.read(tmp_path / "demo.hdf5", "model")


def test_truncated_manifest(tmp_path):
    folder = folder_of(tmp_path / "model")
    content = (folder / "manifest.json").read_bytes()
    for length in (0, 1, len(content) // 2, len(content) - 1):
        (folder / "manifest.json").write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="truncated or not JSON"):
            manifest.read(folder)
    (folder / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="truncated or not JSON"):
        manifest.read(folder)


@pytest.mark.parametrize("content", [[], 3, {}, {"kind": "model"}, {"kind": 1, "format": "1", "settings": []}])
def test_json_that_is_no_manifest(tmp_path, content):
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="Was it written by sailplan"):
        manifest.read(tmp_path)


def test_another_kind_and_another_format(tmp_path):
    folder = folder_of(tmp_path / "model")
    with pytest.raises(DataError, match="holds a model, expected a dataset"):
        manifest.read(folder, "dataset")
    path = folder / "manifest.json"
    for version, advice in ((0, "Make the folder again"), (2, "newer sailplan")):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": version}))
        with pytest.raises(CheckpointError, match=f"in format {version}, this sailplan reads format 1. .*{advice}"):
            manifest.read(folder)


def test_settings_that_are_not_json_write_nothing(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be written as JSON"):
        manifest.write(tmp_path, "model", settings={"function": print}, checksums={})
    with pytest.raises(CheckpointError, match="another name"):
        manifest.write(tmp_path, "model", settings={}, checksums={}, versions={})
    assert list(tmp_path.iterdir()) == []


def test_replacing_refuses_what_is_not_its_own(tmp_path):
    data = folder_of(tmp_path / "data", kind="dataset")
    with (
        pytest.raises(CheckpointError, match="it holds a dataset, expected an empty place or a model"),
        manifest.replacing(data, "model"),
    ):
        pass
    foreign = tmp_path / "home"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("dear")
    with pytest.raises(CheckpointError, match="sailplan did not write"):
        manifest.check_replaceable(foreign, "model")
    manifest.check_replaceable(tmp_path / "free", "model")
    assert (foreign / "letter.txt").read_text() == "dear"


def test_a_place_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "afile").write_text("dear")
    with pytest.raises(CheckpointError, match=r"afile/deep: .*afile is a file"):
        manifest.check_replaceable(tmp_path / "afile/deep/model", "model")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(DataError, match=r"nowhere: .* cannot be written to"):
        manifest.check_replaceable(tmp_path / "nowhere/data", "dataset")


def test_what_others_put_beside_a_model_is_not_replaced(tmp_path):
    folder = folder_of(tmp_path / "model")
    manifest.check_replaceable(folder, "model")
    folder_of(folder / "data", kind="dataset")
    (folder / "notes.txt").write_text("mine")
    words = r"model: beside a model it holds data/data\.txt, data/manifest\.json, notes\.txt, which replacing would delete"
    with pytest.raises(CheckpointError, match=words), manifest.replacing(folder, "model"):
        pass
    assert (folder / "notes.txt").read_text() == "mine"


def test_an_error_while_writing_keeps_the_old_folder(tmp_path):
    folder = folder_of(tmp_path / "model", "old")

    def write_half():
        with manifest.replacing(folder, "model") as new:
            (new / "data.txt").write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert (folder / "data.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("existing", [True, False])
def test_killed_at_every_step_old_or_new_is_whole(tmp_path, monkeypatch, existing):
    """Stop before each rename, sync and removal in turn; what `located` finds is whole, and the next save succeeds."""
    target, steps = tmp_path / "model", 0
    for limit in range(100):
        files.shutil.rmtree(target, ignore_errors=True)
        if existing:
            folder_of(target, "old")
        new = folder_of(tmp_path / ".model.new", "new")
        steps = 0

        def counted(function, limit=limit):
            def call(*arguments, **options):
                nonlocal steps
                steps += 1
                if steps > limit:
                    raise Killed
                return function(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for owner, name in ((Path, "rename"), (os, "fsync"), (files.shutil, "rmtree")):
                patch.setattr(owner, name, counted(getattr(owner, name)))
            try:
                files.replace_folder(new, target)
            except Killed:
                finished = False
            else:
                finished = True
        found = files.located(target)
        if existing or found.exists():
            content = manifest.read(target, "model")
            assert manifest.verify(target, content) == {}
            assert content.extra["note"] == (found / "data.txt").read_text()
        with manifest.replacing(target, "model") as another:
            folder_of(another, "next")
        assert (target / "data.txt").read_text() == "next"
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        if finished:
            break
    assert finished
    assert steps > 4


def test_one_writer_at_a_time(tmp_path):
    with files.sole_writer(tmp_path / "lock"):
        with pytest.raises(CheckpointError, match="another process"), files.sole_writer(tmp_path / "lock"):
            pass
        assert (tmp_path / "lock").exists()
    with files.sole_writer(tmp_path / "lock"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    files.write_aside(path, b"old")

    def killed(_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(Killed):
            files.write_aside(path, b"new")
    assert path.read_bytes() == b"old"

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            files.write_aside(path, b"new")
    assert list(tmp_path.iterdir()) == [path]
    files.write_aside(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
