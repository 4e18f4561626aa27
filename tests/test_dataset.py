"""Episodes on disk: what comes back, what a kill leaves, and what damage is called."""

import dataclasses
import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from worldmodels import manifest
from worldmodels.data.dataset import Dataset
from worldmodels.data.episode import Episode
from worldmodels.data.npz import decode, encode
from worldmodels.errors import DataError
from worldmodels.spec import ContinuousAction, DiscreteAction, Spec

SPEC = Spec("test/Point-v0", (("position", (2,)), ("speed", ())), ContinuousAction((-2.0,), (2.0,)), action_repeat=4)


def episode_of(seed: int, length: int = 5, spec: Spec = SPEC, *, costs: bool = True) -> Episode:
    rng = np.random.default_rng(seed)
    observations = {name: rng.normal(size=(length + 1, *shape)).astype(np.float32) for name, shape in spec.observation}
    if isinstance(spec.action, DiscreteAction):
        actions = rng.integers(spec.action.n, size=length)
    else:
        actions = rng.uniform(spec.action.low, spec.action.high, (length, *spec.action.shape)).astype(np.float32)
    paid = rng.normal(size=length).astype(np.float32) if costs else None
    return Episode(observations, actions, paid, terminated=seed % 2 == 0, truncated=seed % 2 == 1, seed=seed)


def dataset_of(folder: Path, count: int = 3, spec: Spec = SPEC) -> Path:
    with Dataset.create(folder, spec, {"policy": "random"}) as dataset:
        for seed in range(count):
            dataset.append(episode_of(seed, 5 + seed, spec))
    return folder


def assert_same(one: Episode, other: Episode) -> None:
    assert one.observations.keys() == other.observations.keys()
    for name, value in one.observations.items():
        np.testing.assert_array_equal(value, other.observations[name], strict=True)
    np.testing.assert_array_equal(one.actions, other.actions)
    np.testing.assert_array_equal(one.costs, other.costs)  # type: ignore[arg-type]
    assert (one.terminated, one.truncated, one.seed) == (other.terminated, other.truncated, other.seed)


def test_what_is_appended_is_read(tmp_path):
    folder = dataset_of(tmp_path / "data")
    dataset = Dataset.open(folder)
    assert dataset.spec == SPEC
    assert dataset.settings == {"policy": "random"}
    assert (len(dataset), dataset.decisions, dataset.frames, dataset.seeds) == (3, 18, 72, (0, 1, 2))
    for seed, episode in enumerate(dataset):
        assert_same(episode, episode_of(seed, 5 + seed))
        assert dataset.returns[seed] == pytest.approx(episode.total_return)
    assert_same(dataset[-1], dataset[2])
    assert [episode.seed for episode in dataset[1:]] == [1, 2]
    with pytest.raises(IndexError):
        dataset[3]
    content = json.loads((folder / "manifest.json").read_text())
    assert content["episodes"]["episodes/000001.npz"]["decisions"] == 6
    assert content["spec"]["action_repeat"] == 4
    assert content["spec"]["action"] == {"low": [-2.0], "high": [2.0]}
    assert content["versions"]["numpy"] == np.__version__
    assert "dataset of test/Point-v0" in manifest.describe(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["episodes", "manifest.json"]


def test_images_integers_and_missing_costs(tmp_path):
    spec = Spec("test/Pixels-v0", (("image", (4, 4, 3)), ("speed", ())), DiscreteAction(3))
    episode = episode_of(1, spec=spec, costs=False)
    image = np.arange(6 * 48, dtype=np.uint8).reshape(6, 4, 4, 3)
    speed = np.linspace(0, 1, 6)  # float64, stored as float32
    episode = dataclasses.replace(episode, observations={"image": image, "speed": speed})
    with Dataset.create(tmp_path / "data", spec) as dataset:
        dataset.append(episode)
        read = dataset[0]
    assert read.observations["image"].dtype == np.uint8
    np.testing.assert_array_equal(read.observations["image"], image)
    assert read.observations["speed"].dtype == np.float32
    assert read.actions.dtype == np.int32
    np.testing.assert_array_equal(read.actions, episode.actions)
    assert read.costs is None
    assert np.isnan(dataset.returns[0])
    json.loads((tmp_path / "data" / "manifest.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": np.zeros((4, 1), np.float32)}, "shape"),
        ({"actions": np.full((5, 1), 3.0, np.float32)}, "actions leave"),
        ({"costs": np.array([0, 1, np.nan, 3, 4])}, "costs holds a NaN or an infinity, first at step 2"),
        ({"costs": np.full(5, 1e300)}, "costs holds a number too large for float32, first at step 0"),
        ({"observations": {"position": np.zeros((6, 2))}}, "observations"),
        ({"observations": {"position": np.zeros((6, 3)), "speed": np.zeros(6)}}, r"observations\[position\] has shape"),
        ({"observations": {"position": np.full((6, 2), None), "speed": np.zeros(6)}}, "dtype object"),
    ],
)
def test_a_bad_episode_is_refused_and_nothing_is_written(tmp_path, change, message):
    folder = dataset_of(tmp_path / "data", 1)
    before = sorted(folder.rglob("*"))
    with Dataset.open(folder, append=True) as dataset, pytest.raises(DataError, match=message) as raised:
        dataset.append(dataclasses.replace(episode_of(7), **change))
    assert "episodes/000001.npz" in str(raised.value)
    assert sorted(folder.rglob("*")) == before
    assert len(Dataset.open(folder)) == 1


def test_a_damaged_episode_is_named_and_can_be_left_out(tmp_path):
    folder = dataset_of(tmp_path / "data")
    whole = (folder / "episodes/000001.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content, message in ((whole[:100], "its 100 bytes do not match"), (bytes(flipped), "checksum"), (None, "missing")):
        path = folder / "episodes/000001.npz"
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(DataError, match=rf"episodes/000001\.npz: .*{message}.*skip_damaged=True \(--skip-bad\)"):
            Dataset.open(folder)
        with pytest.warns(UserWarning, match=r"left out 1 damaged episodes.*000001\.npz"):
            dataset = Dataset.open(folder, skip_damaged=True)
        assert list(dataset.damaged) == ["episodes/000001.npz"]
        assert dataset.seeds == (0, 2)
        assert [episode.seed for episode in dataset] == [0, 2]
        assert dataset.decisions == 12
    with pytest.warns(UserWarning, match="left out"):
        dataset = Dataset.open(folder, skip_damaged=True, append=True)
    with dataset:
        dataset.append(episode_of(3))
        assert dataset.seeds == (0, 2, 3)
    assert (folder / "episodes/000003.npz").exists()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("costs", np.array([0, 0, np.inf, 0, 0], np.float32), "costs holds a NaN or an infinity, first at step 2"),
        ("actions", np.zeros((5, 2), np.float32), r"actions has shape \(5, 2\), expected \(5, 1\)"),
        ("seed", None, "the field 'seed' is missing"),
        ("observation/speed", None, "observations"),
        ("terminated", np.zeros(3), "truncated, or not an episode"),
    ],
)
def test_a_file_that_others_wrote_badly_is_named_with_its_field(tmp_path, field, value, message):
    folder = dataset_of(tmp_path / "data", 1)
    path = folder / "episodes/000000.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files} | {field: value}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    content = json.loads((folder / "manifest.json").read_text())
    content["checksums"]["episodes/000000.npz"] = manifest.checksum(path)
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"episodes/000000\.npz: {message}"):
        Dataset.open(folder)


def test_truncated_anywhere_is_a_data_error():
    content = encode(episode_of(0), SPEC, "episode")
    assert_same(decode(content, SPEC, "episode"), episode_of(0))
    for length in range(0, len(content), 7):
        with pytest.raises(DataError, match="episode 7: "):
            decode(content[:length], SPEC, "episode 7")


def test_pickles_are_not_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = tmp_path / "trap.npz"
    np.savez(path, actions=np.array([Trap()], dtype=object))
    with pytest.raises(DataError, match="not an episode"):
        decode(path.read_bytes(), SPEC, "episode")
    assert not (tmp_path / "sprung").exists()


def test_empty_foreign_and_existing_folders(tmp_path):
    Dataset.create(tmp_path / "empty", SPEC).close()
    with pytest.raises(DataError, match="no usable episode"):
        Dataset.open(tmp_path / "empty")
    assert len(Dataset.open(tmp_path / "empty", append=True)) == 0
    with pytest.raises(DataError, match="no such folder"):
        Dataset.open(tmp_path / "nowhere")
    with pytest.raises(DataError, match="dataset already"):
        Dataset.create(tmp_path / "empty", SPEC)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("you")
    with pytest.raises(DataError, match="other files"):
        Dataset.create(tmp_path / "letters", SPEC)
    with pytest.raises(DataError, match="it is a file"):
        Dataset.create(tmp_path / "letters" / "dear.txt", SPEC)
    manifest.write(tmp_path / "letters", "model", settings={}, checksums={})
    with pytest.raises(DataError, match="holds a model, expected a dataset"):
        Dataset.open(tmp_path / "letters")
    manifest.write(tmp_path / "letters", "dataset", settings={}, checksums={})
    with pytest.raises(DataError, match=r"letters/manifest\.json: the manifest's spec cannot be read"):
        Dataset.open(tmp_path / "letters")
    (tmp_path / "letters" / "dear.txt").write_text("you")
    with pytest.raises(DataError, match=r"letters/dear\.txt is a file"):
        Dataset.create(tmp_path / "letters" / "dear.txt" / "data", SPEC)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"episodes": None}, "the field 'episodes' is missing"),
        ({"episodes": []}, "the field 'episodes' is missing or of another type"),
        ({"episodes": {}}, r"episodes\[episodes/000000\.npz\] is None: expected decisions, return, seed"),
        ({"episodes": {"episodes/000000.npz": {"seed": 0}}}, r"episodes\[episodes/000000\.npz\] is .*expected decisions"),
        ({"spec": SPEC.to_json() | {"observation": "x"}}, "the manifest's spec cannot be read"),
        ({"spec": SPEC.to_json() | {"units": [["a"]]}}, "the manifest's spec cannot be read"),
        (
            {"spec": SPEC.to_json() | {"action": {"low": [1], "high": [0]}}},
            "action bounds .*: expected finite numbers with low < high",
        ),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path, changed, message):
    path = dataset_of(tmp_path / "data", 1) / "manifest.json"
    content = json.loads(path.read_text()) | changed
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    for append in (False, True):
        with pytest.raises(DataError, match=rf"data/manifest\.json: {message}"):
            Dataset.open(path.parent, append=append)


def test_one_writer_many_readers(tmp_path):
    folder = dataset_of(tmp_path / "data")
    reader = Dataset.open(folder)
    with pytest.raises(DataError, match="append=True"):
        reader.append(episode_of(3))
    writer = Dataset.open(folder, append=True)
    with pytest.raises(DataError, match="another process is writing"):
        Dataset.open(folder, append=True)
    writer.append(episode_of(3))
    assert (len(reader), len(Dataset.open(folder)), len(writer)) == (3, 4, 4)
    writer.close()
    writer = Dataset.open(folder, append=True)
    del writer
    gc.collect()
    Dataset.open(folder, append=True).close()


def test_a_failed_open_lets_the_lock_go(tmp_path):
    folder = dataset_of(tmp_path / "data")
    (folder / "episodes/000000.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"damaged.*choose another folder"):
        Dataset.open(folder, append=True)
    with pytest.warns(UserWarning, match="left out"):
        Dataset.open(folder, append=True, skip_damaged=True).close()


def test_an_orphan_is_adopted(tmp_path, monkeypatch):
    folder = dataset_of(tmp_path / "data", 2)
    dataset = Dataset.open(folder, append=True)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(manifest, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            dataset.append(episode_of(2))
    dataset.close()
    assert len(Dataset.open(folder)) == 2
    with Dataset.open(folder, append=True) as dataset:
        assert dataset.seeds == (0, 1, 2)
        dataset.append(episode_of(3))
    assert Dataset.open(folder).seeds == (0, 1, 2, 3)
    shutil.copy(folder / "manifest.json", folder / "episodes/000004.npz")
    with pytest.raises(DataError, match=r"000004\.npz \(not in the manifest; remove it to go on\)"):
        Dataset.open(folder, append=True)


WRITER = """
import sys
from tests.test_dataset import SPEC, episode_of
from worldmodels.data.dataset import Dataset
dataset = Dataset.open(sys.argv[1], append=True)
print("ready", flush=True)
seed = len(dataset)
while True:
    dataset.append(episode_of(seed, 50))
    print(seed, flush=True)
    seed += 1
"""


@pytest.mark.slow
def test_killed_while_appending(tmp_path):
    """A real SIGKILL at random moments: every episode reported as appended is there and intact, and at most one more."""
    folder = tmp_path / "data"
    Dataset.create(folder, SPEC).close()
    moments = random.Random(0)
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.0, 0.15))
        writer.send_signal(signal.SIGKILL)
        lines = [line for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        writer.wait()
        writer.stdout.close()
        assert writer.returncode == -signal.SIGKILL
        with Dataset.open(folder, append=True) as dataset:
            assert dataset.seeds == tuple(range(len(dataset)))
            if lines:
                assert len(dataset) - (int(lines[-1]) + 1) in (0, 1)
            for seed, episode in enumerate(dataset):
                assert_same(episode, episode_of(seed, 50))
            dataset.append(episode_of(len(dataset), 50))
    assert len(Dataset.open(folder)) >= 4
