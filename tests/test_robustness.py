"""How policies fare while the model's errors happen to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
from mpc.encountered import encountered
from mpc.imagination import ImaginationSettings, imagine
from mpc.robustness import cost_despite, model_errors
from planners import SettingError
from tests import tiny
from tests.test_agent import DoubleIntegrator, true_model

AWAY = mpc.reach("position", 0.0)
SMALL = {"updates": 20, "batch": 8, "length": 2, "hidden": 8}


class Drifting(DoubleIntegrator):
    """Wrong about the velocity, always by as much."""

    def predict(self, latent, action, noise):
        return super().predict(latent, action, noise) - jnp.array([0.0, 0.1])


class Feedback:
    """A policy on latents [position, velocity]."""

    discrete = False

    def __init__(self, gain):
        self.gain = jnp.asarray(gain)

    def __call__(self, features):
        action = jnp.clip(-(self.gain * features).sum(-1, keepdims=True), -1, 1)
        return mpc.policy.SquashedGaussian(action, jnp.ones(1))


jax.tree_util.register_pytree_node(Feedback, lambda each: ((each.gain,), None), lambda _, leaves: Feedback(*leaves))


@pytest.mark.parametrize(("kind", "expected"), [(DoubleIntegrator, [0.0, 0.0]), (Drifting, [0.0, 0.1])])
def test_errors_are_what_the_data_show_less_what_the_model_said(kind, expected):
    model, episodes = kind(tiny.SPEC, latent=2, hidden=4, head=4, expander=4), tiny.episodes(count=3)
    errors = model_errors(model, episodes, encountered(model, episodes), key=jax.random.key(0))
    np.testing.assert_allclose(errors, np.broadcast_to(expected, errors.shape), atol=1e-5)


def test_who_corrects_errors_fares_better_than_who_only_rests_while_there_are_none():
    model, starts = true_model(), jnp.zeros((10, 2))

    def paid(policy, errors):
        return float(cost_despite(model, AWAY, policy, starts, errors, key=jax.random.key(0)))

    none, some = jnp.zeros((4_000, 2)), 0.1 * jax.random.normal(jax.random.key(1), (4_000, 2))
    resting, correcting = Feedback([0.0, 0.0]), Feedback([1.0, 1.0])
    assert paid(resting, none) == paid(correcting, none) == 0
    assert 10 * paid(correcting, some) < paid(resting, some)


@pytest.mark.slow
def test_of_several_tries_that_is_kept_which_fares_best():
    model, episodes, reports = true_model(), tiny.episodes(count=2), []
    kept = imagine(model, AWAY, episodes, ImaginationSettings(tries=3, **SMALL), progress=reports.append)
    assert [(report.updates, report.total) for report in reports] == [(20, 60), (40, 60), (60, 60)]
    seeds = [0, *np.random.default_rng(0).integers(2**31, size=2).tolist()]
    tried = [imagine(model, AWAY, episodes, ImaginationSettings(tries=1, **SMALL), seed=seed) for seed in seeds]
    latents = encountered(model, episodes)
    none = model_errors(model, episodes, latents, key=jax.random.key(0))  # of a true model
    paid = [float(cost_despite(model, AWAY, policy, latents, none, key=jax.random.key(0))) for _, policy in tried]
    assert min(paid) < 0.99 * max(paid)
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(tried[int(np.argmin(paid))]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_try_is_refused():
    with pytest.raises(SettingError, match="tries"):
        ImaginationSettings(tries=0)
