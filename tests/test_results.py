"""Results files: cells replace themselves, bad lines name themselves, and two writers lose nothing."""

import json
import multiprocessing
import subprocess

import pytest

from benchmarks import provenance
from benchmarks.results import ResultError, read_lines, write_line

CELL = {
    "benchmark": "demo",
    "task": "cartpole-swingup",
    "method": "CEM",
    "settings": {"horizon": 20},
    "seed": 0,
    "frames": 5000,
}
LINE = {**CELL, "return_mean": 750.0, "minutes": 1.5}


def test_a_line_carries_its_provenance(tmp_path):
    written = write_line(tmp_path / "demo.jsonl", LINE)
    assert read_lines(tmp_path / "demo.jsonl") == [written]
    assert {name: written[name] for name in LINE} == LINE
    assert written["commit"] == provenance.commit()
    assert written["versions"] == provenance.versions()
    assert written["machine"] == provenance.machine()


def test_a_rerun_replaces_its_own_cell_in_place(tmp_path):
    path = tmp_path / "demo.jsonl"
    for seed in (0, 1, 2):
        write_line(path, {**LINE, "seed": seed})
    reordered = {name: LINE[name] for name in reversed(LINE)}
    write_line(path, {**reordered, "seed": 1, "return_mean": 800.0})
    assert [(line["seed"], line["return_mean"]) for line in read_lines(path)] == [(0, 750.0), (1, 800.0), (2, 750.0)]


@pytest.mark.parametrize("field", CELL)
def test_every_field_of_the_cell_tells_cells_apart(tmp_path, field):
    write_line(tmp_path / "demo.jsonl", LINE)
    write_line(tmp_path / "demo.jsonl", {**LINE, field: "another"})
    assert len(read_lines(tmp_path / "demo.jsonl")) == 2


def test_a_cell_measured_again_after_reading_is_the_same_cell(tmp_path):
    write_line(tmp_path / "demo.jsonl", {**LINE, "settings": {"sizes": (1, 2)}})
    write_line(tmp_path / "demo.jsonl", {**LINE, "settings": {"sizes": [1, 2]}})
    assert len(read_lines(tmp_path / "demo.jsonl")) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"benchmark": "demo"}, "lacks task, method, settings, seed, frames, minutes"),
        ({**LINE, "return_mean": float("nan")}, "not finite JSON"),
        ({**LINE, "return_mean": object()}, "not finite JSON"),
    ],
)
def test_a_bad_line_leaves_the_file_untouched(tmp_path, line, said):
    path = tmp_path / "demo.jsonl"
    write_line(path, LINE)
    before = path.read_bytes()
    with pytest.raises(ResultError, match=said):
        write_line(path, line)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["demo.jsonl"]


@pytest.mark.parametrize("damage", ['{"benchmark": ', "[]", '{"benchmark": "demo"}'])
def test_a_damaged_file_names_its_line(tmp_path, damage):
    path = tmp_path / "demo.jsonl"
    write_line(path, LINE)
    with path.open("a") as file:
        file.write(damage + "\n")
    with pytest.raises(ResultError, match="line 2"):
        read_lines(path)


def test_no_file_has_no_lines(tmp_path):
    assert read_lines(tmp_path / "none.jsonl") == []


def _write_seeds(path, seeds):
    for seed in seeds:
        write_line(path, {**LINE, "seed": seed})


def test_two_processes_writing_at_once_lose_no_line(tmp_path):
    path = tmp_path / "demo.jsonl"
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write_seeds, args=(path, range(first, 40, 2))) for first in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert sorted(line["seed"] for line in read_lines(path)) == list(range(40))


def test_versions_machine_and_commit_are_plain_json():
    assert {"python", "jax", "numpy", "mujoco"} <= provenance.versions().keys()
    assert provenance.machine().keys() == {"cpu", "cores", "memory_gb", "platform", "accelerator"}
    json.dumps([provenance.versions(), provenance.machine(), provenance.commit()])


def test_the_commit_tells_changed_code(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.commit() == "unknown"
    code = tmp_path / "code.py"
    code.write_text("x = 1\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "code.py"], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert provenance.commit() == head.stdout.strip()
    code.write_text("x = 2\n")
    assert provenance.commit() == head.stdout.strip() + "-dirty"
