"""Other people's formats: what goes in comes out bit for bit."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from tests import foreign
from tests.test_dataset import assert_same
from worldmodels.data import Dataset
from worldmodels.data.formats import Reading, convert, open_source
from worldmodels.errors import DataError, SpecError

h5py = pytest.importorskip("h5py")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
minari = pytest.importorskip("minari")
pytest.importorskip("av")

KEY = jax.random.key(0)
CAMERA, PLAIN = foreign.CAMERA, foreign.PLAIN


def without_last(episode):
    """What is left where the outcome of the last action is not recorded: the same, as one decision less was never written."""
    return dataclasses.replace(episode, terminated=False, truncated=True)


@pytest.mark.parametrize("costs", [True, False])
def test_minari_and_back_bit_for_bit(tmp_path, costs):
    episodes = tuple(e if costs else dataclasses.replace(e, costs=None) for e in CAMERA)
    folder = foreign.own(tmp_path / "own", dataclasses.replace(CAMERA, episodes=episodes))
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


def test_what_is_not_replaced_stays_as_it_was_written(tmp_path):
    spec = dataclasses.replace(foreign.SPEC, action_repeat=4, units=(("state", "m"), ("camera", "")))
    folder = foreign.own(tmp_path / "own", dataclasses.replace(CAMERA, spec=spec))
    convert(open_source(folder), tmp_path / "arm-v0", "minari")
    for path in (folder, tmp_path / "arm-v0"):
        assert open_source(path).spec == spec
        assert open_source(path, Reading(environment="mine")).spec == dataclasses.replace(spec, environment="mine")
        chosen = open_source(path, Reading(observations=("state",), high=(2.0,), seconds_per_step=0.2)).spec
        assert (chosen.action_repeat, chosen.seconds_per_step, chosen.units) == (4, 0.2, (("state", "m"),))
        assert (chosen.action.low, chosen.action.high) == ((-1.0, -1.0), (2.0, 2.0))


@pytest.mark.parametrize("many", [False, True])
def test_minari_s_action_space_can_be_corrected(tmp_path, many):
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    acted = spaces.MultiDiscrete([2, 3]) if many else spaces.Box(np.array([-5, -5]), np.array([np.inf, 5]), dtype=np.float32)
    made = MinariStorage.new(tmp_path / "data", spaces.Box(-9, 9, (2,), np.float32), acted, data_format="hdf5")
    rows = {"rewards": np.zeros(2), "terminations": np.zeros(2, bool), "truncations": np.array([False, True])}
    actions = np.ones((2, 2), np.int64 if many else np.float32)
    made.update_episodes([EpisodeBuffer(observations=np.zeros((3, 2), np.float32), actions=actions, **rows)])
    with pytest.raises(DataError, match="the action space is MultiDiscrete" if many else r"to \[inf, 5\.0\]: expected finite"):
        open_source(tmp_path)
    assert open_source(tmp_path, Reading(action_free=True)).read("episode 0").actions.shape == (2, 0)
    if not many:
        space = open_source(tmp_path, Reading(high=(3.0,))).spec.action
        assert (space.low, space.high) == ((-5.0, -5.0), (3.0, 3.0))


def test_minari_itself_reads_what_we_write(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    convert(open_source(foreign.own(tmp_path / "own", CAMERA)), tmp_path / "arm-v0", "minari")
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
    again = open_source(foreign.own(tmp_path / "own", CAMERA), Reading(action_free=True))
    for read in (Dataset.open(tmp_path / "watched")[1], again.read(again.names[1])):
        assert read.actions.shape == (5, 0)
        np.testing.assert_array_equal(read.observations["state"], CAMERA[1].observations["state"])
    for options in (("watched",), ("--action-free", "own", "--then", "watched")):
        assert run("train", *options, "--out", "model", monkeypatch=monkeypatch) == 2
        assert "watched: its episodes have no actions" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(DataError, match="Minari needs actions"):
        convert(source, tmp_path / "watched-v0", "minari")


def test_the_manifest_says_where_it_came_from(tmp_path):
    path = foreign.write_d4rl(tmp_path / "hopper.hdf5", PLAIN)
    convert(open_source(path), tmp_path / "own")
    settings = json.loads((tmp_path / "own/manifest.json").read_text())["settings"]
    assert settings == {"converted_from": str(path), "format": "HDF5, one table of rows"}


def test_the_command_looks_converts_and_checks(tmp_path, monkeypatch, capsys):
    from tests.test_cli import run

    monkeypatch.chdir(tmp_path)
    foreign.edit(foreign.write_robomimic(tmp_path / "lift.hdf5", CAMERA), 1, actions=np.full((5, 2), 1.5))
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


def test_rewards_in_some_episodes_only_are_noted(tmp_path, monkeypatch, capsys):
    from tests.test_cli import run

    monkeypatch.chdir(tmp_path)
    foreign.edit(foreign.write_robomimic(tmp_path / "lift.hdf5", CAMERA), 1, rewards=None)
    for options in (("verify", "lift.hdf5"), ("convert", "lift.hdf5", "--out", "own")):
        assert run("data", *options, monkeypatch=monkeypatch) == 0
        assert "only 2 of 3 episodes have rewards" in capsys.readouterr().out


def test_a_field_in_brackets_is_printed_as_it_is(tmp_path, monkeypatch, capsys):
    from tests.test_cli import run

    monkeypatch.chdir(tmp_path)
    foreign.edit(
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
    convert(open_source(foreign.own(tmp_path / "own", labelled), Reading(action_free=True)), tmp_path / "watched")
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


def test_columns_of_one_name_are_refused_and_what_is_no_observation_is_said_so(tmp_path):
    rows = {"observation.x": [1.0, 2.0], "observations.x": [3.0, 4.0], "observation_y": [5.0, 6.0], "action": [0.0, 1.0]}
    pq.write_table(pa.table(rows), tmp_path / "twice.parquet")
    with pytest.raises(DataError, match="more than one column is called x"):
        open_source(tmp_path / "twice.parquet", Reading())
    del rows["observations.x"]
    pq.write_table(pa.table(rows), tmp_path / "once.parquet")
    source = open_source(tmp_path / "once.parquet", Reading())
    assert "observation_y" in source.ignored
    assert source.load(source.names[0]).observations.keys() == {"x"}
