"""Other people's formats: what goes in comes out bit for bit, and whatever is wrong is named."""

import contextlib
import dataclasses
import json
import sys

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import foreign
from tests.test_dataset import assert_same
from worldmodels.data import Dataset
from worldmodels.data.formats import Reading, convert, open_source, verify
from worldmodels.errors import DataError, SpecError
from worldmodels.spec import DiscreteAction

h5py = pytest.importorskip("h5py")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
minari = pytest.importorskip("minari")
pytest.importorskip("av")

KEY = jax.random.key(0)
CAMERA, PLAIN = foreign.episodes(), foreign.episodes(camera=False)


def own(folder, episodes):
    with Dataset.create(folder, episodes.spec) as dataset:
        for episode in episodes:
            dataset.append(episode)
    return folder


def without_last(episode):
    """What is left where the outcome of the last action is not recorded: the same, as one decision less was never written."""
    return dataclasses.replace(episode, terminated=False, truncated=True)


@pytest.mark.parametrize("costs", [True, False])
def test_minari_and_back_bit_for_bit(tmp_path, costs):
    episodes = tuple(e if costs else dataclasses.replace(e, costs=None) for e in CAMERA)
    folder = own(tmp_path / "own", dataclasses.replace(CAMERA, episodes=episodes))
    convert(open_source(folder), tmp_path / "arm-v0", "minari")
    report = convert(open_source(tmp_path / "arm-v0"), tmp_path / "back")
    assert (report.episodes, report.decisions, report.bad) == (3, 15, {})
    back = Dataset.open(tmp_path / "back")
    assert back.spec == foreign.SPEC
    for one, other in zip(back, episodes, strict=True):
        if costs:
            assert_same(one, other)
        else:
            assert one.costs is None


def test_minari_itself_reads_what_we_write(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    convert(open_source(own(tmp_path / "own", CAMERA)), tmp_path / "arm-v0", "minari")
    dataset = minari.load_dataset("arm-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (3, 15)
    read = dataset[1]
    np.testing.assert_array_equal(read.observations["camera"], CAMERA[1].observations["camera"])
    np.testing.assert_array_equal(read.actions, CAMERA[1].actions)
    np.testing.assert_array_equal(read.rewards, -CAMERA[1].costs)
    assert read.terminations[-1]
    assert not read.truncations.any()


@pytest.mark.parametrize("storage", ["hdf5", "arrow"])
def test_minari_made_by_others(tmp_path, storage):
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    observed = spaces.Dict({"room": spaces.Discrete(3, start=1), "pose": spaces.Tuple([spaces.Box(-9, 9, (2,), np.float32)])})
    made = MinariStorage.new(tmp_path / "data", observed, spaces.Discrete(4, start=2), data_format=storage)
    pose = np.arange(6, dtype=np.float32).reshape(3, 2)
    buffer = {"rewards": np.array([1.0, 2.0]), "terminations": np.zeros(2, bool), "truncations": np.array([False, True])}
    seen = {"room": np.array([1, 3, 2]), "pose": (pose,)}
    made.update_episodes([EpisodeBuffer(seed=7, observations=seen, actions=np.array([2, 5]), **buffer)])
    source = open_source(tmp_path)
    episode = source.read("episode 0")
    assert source.spec.action.n == 4
    np.testing.assert_array_equal(episode.observations["room"], [[1, 0, 0], [0, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(episode.observations["pose.0"], pose)
    np.testing.assert_array_equal(episode.actions, [0, 3])
    np.testing.assert_array_equal(episode.costs, [-1, -2])
    assert (episode.terminated, episode.truncated, episode.seed) == (False, True, 7)


def test_d4rl_rows(tmp_path):
    source = open_source(foreign.write_d4rl(tmp_path / "hopper.hdf5", PLAIN))
    assert source.spec.environment == "hopper"
    assert source.ignored == ("infos",)
    for index, name in enumerate(source.names):
        assert_same(source.read(name), PLAIN[index])
    source = open_source(foreign.write_d4rl(tmp_path / "short.hdf5", PLAIN, following=False))
    assert any("last row of each episode" in note for note in source.notes)
    for index, name in enumerate(source.names):
        assert_same(source.read(name), without_last(PLAIN[index]))


def test_robomimic_groups_in_their_order(tmp_path):
    source = open_source(foreign.write_robomimic(tmp_path / "lift.hdf5", CAMERA))
    assert source.names == ("demo_0", "demo_1", "demo_2")
    assert source.spec.environment == "Lift"
    assert source.ignored == ("states",)
    for index, name in enumerate(source.names):
        assert_same(source.read(name), CAMERA[index])
    chosen = open_source(tmp_path / "lift.hdf5", Reading(observations=("state",), low=(-2.0,), high=(2.0, 3.0)))
    assert chosen.spec.names == ("state",)
    assert chosen.ignored == ("camera", "states")
    assert (chosen.spec.action.low, chosen.spec.action.high) == ((-2.0, -2.0), (2.0, 3.0))
    with pytest.raises(DataError, match=r"no observations \['sound'\]"):
        open_source(tmp_path / "lift.hdf5", Reading(observations=("sound",)))


def test_one_file_an_episode(tmp_path):
    one = CAMERA[0]
    with h5py.File(tmp_path / "episode_0.hdf5", "w") as file:
        file["action"] = one.actions
        file["observations/qpos"], file["observations/images/top"] = one.observations["state"], one.observations["camera"]
    source = open_source(tmp_path / "episode_0.hdf5")
    episode = source.read("episode 0")
    assert episode.costs is None
    np.testing.assert_array_equal(episode.observations["images.top"], one.observations["camera"])
    assert any("read as one episode" in note for note in source.notes)


@pytest.mark.parametrize("version", [2, 3])
def test_lerobot_with_films(tmp_path, version):
    source = open_source(foreign.write_lerobot(tmp_path / "arm", CAMERA, version))
    assert (source.kind, source.spec.environment, source.spec.seconds_per_step) == (f"LeRobot v{version}.0", "arm", 0.1)
    assert set(source.ignored) == {"timestamp", "episode_index"}
    for index, name in enumerate(source.names):
        episode = source.read(name)
        film = episode.observations.pop("film")
        np.testing.assert_array_equal(film, CAMERA[index].observations["camera"])
        assert_same(episode, without_last(CAMERA[index]))


def test_action_free(tmp_path, monkeypatch, capsys):
    from tests.test_cli import run

    monkeypatch.chdir(tmp_path)
    foreign.write_robomimic(tmp_path / "lift.hdf5", CAMERA)
    source = open_source(tmp_path / "lift.hdf5", Reading(action_free=True))
    convert(source, tmp_path / "watched")
    again = open_source(own(tmp_path / "own", CAMERA), Reading(action_free=True))
    for read in (Dataset.open(tmp_path / "watched")[1], again.read(again.names[1])):
        assert read.actions.shape == (5, 0)
        np.testing.assert_array_equal(read.observations["state"], CAMERA[1].observations["state"])
    for options in (("watched",), ("--action-free", "own", "--then", "watched")):
        assert run("train", *options, "--out", "model", monkeypatch=monkeypatch) == 2
        assert "watched: its episodes have no actions" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(DataError, match="Minari needs actions"):
        convert(source, tmp_path / "watched-v0", "minari")


def edit(path, number, **changed):
    """Replace datasets (None removes) of one robomimic episode."""
    with h5py.File(path, "a") as file:
        group = file[f"data/demo_{number}"]
        for name, array in changed.items():
            name = name.replace("__", "/")
            if name in group:
                del group[name]
            if array is not None:
                group[name] = array
    return path


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
    "too few rewards": ({"rewards": np.zeros(3)}, "3 rewards for 5 actions: expected as many"),
    "too many rewards": ({"rewards": np.zeros(7)}, "7 rewards for 5 actions: expected as many"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_bad_is_named_and_skipped_only_when_asked(tmp_path, case):
    changed, message = BAD[case]
    path = edit(foreign.write_robomimic(tmp_path / "lift.hdf5", CAMERA), 1, **changed)
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
    path = edit(foreign.write_robomimic(tmp_path / "lift.hdf5", CAMERA), 0, obs__state=odd, next_obs__state=odd)
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
        edit(path, number, actions=actions)
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


LEROBOT = {
    "a gap": ({"frame_index": np.array([0, 1, 2, 4, 5, 6])}, "frame_index goes from 2 to 4: frames are missing"),
    "ragged": ({"observation.state": [[1.0]] * 5 + [[1.0, 2.0]]}, r"observations\[state\] has rows of different lengths"),
    "empty actions": ({"action": pa.nulls(6)}, "actions are missing or empty"),
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
    with Dataset.open(own(tmp_path / "own", CAMERA), append=True) as dataset:
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
    convert(open_source(own(root / "own", CAMERA)), root / "arm-v0", "minari")
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


def test_the_manifest_says_where_it_came_from(tmp_path):
    path = foreign.write_d4rl(tmp_path / "hopper.hdf5", PLAIN)
    convert(open_source(path), tmp_path / "own")
    settings = json.loads((tmp_path / "own/manifest.json").read_text())["settings"]
    assert settings == {"converted_from": str(path), "format": "HDF5, one table of rows"}


def test_the_command_looks_converts_and_checks(tmp_path, monkeypatch, capsys):
    from tests.test_cli import run

    monkeypatch.chdir(tmp_path)
    edit(foreign.write_robomimic(tmp_path / "lift.hdf5", CAMERA), 1, actions=np.full((5, 2), 1.5))
    assert run("data", "info", "lift.hdf5", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out
    for words in ("3 episodes of Lift", "camera [8, 8, 3] frames", "not read: states", "[-1, 1] is assumed"):
        assert words in said
    assert run("data", "verify", "lift.hdf5", monkeypatch=monkeypatch) == 2
    assert "demo_1: actions leave" in " ".join(capsys.readouterr().out.split())
    assert run("data", "convert", "lift.hdf5", "--out", "own", monkeypatch=monkeypatch) == 2
    assert "--skip-bad" in capsys.readouterr().out
    assert not (tmp_path / "own").exists()
    assert run("data", "convert", "lift.hdf5", "--out", "own", "--skip-bad", monkeypatch=monkeypatch) == 0
    assert "2 of 3 episodes, 10 decisions; left out, being bad: 1" in capsys.readouterr().out
    assert run("data", "verify", "own", monkeypatch=monkeypatch) == 0
    (tmp_path / "own/episodes/000001.npz").write_bytes(b"x")
    assert run("data", "verify", "own", monkeypatch=monkeypatch) == 2
    assert "000001.npz is damaged" in " ".join(capsys.readouterr().out.split())


def test_a_field_in_brackets_is_printed_as_it_is(tmp_path, monkeypatch, capsys):
    from tests.test_cli import run

    monkeypatch.chdir(tmp_path)
    edit(
        foreign.write_robomimic(tmp_path / "lift.hdf5", CAMERA),
        1,
        obs__state=np.zeros((5, 4)),
        next_obs__state=np.zeros((5, 4)),
    )
    for options, code in ((("verify", "lift.hdf5"), 2), (("convert", "lift.hdf5", "--out", "own", "--skip-bad"), 0)):
        assert run("data", *options, monkeypatch=monkeypatch) == code
        assert "bad: lift.hdf5: demo_1: observations[state] has shape (6, 4)" in " ".join(capsys.readouterr().out.split())
    assert run("data", "convert", "lift.hdf5", "--out", "strict", monkeypatch=monkeypatch) == 2
    assert "sailplan: lift.hdf5: demo_1: observations[state] has shape" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_model_watches_episodes_without_actions_and_learns_them_from_others(tmp_path):
    import worldmodels
    from tests import tiny

    labelled = tiny.episodes(count=4, length=20)
    convert(open_source(own(tmp_path / "own", labelled), Reading(action_free=True)), tmp_path / "watched")
    seen = Dataset.open(tmp_path / "watched")
    small = {"latent": 8, "hidden": 16, "head": 16, "expander": 16, "noise": "gaussian", "actions": "latent"}
    settings = worldmodels.TrainingSettings(batch=16, length=3)
    watched = worldmodels.train(worldmodels.JEPA(seen.spec, **small), seen, settings, updates=100)
    model = worldmodels.learn_actions(watched, labelled, settings, updates=100)
    assert model.spec == labelled.spec
    assert np.isfinite(
        model.predict(model.start(tiny.observation()), np.ones(1, np.float32), model.draw_noise(1, 1, key=KEY)[0, 0])
    ).all()
    other = dataclasses.replace(labelled, spec=tiny.POSITION)
    with pytest.raises(SpecError, match="the model watched"):
        worldmodels.learn_actions(watched, other, settings)
