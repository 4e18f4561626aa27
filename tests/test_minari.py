"""Minari's files: what they say and do not hold, and episodes without actions."""

import json

import numpy as np
import pytest

from tests import foreign
from worldmodels.data.formats import Reading, convert, open_source
from worldmodels.errors import DataError

h5py = pytest.importorskip("h5py")
pa = pytest.importorskip("pyarrow")
pytest.importorskip("minari")


def test_minari_that_says_fewer_episodes_than_it_stores(tmp_path):
    convert(open_source(foreign.own(tmp_path / "own", foreign.CAMERA)), tmp_path / "arm-v0", "minari")
    path = tmp_path / "arm-v0/data/metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"total_episodes": 2}))
    with pytest.raises(DataError, match=r"metadata\.json: total_episodes=2, but 3 episodes are stored"):
        open_source(tmp_path / "arm-v0")


@pytest.mark.parametrize("case", ["missing", "no rows", "no columns", "nothing"])
@pytest.mark.parametrize("storage", ["hdf5", "arrow"])
def test_minari_without_actions_can_be_watched(tmp_path, storage, case):
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    box = spaces.Box(-9, 9, (2,), np.float32)
    made = MinariStorage.new(tmp_path / "data", box, box, data_format=storage)
    seen = np.arange(6, dtype=np.float32).reshape(3, 2)
    rows = {"rewards": np.ones(2), "terminations": np.array([False, True]), "truncations": np.zeros(2, bool)}
    made.update_episodes([EpisodeBuffer(observations=seen, actions=seen[1:], **rows)])
    (lose_actions_in_hdf5 if storage == "hdf5" else lose_actions_in_arrow)(tmp_path / "data", case)
    with pytest.raises(DataError, match=r"episode 0: actions are missing or empty\. .*--action-free"):
        open_source(tmp_path)
    episode = open_source(tmp_path, Reading(action_free=True)).read("episode 0")
    np.testing.assert_array_equal(episode.observations["observation"], seen)
    np.testing.assert_array_equal(episode.costs, [-1, -1])
    assert (episode.actions.shape, episode.terminated) == ((2, 0), True)


def lose_actions_in_hdf5(folder, case):
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        del file["episode_0/actions"]
        if case != "missing":
            file["episode_0/actions"] = {
                "no rows": np.zeros((0, 2)),
                "no columns": np.zeros((2, 0)),
                "nothing": h5py.Empty("f"),
            }[case]


def lose_actions_in_arrow(folder, case):
    (file,) = (folder / "0").glob("*.arrow")
    table = pa.ipc.open_file(file).read_all()
    place = table.column_names.index("actions")
    table = table.remove_column(place)
    if case != "missing":
        table = table.add_column(
            place, "actions", pa.nulls(3) if case == "nothing" else pa.array([[]] * 3, pa.list_(pa.float32()))
        )
    with pa.ipc.new_file(file, table.schema) as out:
        out.write_table(table)
