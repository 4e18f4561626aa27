"""Critics and policies learned in imagination, against a solved linear-quadratic problem."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_are

import mpc
import worldmodels
from mpc.errors import CostError, LearningError, MPCError
from mpc.imagination import ImaginationSettings, imagine
from mpc.rollouts import cheapest_first, continued, costs_to_go, drawn
from planners import SettingError
from tests import tiny
from tests.test_agent import true_model

COST = mpc.combine(
    position=(20.0, mpc.reach("position", 0.0)), velocity=(2.0, mpc.reach("velocity", 0.0)), force=(6.0, mpc.effort())
)


@pytest.mark.slow
def test_the_critic_and_the_policy_solve_the_linear_quadratic_problem():
    """V(s) = s'Ps of the discounted Riccati equation, and its gain, inside the box of forces."""
    discount = 0.9
    a, b = np.array([[1.0, 0.095], [0.0, 0.95]]), np.array([[0.01], [0.1]])
    q, r = np.diag([10.0, 1.0]), np.array([[3.0]])
    p = solve_discrete_are(np.sqrt(discount) * a, np.sqrt(discount) * b, q, r)
    gain = np.linalg.solve(r + discount * b.T @ p @ b, discount * b.T @ p @ a)[0]

    settings = ImaginationSettings(
        updates=2_000, batch=128, length=5, discount=discount, entropy=1e-3, learning_rate=1e-3, hidden=64
    )
    critic, policy = imagine(true_model(), COST, tiny.episodes(count=20), settings)
    states = np.random.default_rng(0).uniform(-0.7, 0.7, (200, 2)).astype(np.float32)
    assert np.abs(states @ gain).max() < 2.0  # no force is held back by the box
    values = np.einsum("ni,ij,nj->n", states, p, states)

    def paid(chosen, draws=1):
        """Discounted, from the states on, by the true equations; the mean over draws of what `chosen` takes of the policy."""
        total, now = 0.0, np.tile(states.astype(np.float64), (draws, 1))
        for step in range(80):  # 0.9⁸⁰ is nothing
            forces = 2.0 * np.asarray(chosen(policy(jnp.asarray(now, jnp.float32)), step))
            total = total + discount**step * (np.einsum("ni,ij,nj->n", now, q, now) + r[0, 0] * forces[:, 0] ** 2)
            now = now @ a.T + forces @ b.T
        return total.reshape(draws, -1).mean(0)

    best = paid(lambda given, step: given.mean)
    assert values.mean() * 0.999 < best.mean() < 1.2 * values.mean()  # nothing beats Riccati, and the policy comes near
    said = critic(jnp.asarray(states), policy(jnp.asarray(states)).mean).mean(0)
    assert np.corrcoef(said, values)[0, 1] > 0.99
    followed = paid(lambda given, step: given.sample(key=jax.random.key(step)) if step else given.mean, draws=64)
    assert np.abs(said - followed).mean() < 0.1 * followed.mean()  # what acting so, and then by the noisy policy, costs


@pytest.mark.slow
def test_it_reports_and_repeats_itself():
    settings = ImaginationSettings(updates=20, batch=8, length=2, hidden=8)
    reports = []
    first = imagine(true_model(), COST, tiny.episodes(count=2), settings, seed=3, progress=reports.append)
    second = imagine(true_model(), COST, tiny.episodes(count=2), settings, seed=3)
    assert [(report.updates, report.total) for report in reports] == [(20, 20)]
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(("max_scale", "share"), [(10.0, 0.5), (0.37, 0.75)])  # far off; in the way, and left again
def test_the_policy_becomes_surer_as_the_weight_of_its_entropy_falls(max_scale, share):
    def scale(final_entropy):
        course = {"entropy": 1.0, "final_entropy": final_entropy, "max_scale": max_scale}
        settings = ImaginationSettings(updates=300, batch=8, length=2, hidden=8, learning_rate=1e-2, **course)
        _, policy = imagine(true_model(), COST, tiny.episodes(count=2), settings)
        return float(policy(jnp.zeros(2)).scale.mean())

    assert scale(1e-4) < share * scale(1.0)


def test_a_bound_on_noise_that_leaves_none_is_refused():
    with pytest.raises(MPCError, match=r"max_scale=0\.0: expected a deviation above 0"):
        mpc.Policy(2, tiny.SPEC, max_scale=0.0)


@pytest.mark.slow
def test_noise_stays_below_its_bound_however_much_entropy_is_worth(tmp_path):
    settings = ImaginationSettings(
        updates=50, batch=8, length=2, hidden=8, learning_rate=0.3, entropy=100.0, final_entropy=1.0, max_scale=0.2
    )
    _, policy = imagine(true_model(), COST, tiny.episodes(count=2), settings)
    scale = policy(jnp.zeros(2)).scale
    assert (scale <= 0.2).all() and (scale > 0.15).all()
    mpc.save_policy(mpc.PolicyAgent(worldmodels.JEPA(tiny.SPEC, latent=2, hidden=8), policy), tmp_path / "policy")
    np.testing.assert_array_equal(mpc.load_policy(tmp_path / "policy").policy(jnp.zeros(2)).scale, scale)


@pytest.mark.slow
def test_discrete_policies_find_the_action_that_costs_nothing():
    model = worldmodels.JEPA(tiny.DISCRETE, latent=4, hidden=8)
    button = mpc.cost(lambda readout, action, step: jnp.where(action == 1, 0.0, 1.0))
    settings = ImaginationSettings(updates=1_500, batch=16, length=4, discount=0.8, hidden=16)
    episodes = tiny.episodes(tiny.DISCRETE, count=3)
    critic, policy = imagine(model, button, episodes, settings)
    features = jax.vmap(model.start)(episodes[0].observations)
    assert (jax.vmap(lambda each: policy(each).mean)(features) == 1).all()
    said = [critic(features, jnp.full(len(features), action)).mean() for action in range(3)]
    np.testing.assert_allclose(said, [1, 0, 1], atol=0.25)  # one wrong press, and right ever after


def test_a_cost_without_a_gradient_is_told():
    settings = ImaginationSettings(updates=30, batch=8, length=2, hidden=8)
    steep = mpc.cost(lambda readout, action, step: jnp.sqrt(0.0 * action[0]))  # finite, its slope is not
    with pytest.raises(CostError, match="cost and its gradient finite"):
        imagine(true_model(), steep, tiny.episodes(count=2), settings)


def test_a_few_futures_that_cost_no_number_do_not_end_imagination():
    (episode,) = tiny.episodes(count=1)
    episode.observations["position"][:] = 0.0
    episode.observations["position"][7] = -3.0  # one start in 41
    root = mpc.cost(lambda readout, action, step: jnp.sqrt(readout["position"][0] + 2.0))
    reports = []
    settings = ImaginationSettings(updates=100, batch=4, length=2, hidden=8)
    learned = imagine(true_model(), root, [episode], settings, progress=reports.append)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(learned))
    assert np.isfinite(reports[-1].loss)
    assert learned[0].discount == settings.discount
    with pytest.raises(CostError, match="cost and its gradient finite"):
        episode.observations["position"][1:] = -3.0
        imagine(true_model(), root, [episode], settings)


def test_costs_beyond_what_a_critic_can_tell_are_refused():
    dear = mpc.cost(lambda readout, action, step: 1e5 + readout["position"][0] ** 2)
    with pytest.raises(CostError, match="Divide the weights"):
        imagine(true_model(), dear, tiny.episodes(count=2), ImaginationSettings(updates=10, batch=8, length=2, hidden=8))


def test_costs_to_go_by_hand():
    """Two steps that cost 1 and 2, with a critic that says 10 and 20 after them, discounted by one half."""
    costs, beyond = jnp.array([[1.0, 2.0]]), jnp.array([[10.0, 20.0]])
    believing = [[1 + 0.5 * 10, 2 + 0.5 * 20]]
    looking = [[1 + 0.5 * (2 + 0.5 * 20), 2 + 0.5 * 20]]
    for trace, expected in ((0.0, believing), (1.0, looking), (0.5, np.mean([believing, looking], axis=0))):
        np.testing.assert_allclose(costs_to_go(costs, beyond, 0.5, trace), expected)


def test_half_of_the_starts_are_drawn_by_their_rank_of_cost():
    latents = jnp.array([[1.0, 0.0], [0.3, 0.0], [-0.8, 0.0], [0.0, 0.0]])
    found = cheapest_first(true_model(), mpc.reach("position", 0.0), latents)
    np.testing.assert_array_equal(found[:, 0], jnp.array([0.0, 0.3, -0.8, 1.0]))

    count = 40_000
    places = np.asarray(drawn(count, 9_999, key=jax.random.key(0))).reshape(-1, 2, 2)
    assert places.min() >= 0 and places.max() < 9_999
    anywhere, ranked = places[:, 0].ravel(), places[:, 1].ravel()
    tenths = [np.mean(anywhere < edge) for edge in (999.9, 4_999.5)]
    np.testing.assert_allclose(tenths, [0.1, 0.5], atol=0.01)
    powers = [np.mean(ranked < edge) for edge in (9, 99, 999)]  # each power of ten of ranks as often as the next
    np.testing.assert_allclose(powers, [0.25, 0.5, 0.75], atol=0.01)


def test_every_second_rollout_mostly_goes_on_where_the_last_one_ended():
    ends, fresh = {"x": jnp.ones((1_000, 2)), "t": jnp.ones(1_000)}, {"x": jnp.zeros((1_000, 2)), "t": jnp.zeros(1_000)}
    ends["t"] = ends["t"].at[1].set(jnp.nan)  # went astray: begins anew, whole
    start = continued(ends, fresh, key=jax.random.key(0))
    assert (start["x"][::2] == 0).all() and (start["t"][::2] == 0).all()
    assert (start["x"][1] == 0).all() and start["t"][1] == 0
    assert (start["x"] == start["t"][:, None]).all()  # each from one state
    assert 0.7 < start["t"][1::2].mean() < 0.8


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"updates": 2.5}, "an integer, at least 1"),
        ({"batch": 0}, "an integer, at least 1"),
        ({"discount": 1.0}, "a number between 0 and 1"),
        ({"discount": "a"}, "a number between 0 and 1"),
        ({"trace": 1.5}, "a number from 0"),
        ({"learning_rate": -1}, "a finite number above 0"),
        ({"learning_rate": math.inf}, "a finite number above 0"),
        ({"final_rate": 2}, "a share of learning_rate"),
        ({"target_rate": 5}, "a share of the critic"),
        ({"entropy": math.nan}, "a finite number of at least 0"),
        ({"final_entropy": 0.0}, "a share of entropy"),
        ({"max_scale": 0.0}, "a finite number of at least 0.01"),
        ({"errors": -0.1}, "a finite number of at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings, expected):
    ((name, value),) = settings.items()
    with pytest.raises((CostError, SettingError), match=re.escape(f"{name}={value!r}: expected {expected}")):
        ImaginationSettings(**settings)


def test_what_cannot_be_imagined_is_refused():
    with pytest.raises(CostError, match="previous_action"):
        imagine(true_model(), mpc.smoothness(), tiny.episodes(count=1))


def test_imagination_without_states_to_start_from_is_refused():
    for none in ([], tiny.episodes(count=0), iter(())):
        with pytest.raises(LearningError, match="episodes: there are none"):
            imagine(true_model(), COST, none)
    with pytest.raises(LearningError, match=r"do not suit the model of tiny/double-integrator.*velocity"):
        imagine(true_model(), COST, tiny.episodes(tiny.POSITION, count=1))
    with pytest.raises(LearningError, match=r"episodes: they do not suit.*NaN"):
        broken = tiny.episodes(count=1)
        broken[0].observations["position"][3] = np.nan
        imagine(true_model(), COST, broken)
