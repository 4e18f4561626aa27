"""Windows streamed from disk are the ones a buffer in memory holds, and training does not care where they come from."""

import threading

import jax
import numpy as np
import pytest

import worldmodels
from tests import tiny
from tests.test_windows import EPISODES, LENGTHS
from worldmodels.data import Dataset, Episode, Episodes, Stream, npz
from worldmodels.errors import DataError
from worldmodels.spec import ContinuousAction, Spec


def stored(folder, episodes):
    with Dataset.create(folder, episodes.spec) as dataset:
        for episode in episodes:
            dataset.append(episode)
    return Dataset.open(folder)


def test_windows_are_contiguous_uniform_and_the_stored_ones(tmp_path):
    stream = Stream.open(stored(tmp_path / "data", EPISODES))
    buffer = stream.sample(4000, 4, seed=0)
    window = buffer.sample(4000, 4, key=jax.random.key(0))
    steps = np.asarray(window.observations[..., 0])
    np.testing.assert_array_equal(np.diff(steps, axis=1), 1.0)
    assert (steps[:, 0] // 100 == steps[:, -1] // 100).all()
    np.testing.assert_array_equal(window.observations[..., 2], steps + 0.5)
    np.testing.assert_array_equal(window.costs, -steps[:, :-1])
    np.testing.assert_allclose(window.actions[..., 0], (steps[:, :-1] - 500) / 500, rtol=1e-6)
    ended = steps[:, 1:] == 100 * (steps[:, :1] // 100) + np.array(LENGTHS)[(steps[:, 0] // 100).astype(int)][:, None]
    even = (steps[:, :1] // 100) % 2 == 0  # these terminated
    np.testing.assert_array_equal(window.continues, 1.0 - (ended & even))
    first, counts = np.unique(np.asarray(buffer.observations)[::5][:4000, 0], return_counts=True)
    assert set(first) == {0, 1, 2, 3, *range(200, 209), 300}
    assert abs(counts / 4000 - 1 / 14).max() < 0.02


def test_unpacked_once_and_again_when_the_data_grow(tmp_path):
    dataset = stored(tmp_path / "data", EPISODES)
    Stream.open(dataset)
    path = tmp_path / "data/.unpacked/contents.json"
    before = path.stat().st_mtime_ns
    assert len(Stream.open(Dataset.open(tmp_path / "data"))) == 4
    assert path.stat().st_mtime_ns == before
    with Dataset.open(tmp_path / "data", append=True) as grown:
        grown.append(EPISODES[2])
    assert len(Stream.open(Dataset.open(tmp_path / "data"))) == 5
    (tmp_path / "data/.unpacked/costs.bin").write_bytes(b"")  # cut short: unpacked anew, not trusted
    assert len(Stream.open(Dataset.open(tmp_path / "data")).rows()[1]) == sum(LENGTHS) + 12


def test_buffers_repeat_with_their_seed_and_the_thread_ends(tmp_path):
    stream = Stream.open(stored(tmp_path / "data", EPISODES))
    drawn = []
    for _ in range(2):
        buffers = stream.buffers(16, 3, seed=5)
        drawn.append([np.asarray(next(buffers).observations) for _ in range(3)])
        buffers.close()
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0][0], drawn[0][1])
    assert threading.active_count() == 1 or all("work" not in thread.name for thread in threading.enumerate())
    with pytest.raises(DataError, match="shorter than a window of 40"):
        next(stream.buffers(16, 40, seed=0))


def test_what_goes_wrong_in_the_thread_is_raised(tmp_path, monkeypatch):
    stream = Stream.open(stored(tmp_path / "data", EPISODES))

    def fail(*_):
        raise DataError("the disk is gone")

    monkeypatch.setattr(Stream, "_gather", fail)
    with pytest.raises(DataError, match="the disk is gone"):
        next(stream.buffers(16, 3, seed=0))


def test_frames_stay_bytes_on_disk_and_on_the_device(tmp_path):
    from tests import foreign

    stream = Stream.open(stored(tmp_path / "data", foreign.episodes()))
    window = stream.sample(3, 2, seed=0).sample(8, 2, key=jax.random.key(0))
    frames = np.asarray(window.frames["camera"])
    assert stream.observations["camera"].dtype == frames.dtype == np.uint8
    known = {one.observations["camera"][step].tobytes() for one in foreign.episodes() for step in range(len(one) + 1)}
    assert {frame.tobytes() for frame in frames.reshape(-1, 8, 8, 3)} <= known


def test_buffers_of_pictures_are_as_large_as_memory_allows(tmp_path):
    from tests import foreign

    stream = Stream.open(stored(tmp_path / "data", foreign.episodes()))
    picture = 8 * 8 * 3 + 4 * (stream.spec.size + stream.spec.action.shape[0] + 1)  # bytes of a row
    assert stream.bounded(10**6, 4, megabytes=1) == 2**20 // (5 * picture)
    assert stream.bounded(10, 4, megabytes=1) == 10


@pytest.mark.parametrize("as_they_come", [False, True])  # as an older version stored them
def test_vectors_of_bytes_and_of_floats_in_one_dataset(tmp_path, monkeypatch, as_they_come):
    """The first episode's dtype is not everybody's: 0.5 and 300 and -1 are no bytes."""
    if as_they_come:
        monkeypatch.setattr(npz, "_stored", lambda array, dtype: array)
    spec = Spec("test/Mixed-v0", (("state", (2,)),), ContinuousAction((-1.0,), (1.0,)))
    given = [np.array([[1, 2], [3, 4]], np.uint8), np.array([[0.5, 300.0], [-1.0, 1e-3]], np.float32)]
    episodes = tuple(
        Episode({"state": seen}, np.zeros((1, 1), np.float32), None, False, True, i) for i, seen in enumerate(given)
    )
    dataset = stored(tmp_path / "data", Episodes(spec, episodes))
    kinds = [episode.observations["state"].dtype.type for episode in dataset]
    assert kinds == [np.uint8 if as_they_come else np.float32, np.float32]
    np.testing.assert_array_equal(Stream.open(dataset).observations["state"], np.concatenate(given))


def test_costs_in_all_episodes_or_none(tmp_path):
    import dataclasses

    mixed = Episodes(EPISODES.spec, (*EPISODES.episodes, dataclasses.replace(EPISODES[0], costs=None)))
    with pytest.raises(DataError, match=r"episodes/000004\.npz: costs in some episodes"):
        Stream.open(stored(tmp_path / "data", mixed))
    assert not (tmp_path / "data/.unpacked").exists()


@pytest.mark.slow
def test_a_model_learns_from_a_stream_as_from_memory(tmp_path):
    """Same data, same normalisers, and a prediction error of the same size."""
    episodes = tiny.episodes(count=8, length=40)
    stream = Stream.open(stored(tmp_path / "data", episodes))
    settings = worldmodels.TrainingSettings(batch=32, length=3)
    model = worldmodels.JEPA(tiny.SPEC, latent=8, hidden=16, head=16, expander=16)
    readout = {}
    for name, given in (("memory", episodes), ("stream", stream)):
        reports = []
        trained = worldmodels.train(model, given, settings, updates=200, progress=reports.append)
        readout[name] = reports[-1].losses["readout"]
        np.testing.assert_allclose(trained.normaliser.scale[...], np.std(stream.rows()[0], 0), rtol=0.05)
    assert abs(readout["memory"] - readout["stream"]) < 0.3 * readout["memory"]
