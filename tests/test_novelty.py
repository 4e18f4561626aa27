"""Novelty: what memory seldom holds is new, and is worth something only while costs tell nothing."""

import jax.numpy as jnp
import numpy as np
import pytest

from mpc.learning.novelty import curiosity, novelty
from worldmodels.data.episode import Episode


def test_the_state_that_is_far_from_all_others_is_the_newest():
    states = np.random.default_rng(0).normal(size=(32, 4, 3)).astype(np.float32)
    states[7, 2] = 6.0
    new = np.asarray(novelty(jnp.asarray(states)))
    assert np.unravel_index(new.argmax(), new.shape) == (7, 1)  # of a window's states the first is not counted
    assert abs(new.mean()) < 1e-5 and new.std() == pytest.approx(1, rel=0.01)


def test_where_all_states_are_the_same_none_is_new():
    np.testing.assert_allclose(novelty(jnp.ones((8, 3, 2))), 0, atol=1e-3)


def test_a_states_own_window_does_not_make_it_known():
    states = jnp.concatenate([jnp.zeros((9, 2, 1)), jnp.full((1, 2, 1), 5.0)])  # the last window stays at 5
    assert int(novelty(states)[:, 0].argmax()) == 9


@pytest.mark.parametrize(
    ("costs", "terminated", "wanted"),
    [
        (np.zeros(20), False, 0.1),
        (np.arange(20.0), False, 0.0),
        (np.zeros(20), True, 0.0),
        (np.arange(20.0) % 2 / 10, False, 0.05),
    ],
    ids=["no reward", "rewards that differ", "an episode that ended", "rewards that hardly differ"],
)
def test_curiosity_makes_up_for_what_the_costs_do_not_tell(costs, terminated, wanted):
    states = {"x": np.zeros((len(costs) + 1, 1), np.float32)}
    actions = np.zeros((len(costs), 1), np.float32)
    episode = Episode(states, actions, costs.astype(np.float32), terminated, not terminated, 0)
    assert curiosity([episode], 0.1) == pytest.approx(wanted)
