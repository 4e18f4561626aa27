"""What the model does not know is charged for in imagination."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
import worldmodels
from mpc.caution import cautious
from mpc.costs import OnModel
from mpc.encountered import encountered
from mpc.imagination import ImaginationSettings, imagine
from mpc.rollouts import rollouts
from tests import tiny
from tests.test_agent import DoubleIntegrator, true_model

FAR = mpc.reach("position", 0.8)


class Unsure(DoubleIntegrator):
    """Knows the world, and says that it does not know what lies to the right."""

    futures = 2

    def disagreement(self, latent, action):
        return jax.nn.sigmoid(40.0 * (latent[0] - 0.3))


def unsure():
    return Unsure(tiny.SPEC, latent=2, hidden=4, head=4, expander=4)


def test_what_is_not_known_costs_the_deviations_of_the_cost_that_are_asked_for():
    model = worldmodels.JEPA(tiny.SPEC, latent=4, hidden=8, members=3)
    latents = encountered(model, tiny.episodes(count=20))
    actions = jax.random.uniform(jax.random.key(7), (len(latents), 1), minval=-1.0)
    plain, careful = FAR, cautious(model, FAR, latents, 2.0, key=jax.random.key(0))

    def paid(cost):
        return jax.vmap(OnModel(model, cost), in_axes=(0, 0, None))(latents, actions, 0)

    extra = paid(careful) - paid(plain)
    assert extra.min() >= 0
    np.testing.assert_allclose(extra.mean(), 2.0 * paid(plain).std(), rtol=0.1)


def test_a_cost_that_is_no_number_here_and_there_is_weighed_by_where_it_is_one():
    latents = encountered(unsure(), tiny.episodes(count=5))
    root = mpc.cost(lambda readout, action, step: jnp.sqrt(readout["position"][0]))
    assert not jnp.isfinite(jax.vmap(OnModel(unsure(), root), in_axes=(0, None, None))(latents, jnp.zeros(1), 0)).all()
    assert 0 < cautious(unsure(), root, latents, 1.0, key=jax.random.key(0)).weights["unknown"] < jnp.inf


def test_nothing_is_added_without_caution_or_without_an_ensemble():
    latents = encountered(true_model(), tiny.episodes(count=2))
    assert cautious(unsure(), FAR, latents, 0.0, key=jax.random.key(0)) is FAR
    assert cautious(true_model(), FAR, latents, 1.0, key=jax.random.key(0)) is FAR


class Signing(DoubleIntegrator):
    """Each member of the ensemble leaves its number in the latent."""

    def predict(self, latent, action, noise):
        return latent.at[1].set(noise[-1])


def test_the_members_of_an_ensemble_take_turns_along_each_rollout():
    model = Signing(tiny.SPEC, latent=2, hidden=4, head=4, expander=4, members=3)
    policy, starts = mpc.Policy(2, tiny.SPEC, hidden=8), jnp.zeros((8, 2))
    features, *_ = rollouts(model, OnModel(model, FAR), policy, starts, 6, jnp.zeros((1, 2)), key=jax.random.key(0))
    signed = np.sort(np.asarray(features)[:, 1:, 1], 1)
    np.testing.assert_array_equal(signed, np.tile([0, 0, 1, 1, 2, 2], (8, 1)))


@pytest.mark.slow
def test_a_careful_policy_stays_where_the_model_knows_what_happens():
    def reached(caution):
        settings = ImaginationSettings(
            updates=500, batch=32, length=8, discount=0.9, learning_rate=3e-3, hidden=16, caution=caution
        )
        _, policy = imagine(unsure(), FAR, tiny.episodes(count=20), settings)
        position, velocity = -0.5, 0.0
        for _ in range(100):
            position, velocity = tiny.step(position, velocity, 2.0 * float(policy(jnp.array([position, velocity])).mean[0]))
        return position

    assert reached(0.0) > 0.7
    assert reached(3.0) < 0.4
