"""Windows drawn on the device: contiguous, inside one episode, uniform, and compiled once."""

import dataclasses
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.test_dataset import SPEC, dataset_of, episode_of
from worldmodels.data.dataset import Dataset
from worldmodels.data.episode import Episode, Episodes
from worldmodels.data.stream import Stream
from worldmodels.data.windows import Buffer, ShortEpisodeWarning
from worldmodels.errors import DataError
from worldmodels.spec import DiscreteAction, Spec


def counted(index: int, length: int) -> Episode:
    """Every value says which episode and step it is of: 100 · index + step."""
    steps = 100.0 * index + np.arange(length + 1, dtype=np.float32)
    actions = (steps[:-1, None] - 500) / 500 * 2
    observations = {"position": np.stack([steps, -steps], -1), "speed": steps + 0.5}
    return Episode(observations, actions, -steps[:-1], terminated=index % 2 == 0, truncated=index % 2 == 1, seed=index)


LENGTHS = (7, 3, 12, 4)
EPISODES = Episodes(SPEC, tuple(counted(index, length) for index, length in enumerate(LENGTHS)))


def test_windows_are_contiguous_and_of_one_episode():
    buffer = Buffer.from_episodes(EPISODES, 4)
    window = jax.jit(buffer.sample, static_argnums=(0, 1))(256, 4, key=jax.random.key(0))
    steps = np.asarray(window.observations[..., 0])
    assert window.observations.shape == (256, 5, 3)
    np.testing.assert_array_equal(np.diff(steps, axis=1), 1.0)
    assert (steps[:, 0] // 100 == steps[:, -1] // 100).all()
    assert set(np.unique(steps // 100)) == {0, 2, 3}  # episode 1 is shorter than a window
    np.testing.assert_array_equal(window.observations[..., 1], -steps)
    np.testing.assert_array_equal(window.observations[..., 2], steps + 0.5)
    np.testing.assert_array_equal(window.costs, -steps[:, :-1])
    np.testing.assert_allclose(window.actions[..., 0], (steps[:, :-1] - 500) / 500, rtol=1e-6)
    step, index = steps[:, :-1] % 100, (steps[:, :-1] // 100).astype(int)
    ended = (step == np.asarray(LENGTHS)[index] - 1) & (index % 2 == 0)
    np.testing.assert_array_equal(window.continues, 1.0 - ended)
    assert ended.any()
    assert not ended.all()


def test_episodes_shorter_than_a_window_are_named_once(tmp_path):
    with pytest.warns(ShortEpisodeWarning) as said:
        Buffer.from_episodes(EPISODES, 5)
    assert [str(one.message) for one in said] == [
        "2 of 4 episodes are shorter than a window of 5 decisions and left out: 1, 3."
    ]
    with Dataset.create(tmp_path / "data", SPEC) as dataset:
        for episode in EPISODES:
            dataset.append(episode)
        stream = Stream.open(dataset)
    with pytest.warns(ShortEpisodeWarning, match=str(said[0].message)):
        stream.windows(5)
    many = Episodes(SPEC, (*(counted(index, 2) for index in range(7)), counted(7, 3)))
    with pytest.warns(ShortEpisodeWarning, match="7 of 8 .* left out: 0, 1, 2, 3, 4, …"):
        Buffer.from_episodes(many, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Buffer.from_episodes(EPISODES, 3)
        stream.windows(3)


def test_every_start_is_drawn_equally_often():
    buffer = Buffer.from_episodes(EPISODES, 4)
    expected = {100 * index + start for index, length in enumerate(LENGTHS) for start in range(length - 3)}
    assert int(buffer.count) == len(expected) == 14
    draws = 14_000
    drawn = np.asarray(buffer.sample(draws, 4, key=jax.random.key(1)).observations[:, 0, 0]).astype(int)
    values, counts = np.unique(drawn, return_counts=True)
    assert set(values) == expected
    assert abs(counts - draws / 14).max() < 5 * np.sqrt(draws / 14)  # five standard deviations


def test_observations_lie_as_the_spec_flattens_them():
    episode = episode_of(3, 20)
    buffer = Buffer.from_episodes(Episodes(SPEC, (episode,)), 20)
    window = buffer.sample(1, 20, key=jax.random.key(0))
    np.testing.assert_array_equal(window.observations[0], SPEC.flatten(episode.observations))  # type: ignore[arg-type]
    np.testing.assert_array_equal(window.actions[0], SPEC.action.normalise(episode.actions))


def test_the_same_key_gives_the_same_windows():
    buffer = Buffer.from_episodes(EPISODES, 3)
    one, same = (buffer.sample(8, 3, key=jax.random.key(5)) for _ in range(2))
    chex.assert_trees_all_equal(one, same)
    other = buffer.sample(8, 3, key=jax.random.key(6))
    assert not np.array_equal(one.observations, other.observations)


def test_growing_within_the_capacity_compiles_nothing():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def draw(buffer, key):
        return buffer.sample(16, 3, key=key).observations

    for count in (2, 3, 4):
        draw(Buffer.from_episodes(Episodes(SPEC, EPISODES.episodes[:count]), 3), jax.random.key(count))
    assert Buffer.from_episodes(EPISODES, 3).capacity == 1024
    grown = Episodes(SPEC, tuple(episode_of(seed, 300) for seed in range(4)))
    assert Buffer.from_episodes(grown, 3).capacity == 2048
    assert Buffer.from_episodes(EPISODES, 3, capacity=1204).capacity == 2048


def test_a_shorter_window_from_a_longer_buffer():
    buffer = Buffer.from_episodes(EPISODES, 4)
    assert buffer.sample(2, 1, key=jax.random.key(0)).observations.shape == (2, 2, 3)
    for length in (0, 5):
        with pytest.raises(DataError, match="expected 1 to 4"):
            buffer.sample(2, length, key=jax.random.key(0))


def test_discrete_actions_and_no_costs():
    spec = Spec("test/Grid-v0", (("cell", (2,)),), DiscreteAction(3))
    buffer = Buffer.from_episodes(Episodes(spec, (episode_of(1, 9, spec, costs=False),)), 9)
    window = buffer.sample(1, 9, key=jax.random.key(0))
    assert window.actions.dtype == jnp.int32
    np.testing.assert_array_equal(window.actions[0], episode_of(1, 9, spec).actions)
    np.testing.assert_array_equal(window.costs, 0.0)


def test_from_disk_as_from_memory(tmp_path):
    dataset = Dataset.open(dataset_of(tmp_path / "data"))
    memory = Episodes(SPEC, tuple(episode_of(seed, 5 + seed) for seed in range(3)))
    chex.assert_trees_all_equal(Buffer.from_episodes(dataset, 4), Buffer.from_episodes(memory, 4))


@pytest.mark.parametrize(
    ("episodes", "length", "message"),
    [
        ((), 3, "no episode to train on"),
        ((counted(0, 5), counted(1, 8)), 9, "the longest of 2 episodes has 8 decisions, a window needs 9"),
        ((counted(0, 5),), 0, "expected at least 1"),
        ((episode_of(0), episode_of(1, costs=False)), 2, "episode 1 has no costs"),
        ((episode_of(0), episode_of(1, spec=Spec("other", (("cell", (2,)),), SPEC.action))), 2, "episode 1: observations"),
    ],
)
def test_data_that_give_no_window(episodes, length, message):
    with pytest.raises(DataError, match=message):
        Buffer.from_episodes(Episodes(SPEC, episodes), length)


def test_starts_are_drawn_by_their_weights_and_only_of_the_newest():
    buffer = Buffer.from_episodes(EPISODES, 4)
    weights = jnp.where(jnp.arange(buffer.capacity) == 11, 3.0, 1.0)
    draw = lambda **options: np.asarray(  # noqa: E731
        buffer.sample(14_000, 4, weights=weights, key=jax.random.key(1), **options).observations[:, 0, 0]
    )
    favoured = float(buffer.observations[buffer.starts[11], 0])
    everywhere = draw()
    assert len(np.unique(everywhere)) == 14
    assert abs((everywhere == favoured).mean() - 3 / 16) < 0.02
    newest = draw(newest=0.5)
    assert len(np.unique(newest)) == 7
    assert abs((newest == favoured).mean() - 3 / 9) < 0.02


def test_a_rare_cost_is_drawn_about_as_often_as_the_root_of_its_chance():
    episode = dataclasses.replace(episode_of(0, 400), costs=np.where(np.arange(400) == 200, -1.0, 0.0).astype(np.float32))
    buffer = Buffer.from_episodes(Episodes(SPEC, (episode,)), 1)
    rarity = np.asarray(buffer.rarity(1))[:400]
    assert rarity.min() >= 1.0
    np.testing.assert_allclose(rarity[200], 1 + 399 / np.sqrt(399), rtol=1e-4)
    drawn = buffer.sample(20_000, 1, weights=buffer.rarity(1), key=jax.random.key(2)).costs
    assert abs(float((drawn < 0).mean()) - 0.05) < 0.01
    same = dataclasses.replace(episode, costs=np.full(400, 2.5, np.float32))
    np.testing.assert_array_equal(Buffer.from_episodes(Episodes(SPEC, (same,)), 1).rarity(1)[:400], np.ones(400))


def test_a_cost_that_only_ends_of_episodes_have_is_not_all_that_is_drawn():
    ending = [
        dataclasses.replace(episode_of(seed, 40), costs=np.r_[np.full(39, -2.0), -1.0].astype(np.float32)) for seed in range(5)
    ]
    rarity = np.asarray(Buffer.from_episodes(Episodes(SPEC, tuple(ending)), 3).rarity(3))
    windows = rarity[: 5 * 38].reshape(5, 38)
    assert windows[:, -1].sum() / windows.sum() < 0.3
    assert (windows[:, -1] > 2 * windows[:, 0]).all()
