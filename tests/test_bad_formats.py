"""Other people's formats: whatever is wrong with a file is named, and nothing of it is dropped without a word."""

import contextlib
import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import foreign
from worldmodels import manifest
from worldmodels.data import Dataset
from worldmodels.data.formats import Reading, convert, open_source, verify
from worldmodels.errors import CheckpointError, DataError
from worldmodels.spec import DiscreteAction

h5py = pytest.importorskip("h5py")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
minari = pytest.importorskip("minari")
pytest.importorskip("av")

CAMERA, PLAIN = foreign.CAMERA, foreign.PLAIN


BLACK = CAMERA[1].observations["camera"][:-1].copy()
BLACK[2] = 0
BAD = {
    "mixed shapes": ({"obs__state": np.zeros((5, 4)), "next_obs__state": np.zeros((5, 4))}, r"observations\[state\] has shape"),
    "a missing observation": ({"obs__state": None, "next_obs__state": None}, r"observations \['state'\] are missing"),
    "text": (
        {"obs__state": np.full((5, 3), b"x"), "next_obs__state": np.full((5, 3), b"x")},
        r"observations\[state\] has dtype",
    ),
    "float frames": (
        {"obs__camera": np.ones((5, 8, 8, 3), np.float32), "next_obs__camera": np.ones((5, 8, 8, 3), np.float32)},
        r"observations\[camera\] has dtype float32, expected frames of uint8",
    ),
    "a missing frame": ({"obs__camera": BLACK[:3]}, r"observations\[camera\] has 4 frames, expected 6: frames are missing"),
    "a black frame": ({"obs__camera": BLACK}, r"observations\[camera\] frame 2 is of one colour"),
    "an action outside": ({"actions": np.full((5, 2), 1.5)}, "actions leave .* first at step 0"),
    "no actions": ({"actions": None}, "actions are missing or empty.*--action-free"),
    "empty actions": ({"actions": np.zeros((5, 0))}, "actions are missing or empty"),
    "a NaN": ({"rewards": np.array([0, 0, np.nan, 0, 0])}, "costs holds a NaN or an infinity, first at step 2"),
    "a number beyond float32": (
        {"obs__state": np.full((5, 3), 1e300)},
        r"observations\[state\] holds a number too large for float32, first at step 0",
    ),
    "too few rewards": ({"rewards": np.zeros(3)}, "3 rewards for 5 actions: expected as many"),
    "too many rewards": ({"rewards": np.zeros(7)}, "7 rewards for 5 actions: expected as many"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_bad_is_named_and_skipped_only_when_asked(tmp_path, case):
    changed, message = BAD[case]
    path = foreign.edit(foreign.write_robomimic(tmp_path / "lift.hdf5", CAMERA), 1, **changed)
    source = open_source(path)
    with pytest.raises(DataError, match=rf"lift\.hdf5: demo_1: .*{message}.*--skip-bad"):
        convert(source, tmp_path / "strict")
    report = convert(source, tmp_path / "lenient", skip_bad=True)
    assert list(report.bad) == ["demo_1"]
    assert (report.episodes, report.decisions) == (2, 10)
    assert [e.seed for e in Dataset.open(tmp_path / "lenient")] == [0, 2]
    assert verify(source).bad == report.bad


@pytest.mark.parametrize("column", ["rewards", "observations", "actions"])
def test_rows_of_one_table_beyond_the_last_end_are_refused(tmp_path, column):
    path = foreign.write_d4rl(tmp_path / "hopper.hdf5", PLAIN)
    with h5py.File(path, "a") as file:
        array = file[column][:]
        del file[column]
        file[column] = np.concatenate([array, array[:2]])
    with pytest.raises(DataError, match=rf"hopper\.hdf5: {column} has 17 rows, expected 15"):
        open_source(path)


def test_an_empty_column_of_rewards_is_said(tmp_path):
    for number, one in enumerate(CAMERA):
        changed = {"next.reward": pa.nulls(len(one) + 1)} if number else {}
        pq.write_table(foreign.lerobot_table(number, one, **changed), tmp_path / f"{number}.parquet")
    source = open_source(tmp_path)
    assert "next.reward is empty in 2 of 3 episodes, which have no costs by it." in source.notes
    assert [source.read(name).costs is None for name in source.names] == [False, True, True]
    reward = dict.fromkeys(["next.reward", "reward"], pa.nulls(5)) | {"reward": np.arange(5.0)}
    pq.write_table(foreign.lerobot_table(0, CAMERA[0], **reward), tmp_path / "0.parquet")
    np.testing.assert_array_equal(open_source(tmp_path).read("episode 0").costs, [0, -1, -2, -3])


def test_the_odd_one_out_may_be_the_first(tmp_path):
    """The shape is that of most episodes, so that one bad one is left out and not all the others."""
    odd = np.zeros((4, 4))
    path = foreign.edit(foreign.write_robomimic(tmp_path / "lift.hdf5", CAMERA), 0, obs__state=odd, next_obs__state=odd)
    source = open_source(path)
    assert source.spec.observation == (("camera", (8, 8, 3)), ("state", (3,)))
    report = verify(source)
    assert list(report.bad) == ["demo_0"]
    assert "observations[state] has shape (5, 4), expected (5, 3)" in report.bad["demo_0"]
    foreign.write_lerobot(tmp_path / "arm", CAMERA)
    table = foreign.lerobot_table(0, CAMERA[0], **{"observation.state": [[1.0, 2.0]] * 5})
    pq.write_table(table, tmp_path / "arm/data/chunk-000/episode_000000.parquet")
    source = open_source(tmp_path / "arm")
    assert dict(source.spec.observation) == {"state": (3,), "camera": (8, 8, 3), "film": (8, 8, 3)}
    assert list(verify(source).bad) == ["episode 0"]


def test_discrete_actions_are_as_many_as_any_episode_shows(tmp_path):
    given = [np.arange(len(one)) % (2 + index) for index, one in enumerate(CAMERA)]  # 2, 3 and 4 of them
    path = foreign.write_robomimic(tmp_path / "lift.hdf5", CAMERA)
    for number, actions in enumerate(given):
        foreign.edit(path, number, actions=actions)
    (tmp_path / "arm").mkdir()
    for number, actions in enumerate(given):
        table = foreign.lerobot_table(number, CAMERA[number], action=np.pad(actions, (0, 1)))
        pq.write_table(table, tmp_path / f"arm/{number}.parquet")
    for where in (path, tmp_path / "arm"):
        source = open_source(where)
        assert source.spec.action == DiscreteAction(4)
        assert any("4 is assumed" in note for note in source.notes)
        assert not any("[-1, 1]" in note for note in source.notes)
        for name, actions in zip(source.names, given, strict=True):
            np.testing.assert_array_equal(source.read(name).actions, actions)
        stated = open_source(where, Reading(high=(5.0,)))
        assert stated.spec.action == DiscreteAction(6)
        assert not any("assumed" in note for note in stated.notes)


def shown(frame, cell):
    """The column of pictures of episode 1 with another cell at that frame."""
    cells = foreign.lerobot_table(1, CAMERA[1])["observation.camera"].to_pylist()
    return {"observation.camera": [*cells[:frame], cell(cells[frame]) if callable(cell) else cell, *cells[frame + 1 :]]}


LEROBOT = {
    "a lost beginning": ({"frame_index": np.arange(2, 8)}, "frame_index begins at 2, expected 0: frames are missing"),
    "a gap": ({"frame_index": np.array([0, 1, 2, 4, 5, 6])}, "frame_index goes from 2 to 4: frames are missing"),
    "ragged": ({"observation.state": [[1.0]] * 5 + [[1.0, 2.0]]}, r"observations\[state\] has rows of different lengths"),
    "empty actions": ({"action": pa.nulls(6)}, "actions are missing or empty"),
    "a frame without bytes": (
        shown(2, {"bytes": None, "path": "a.png"}),
        r"observations\[camera\] frame 2 is missing: .* 'a\.png'",
    ),
    "an empty frame": (shown(2, {"bytes": b"", "path": None}), r"observations\[camera\] frame 2 is missing: it has no bytes\."),
    "a frame of junk": (
        shown(2, {"bytes": b"junk", "path": None}),
        r"observations\[camera\] frame 2 cannot be decoded: its 4 bytes",
    ),
    "a frame cut short": (
        shown(1, lambda cell: {"bytes": cell["bytes"][:-60], "path": None}),
        r"observations\[camera\] frame 1 cannot be decoded",
    ),
    "a frame of another size": (
        shown(0, {"bytes": foreign.png(np.eye(4, dtype=np.uint8)), "path": None}),
        r"observations\[camera\] frame 0 has shape \(4, 4, 3\), expected \(8, 8, 3\)",
    ),
    "a hole": ({"action": [[0.0, 0.0]] * 5 + [None]}, "action is empty in 1 of 6 rows"),
}


@pytest.mark.parametrize("case", LEROBOT)
def test_bad_rows_of_a_table(tmp_path, case):
    changed, message = LEROBOT[case]
    foreign.write_lerobot(tmp_path, CAMERA)
    table = foreign.lerobot_table(1, CAMERA[1], **changed)
    pq.write_table(table, tmp_path / "data/chunk-000/episode_000001.parquet")
    source = open_source(tmp_path)
    with pytest.raises(DataError, match=f"episode 1: {message}"):
        source.read("episode 1")
    assert list(verify(source).bad) == ["episode 1"]


@pytest.mark.parametrize("version", [2, 3])
def test_lost_rows_and_lost_episodes_of_lerobot(tmp_path, version):
    folder = foreign.write_lerobot(tmp_path / "arm", CAMERA, version)
    for file in (folder / "data").rglob("*.parquet"):
        table = pq.read_table(file)
        numbers, frame = (table.column(name).to_numpy() for name in ("episode_index", "frame_index"))
        kept = table.filter((numbers != 1) & ~((numbers == 2) & (frame == len(CAMERA[2]))))
        file.unlink() if not len(kept) else pq.write_table(kept, file)
    bad = verify(open_source(folder)).bad
    assert list(bad) == ["episode 2", "episode 1"]
    assert "episode 1: it has no rows" in bad["episode 1"]
    assert "it has 6 rows, its metadata say length=7: frames are missing" in bad["episode 2"]


def test_a_file_that_cannot_be_read_is_one_bad_episode(tmp_path):
    for number, name in ((0, "a.parquet"), (2, "c.parquet")):
        pq.write_table(foreign.lerobot_table(number, CAMERA[number]), tmp_path / name)
    (tmp_path / "b.parquet").write_bytes(b"garbage")
    (bad,) = verify(open_source(tmp_path)).bad.values()
    assert "b.parquet" in bad


@pytest.mark.parametrize("names", [("actions", "obs"), ("actions", "obs", "next_obs", "rewards", "dones", "states")])
def test_a_group_without_an_episodes_fields_is_a_bad_one(tmp_path, names):
    path = foreign.edit(foreign.write_robomimic(tmp_path / "lift.hdf5", CAMERA), 1, **dict.fromkeys(names))
    assert "demo_1: observations are missing" in verify(open_source(path)).bad["demo_1"]
    with h5py.File(path, "a") as file:
        del file["data/demo_1"]
        file["data/demo_1"] = h5py.SoftLink("/nowhere")
    assert "demo_1: damaged" in verify(open_source(path)).bad["demo_1"]


def test_a_film_that_nobody_asks_for_is_not_looked_at(tmp_path):
    folder = foreign.write_lerobot(tmp_path / "arm", CAMERA)
    (folder / "videos/observation.film/episode_000001.mp4").unlink()
    source = open_source(folder, Reading(observations=("state", "camera")))
    assert not verify(source).bad
    assert "film" in source.ignored
    with pytest.raises(DataError, match=r"no observations \['sound'\]; it has \['camera', 'film', 'state'\]"):
        open_source(folder, Reading(observations=("sound",)))


@pytest.mark.parametrize("where", ["arm-v0", "arm-v0/data", "lerobot"])
def test_a_folder_of_another_format_is_pointed_to_convert(tmp_path, where):
    convert(open_source(foreign.own(tmp_path / "own", CAMERA)), tmp_path / "arm-v0", "minari")
    foreign.write_lerobot(tmp_path / "lerobot", CAMERA)
    whose = "LeRobot" if where == "lerobot" else "Minari"
    said = f"{where}: it holds a dataset of {whose}, expected one that sailplan wrote. .*sailplan data convert .*{where} --out"
    for read in (Dataset.open, Dataset.unchecked):
        with pytest.raises(DataError, match=said):
            read(tmp_path / where)
    with pytest.raises(CheckpointError, match="it has no manifest"):
        manifest.read(tmp_path / where, "model")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action_repeat": 0}, "action_repeat=0: expected at least 1"),
        ({"seconds_per_step": float("nan")}, "seconds_per_step=nan: expected a positive number"),
        ({"seconds_per_step": -1.0}, "seconds_per_step=-1.0: expected a positive number"),
        ({"observations": ("state", "state")}, "expected each once"),
        ({"low": (2.0,)}, r"own: actions from \[2\.0, 2\.0\] to \[1\.0, 1\.0\]: expected finite numbers, low < high"),
        ({"high": (float("nan"),)}, "own: actions from .*: expected finite numbers"),
        ({"high": (1.0, 2.0, 3.0)}, "own: high=.* for actions of size 2: expected one number, or 2"),
    ],
)
def test_settings_that_would_spoil_a_dataset(tmp_path, options, message):
    folder = foreign.own(tmp_path / "own", CAMERA)
    with pytest.raises(DataError, match=message):
        open_source(folder, Reading(**options))


@pytest.mark.parametrize("options", [{"low": (1.0,)}, {"high": (2.0, 3.0)}, {"high": (2.7,)}, {"high": (-1.0,)}])
def test_integer_actions_have_one_last_one(tmp_path, options):
    path = foreign.write_robomimic(tmp_path / "lift.hdf5", CAMERA)
    for number, one in enumerate(CAMERA):
        foreign.edit(path, number, actions=np.arange(len(one)) % 2 == 1)
    assert open_source(path).spec.action == DiscreteAction(2)
    with pytest.raises(DataError, match=r"lift\.hdf5: low=.*, high=.* integers from 0: expected the last one as high"):
        open_source(path, Reading(**options))


def test_films_too_short_missing_or_damaged(tmp_path):
    source = open_source(foreign.write_lerobot(tmp_path, CAMERA))
    film = tmp_path / "videos/observation.film/episode_000001.mp4"
    foreign.write_film(film, CAMERA[1].observations["camera"][:4])
    with pytest.raises(DataError, match=r"episode 1: observations\[film\] has 4 frames in .*, expected 6: frames are missing"):
        source.read("episode 1")
    film.write_bytes(film.read_bytes()[:200])
    with pytest.raises(DataError, match=r"episode 1: observations\[film\] in .* is damaged"):
        source.read("episode 1")
    film.unlink()
    with pytest.raises(DataError, match=r"episode 1: observations\[film\] is in .*, which is missing"):
        source.read("episode 1")


def test_a_frame_missing_within_a_film_is_not_filled_with_the_next(tmp_path):
    folder = foreign.write_lerobot(tmp_path / "v3", CAMERA, 3)
    pictures = np.concatenate([one.observations["camera"] for one in CAMERA])
    kept = [index for index in range(len(pictures)) if index != 7]  # episode 1 begins at frame 5
    foreign.write_film(folder / "videos/observation.film/chunk-000/file-000.mp4", pictures[kept], kept)
    source = open_source(folder)
    with pytest.raises(DataError, match=r"episode 1: observations\[film\] has frame 2 at second 0\.8 .*, expected 0\.7"):
        source.read("episode 1")
    assert list(verify(source).bad) == ["episode 1"]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0, 1, 3, 4, 5, 6], r"has frame 2 at second 0\.3 of .*, expected 0\.2: frames are missing"),
        ([1, 2, 3, 4, 5, 6], r"has frame 0 at second 0\.1 of .*, expected 0"),
        ([0, 1, 2, 3, 4, 5, 6], "has more than 6 frames"),
    ],
)
def test_a_film_of_one_episode_has_each_frame_at_its_time_and_no_other(tmp_path, times, message):
    source = open_source(foreign.write_lerobot(tmp_path, CAMERA))
    pictures = np.resize(CAMERA[1].observations["camera"], (len(times), 8, 8, 3))
    foreign.write_film(tmp_path / "videos/observation.film/episode_000001.mp4", pictures, times)
    with pytest.raises(DataError, match=rf"episode 1: observations\[film\] {message}"):
        source.read("episode 1")
    assert list(verify(source).bad) == ["episode 1"]


def test_our_own_dataset_refuses_another_dtype(tmp_path):
    episode = CAMERA[1]
    grey = episode.observations | {"camera": episode.observations["camera"].astype(np.float32)}
    with Dataset.open(foreign.own(tmp_path / "own", CAMERA), append=True) as dataset:
        with pytest.raises(DataError, match=r"000003\.npz: observations\[camera\] has dtype float32"):
            dataset.append(dataclasses.replace(episode, observations=grey))
        assert len(dataset) == 3


def test_what_is_no_dataset(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    for name, message in (
        ("nowhere", "no such file"),
        ("notes.txt", "no format"),
        ("empty", "no format"),
        ("other.h5", "layout"),
    ):
        with pytest.raises(DataError, match=message):
            open_source(tmp_path / name)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    path = foreign.write_d4rl(tmp_path / "hopper.hdf5", PLAIN)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"needs h5py: pip install 'sailplan\[data\]'"):
        open_source(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A good dataset of each format and the file to damage."""
    root = tmp_path_factory.mktemp("whole")
    table = root / "table.parquet"
    pq.write_table(foreign.lerobot_table(0, CAMERA[0]), table)
    convert(open_source(foreign.own(root / "own", CAMERA)), root / "arm-v0", "minari")
    hdf5 = foreign.write_robomimic(root / "lift.hdf5", CAMERA)
    files = [
        (table, table),
        (hdf5, hdf5),
        *((root / "arm-v0", root / "arm-v0/data" / n) for n in ("main_data.hdf5", "metadata.json")),
    ]
    return [(path, file, file.read_bytes()) for path, file in files]


@settings(max_examples=60)
@given(which=st.integers(0, 3), share=st.floats(0, 1), junk=st.binary(max_size=64), cut=st.booleans())
def test_damaged_files_give_our_error_or_good_episodes(whole, which, share, junk, cut):
    path, file, content = whole[which]
    at = int(share * len(content))
    file.write_bytes(content[:at] + junk + (b"" if cut else content[at + len(junk) :]))
    try:
        with contextlib.suppress(DataError):
            source = open_source(path)
            report = verify(source)
            assert report.episodes + len(report.bad) == len(source)
    finally:
        file.write_bytes(content)
