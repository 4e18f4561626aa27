"""Steps from state to state, learned from a corridor bent so that its ends meet, but for a wall."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
from mpc.costs import TaskCost
from mpc.temporal_distance import DistanceSettings, TemporalDistance, TimeToGoal, learn_distance
from planners import pytree
from planners.errors import SettingError
from worldmodels import ContinuousAction, Episode, Episodes, Spec

SPEC = Spec("tiny/corridor", (("place", (2,)),), ContinuousAction((-1.0,), (1.0,)))


@pytree
class Seen:
    """Its latents are what is observed."""

    @property
    def spec(self):
        return SPEC

    def start(self, observation):
        return jnp.asarray(observation["place"])

    def features(self, latent):
        return latent


PLACES = np.array([[0, 0], [1, 0], [2, 0], [3, 0], [3, 1], [2, 1], [1, 1], [0, 1]], np.float32)  # its ends are neighbours


def walks() -> Episodes:
    """Three steps along the corridor and back, from everywhere: no episode makes the whole way."""
    made = []
    for first in range(len(PLACES) - 3):
        seen = PLACES[[*range(first, first + 4), *range(first + 2, first - 1, -1)]]
        made.append(Episode({"place": seen}, np.zeros((6, 1), np.float32), None, False, True, first))
    return Episodes(SPEC, tuple(made))


@pytest.mark.slow
def test_a_bent_corridor_is_as_long_as_its_steps():
    settings = DistanceSettings(updates=500, batch=64, far=12.0, hidden=32, learning_rate=3e-3)
    critic = learn_distance(Seen(), walks(), settings)
    said = np.asarray(critic(PLACES[:, None], PLACES[None]))
    steps = abs(np.arange(len(PLACES))[:, None] - np.arange(len(PLACES)))
    assert np.abs(said - steps).max() < 1.5  # from one end to the other seven, not one
    goal = TimeToGoal(critic, {"place": jnp.asarray(PLACES[7])})
    assert float(goal.terminal(Seen(), PLACES[0], 0)) == pytest.approx(said[0, 7], abs=1e-4)
    assert isinstance(goal, TaskCost)


def test_it_is_a_quasimetric_whatever_its_weights():
    critic = TemporalDistance(3, hidden=16, components=4, seed=1)
    x, y, z = jax.random.normal(jax.random.key(0), (3, 200, 3))
    assert float(jnp.abs(critic(x, x)).max()) == 0
    assert bool((critic(x, z) <= critic(x, y) + critic(y, z) + 1e-5).all())
    assert float(jnp.abs(critic(x, y) - critic(y, x)).max()) > 0.01


def test_bad_settings_and_no_data_are_refused():
    with pytest.raises(SettingError, match="batch"):
        DistanceSettings(batch=0)
    with pytest.raises(mpc.CostError, match="slack"):
        DistanceSettings(slack=2.0)
    with pytest.raises(mpc.CostError, match="no episode"):
        learn_distance(Seen(), Episodes(SPEC, ()))
