"""Plans ranked by a model and by the world: the simulator ranks as itself, a model that never moves ranks nothing."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import mpc
import worldmodels
from mpc.ranking import rank_plans, ranks, spearman
from worldmodels import DataError, Episodes

TASK = "dm_control/cartpole-balance-v0"
SMALL = {"horizon": 4, "candidates": 8, "moments": 2}


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["spec"])
@dataclasses.dataclass(frozen=True)
class Frozen:
    """A model in which nothing happens."""

    spec: worldmodels.Spec

    def start(self, observation):
        return {name: jnp.asarray(observation[name]) for name in self.spec.names}

    def observe(self, latent, previous_action, observation):
        return self.start(observation)

    def predict(self, latent, action, noise):
        return latent

    def draw_noise(self, futures, horizon, *, key):
        return jnp.zeros((1, horizon, 0))

    def readout(self, latent):
        return latent

    def cost(self, latent, action):
        """Dearer the stronger the push."""
        return jnp.abs(action).sum()


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["spec"])
@dataclasses.dataclass(frozen=True)
class Silent(Frozen):
    """One that reads out nothing, like a model of pictures."""

    def readout(self, latent):
        return {}


@pytest.fixture(scope="module")
def episodes():
    return mpc.collect(mpc.make(TASK, action_repeat=4), frames=96, seed=3)


def test_episodes_too_short_to_rank_at_are_named_once(episodes):
    one = episodes[0]
    seen = {name: values[:5] for name, values in one.observations.items()}
    cut = dataclasses.replace(one, observations=seen, actions=one.actions[:4], costs=one.costs[:4])
    upright = mpc.cost(_height)
    with pytest.warns(worldmodels.ShortEpisodeWarning, match="1 of 2 .* window of 5 decisions and left out: 0") as said:
        rank_plans(Frozen(episodes.spec), Episodes(episodes.spec, (cut, one)), cost=upright, **SMALL)
    assert len(said) == 1


def test_spearman_of_known_orders():
    np.testing.assert_array_equal(ranks(np.array([5.0, 1, 5, 9])), [1.5, 0, 1.5, 3])
    assert spearman(np.array([1.0, 5, 2]), np.array([10.0, 90, 30])) == pytest.approx(1)
    assert spearman(np.array([1.0, 5, 2]), np.array([3.0, 1, 2])) == pytest.approx(-1)
    assert spearman(np.ones(4), np.arange(4.0)) == 0.0
    random = np.random.default_rng(0)
    tied, other = random.integers(0, 5, 40).astype(float), random.normal(size=40)
    reference = stats.spearmanr(tied, other)
    assert spearman(tied, other) == pytest.approx(reference.statistic)
    assert spearman(np.where(tied == 3, np.inf, tied), other) == pytest.approx(
        stats.spearmanr(np.where(tied == 3, 99, tied), other).statistic
    )


def test_the_simulator_ranks_as_itself():
    hidden = mpc.make(TASK, action_repeat=4, privileged=True)
    seen = mpc.collect(hidden, frames=96, seed=3)
    found = rank_plans(mpc.simulator(hidden), seen, **SMALL)
    assert found.predicted.shape == (2, 8)
    np.testing.assert_allclose(found.predicted, found.true, rtol=1e-5)
    assert found.mean == pytest.approx(1)
    assert found.best_rank == 0


def test_a_model_that_never_moves_ranks_nothing(episodes):
    upright = mpc.cost(_height)
    found = rank_plans(Frozen(episodes.spec), episodes, cost=upright, **SMALL)
    assert np.ptp(found.predicted, axis=1).max() == 0
    assert (np.ptp(found.true, axis=1) > 0).all()
    assert found.mean == 0


def test_a_model_is_charged_what_a_planner_on_it_would_be(episodes):
    effort = mpc.cost(lambda readout, action, step: abs(action[0]))
    found = rank_plans(Frozen(episodes.spec), episodes, cost=effort, predicted=mpc.LearnedCost(), **SMALL)
    np.testing.assert_allclose(found.predicted, found.true, rtol=1e-5)
    relieved = mpc.cost(lambda readout, action, step: -abs(action[0]))
    found = rank_plans(Frozen(episodes.spec), episodes, cost=relieved, predicted=mpc.LearnedCost(), **SMALL)
    assert found.mean == pytest.approx(-1)


def test_a_model_that_reads_out_too_little_is_charged_what_it_learned_of_costs(episodes):
    effort = mpc.cost(lambda readout, action, step: abs(action[0]) + 0 * readout["position"][0])
    found = rank_plans(Silent(episodes.spec), episodes, cost=effort, **SMALL)
    assert isinstance(found.charged, mpc.LearnedCost) and found.mean == pytest.approx(1)
    assert rank_plans(Frozen(episodes.spec), episodes, cost=effort, **SMALL).charged is effort


def _height(readout, action, step):
    return -readout["position"][1]


def test_what_cannot_be_ranked_is_said(episodes):
    other = [dataclasses.replace(episode, seed=episode.seed + 1) for episode in episodes]
    with pytest.raises(DataError, match=r"seed 4 cannot be played again: observations\[position\]"):
        rank_plans(Frozen(episodes.spec), Episodes(episodes.spec, tuple(other)), **SMALL)
    with pytest.raises(DataError, match="no episode has more than 400 decisions"):
        rank_plans(Frozen(episodes.spec), episodes, horizon=400)
    with pytest.raises(mpc.CostError, match="no cost named"):
        rank_plans(Frozen(dataclasses.replace(episodes.spec, environment="HalfCheetah-v5")), episodes)
    buttons = dataclasses.replace(episodes.spec, action=worldmodels.DiscreteAction(2))
    with pytest.raises(mpc.UnsupportedEnvironmentError, match="continuous"):
        rank_plans(Frozen(buttons), episodes)
