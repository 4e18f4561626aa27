"""Policies that learn in a model while errors that it made happen to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
from mpc.costs import OnModel
from mpc.encountered import encountered
from mpc.imagination import ImaginationSettings, imagine
from mpc.robustness import usual_errors
from mpc.rollouts import rollouts
from tests import tiny
from tests.test_agent import DoubleIntegrator

AWAY = mpc.reach("position", 0.0)
SIZES = {"latent": 2, "hidden": 4, "head": 4, "expander": 4}


class Drifting(DoubleIntegrator):
    """Says that velocities grow by more than they do."""

    def predict(self, latent, action, noise):
        return super().predict(latent, action, noise) + jnp.array([0.0, 0.1])


class Bouncing(DoubleIntegrator):
    """Right but for a bounce at a position that few come to."""

    def predict(self, latent, action, noise):
        following = super().predict(latent, action, noise)
        return following.at[1].add(jnp.where(latent[0] > 2.0, 100.0, 0.001))


def errors_of(kind, share=1.0):
    model, episodes = kind(tiny.SPEC, **SIZES), tiny.episodes(count=9)
    return usual_errors(model, episodes, encountered(model, episodes), share, key=jax.random.key(0))


@pytest.mark.parametrize(("kind", "expected"), [(DoubleIntegrator, [0.0, 0.0]), (Drifting, [0.0, -0.1])])
def test_errors_are_what_the_data_show_less_what_the_model_said(kind, expected):
    errors = errors_of(kind)
    np.testing.assert_allclose(errors, np.broadcast_to(expected, errors.shape), atol=1e-5)
    np.testing.assert_allclose(errors_of(kind, share=0.5), errors / 2)


def test_unusual_errors_are_held_to_twice_the_median():
    sizes = np.abs(errors_of(Bouncing))[:, 1]
    np.testing.assert_allclose([sizes.min(), sizes.max()], [0.001, 0.002], rtol=1e-2)
    assert (sizes > 0.0015).mean() < 0.5


def test_a_model_that_is_no_number_somewhere_has_no_error_there():
    class Broken(DoubleIntegrator):
        def predict(self, latent, action, noise):
            return super().predict(latent, action, noise) * jnp.where(latent[0] > 1.0, jnp.nan, 1.0)

    assert np.isfinite(errors_of(Broken)).all()


def test_a_rollout_keeps_its_error_to_the_end():
    model, policy = DoubleIntegrator(tiny.SPEC, **SIZES), mpc.Policy(2, tiny.SPEC, hidden=8)
    errors = jnp.array([[0.0, 0.0], [0.0, 0.5]])
    features, actions, *_ = rollouts(model, OnModel(model, AWAY), policy, jnp.zeros((16, 2)), 6, errors, key=jax.random.key(0))
    said = jax.vmap(jax.vmap(lambda latent, action: model.predict(latent, action, jnp.zeros(0))))(features[:, :-1], actions)
    added = np.asarray(features[:, 1:] - said)
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :1], added.shape), atol=1e-6)
    np.testing.assert_allclose(np.unique(added[:, 0, 1].round(5)), [0.0, 0.5])


@pytest.mark.slow
def test_a_policy_does_not_lean_against_a_drift_that_only_the_model_sees():
    frugal = mpc.combine(position=(20.0, AWAY), force=(6.0, mpc.effort()))

    def rests_at(errors, seed):
        settings = ImaginationSettings(
            updates=600, batch=32, length=8, discount=0.9, learning_rate=3e-3, hidden=16, entropy=1e-3, errors=errors
        )
        _, policy = imagine(Drifting(tiny.SPEC, **SIZES), frugal, tiny.episodes(count=20), settings, seed=seed)
        position, velocity = 0.5, 0.0
        for _ in range(200):
            position, velocity = tiny.step(position, velocity, 2.0 * float(policy(jnp.array([position, velocity])).mean[0]))
        return abs(position)

    for seed in range(3):
        assert 2 * rests_at(1.0, seed) < rests_at(0.0, seed)
