"""What a model does not know: a latent variable of limited information, and an ensemble; both become futures in planning."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
import planners
import worldmodels
from tests import tiny
from worldmodels import Buffer, Episode, Episodes, SpecError, TrainingSettings
from worldmodels.latent_variables import CANDIDATES, DENSITY, LATENT_VARIABLES, Quantised, Sparse, information, posterior

SMALL = {"latent": 8, "hidden": 32, "head": 32, "expander": 32}
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def model():
    return worldmodels.JEPA(tiny.SPEC, noise="quantised", noise_size=3, members=2, **SMALL)


def test_energy_is_the_least_over_every_code_and_member(model):
    latent, action, later = model.start(tiny.observation()), jnp.array([0.4]), tiny.observation(0.9, 0.3)
    target = model.start(later)
    tried = {}
    for code in range(3):
        for member in range(2):
            noise = jnp.array([*np.eye(3)[code], member], jnp.float32)
            tried[code, member] = float(((model.predict(latent, action, noise) - target) ** 2).mean())
    assert len(set(tried.values())) == 6
    np.testing.assert_allclose(model.energy(latent, action, later), min(tried.values()), rtol=1e-5)
    code, member = min(tried, key=tried.get)
    np.testing.assert_array_equal(model.infer_noise(latent, action, later), [*np.eye(3)[code], member])


def test_disagreement_is_the_variance_of_the_members(model):
    latent, action = model.start(tiny.observation()), jnp.array([0.4])
    apart = [model.predict(latent, action, jnp.array([1.0, 0, 0, member])) for member in (0, 1)]
    wanted = (((apart[0] - apart[1]) / 2) ** 2).mean()
    np.testing.assert_allclose(model.disagreement(latent, action), wanted, rtol=1e-4)
    agreeing = jax.tree.map(lambda x: x, model)
    agreeing.predictor = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), model.predictor)
    assert agreeing.disagreement(latent, action) < 1e-10
    with pytest.raises(SpecError, match="ensemble"):
        worldmodels.JEPA(tiny.SPEC, **SMALL).disagreement(jnp.zeros(8), action)


def test_members_of_a_direct_model_disagree_on_the_encoding_too_which_prediction_does_not_go_on_from():
    model = worldmodels.JEPA(tiny.SPEC, direct=True, members=2, **SMALL)
    latent, action = model.start(tiny.observation()), jnp.array([0.4])
    model.predictor = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), model.predictor)
    apart = jnp.zeros((2, SMALL["latent"])).at[1, model.numbers].set(0.5)
    model.predictor.output.bias[...] += apart
    np.testing.assert_allclose(model.disagreement(latent, action), 0.25**2 / SMALL["latent"], rtol=1e-3)
    one, other = (model.predict(latent, action, jnp.array([float(member)])) for member in (0, 1))
    np.testing.assert_array_equal(one, other)


def test_futures_hold_one_member_each_and_new_codes_in_every_step(model):
    noise = np.asarray(model.draw_noise(40, 6, key=KEY))
    assert noise.shape == (40, 6, 4)
    assert set(noise[..., :3].argmax(-1).ravel()) == {0, 1, 2}
    assert (noise[:, :, 3] == noise[:, :1, 3]).all()
    assert abs(noise[:, 0, 3].mean() - 0.5) < 1e-6
    assert worldmodels.JEPA(tiny.SPEC, **SMALL).draw_noise(40, 6, key=KEY).shape == (1, 6, 0)


def test_noise_of_another_size_is_refused(model):
    with pytest.raises(SpecError, match=r"noise of shape \(0,\): expected \[4\]"):
        model.predict(model.start(tiny.observation()), jnp.zeros(1), jnp.zeros(0))
    with pytest.raises(SpecError, match="noise='white'"):
        worldmodels.JEPA(tiny.SPEC, noise="white")
    ensemble = worldmodels.JEPA(tiny.SPEC, members=3, **SMALL)
    worldmodels.train(
        ensemble, tiny.episodes(), TrainingSettings(batch=16, length=2), updates=1
    )  # 18 windows, 6 for each member


@pytest.mark.parametrize("name", LATENT_VARIABLES)
def test_what_is_drawn_has_the_moments_it_should(name):
    variable = LATENT_VARIABLES[name](2)
    drawn = np.asarray(variable.draw((20_000,), key=KEY))
    assert variable.choices(key=KEY).shape == (2 if isinstance(variable, Quantised) else CANDIDATES, 2)
    if isinstance(variable, Quantised):
        for odds in ((0.5, 0.5), (0.9, 0.1)):
            z = np.asarray(variable.of(drawn, jnp.log(jnp.array(odds))))
            np.testing.assert_array_equal(z.sum(-1), 1)
            np.testing.assert_allclose(z.mean(0), odds, atol=0.02)
        np.testing.assert_array_equal(variable.of(jnp.eye(2), jnp.array([-100.0, 0.0])), np.eye(2))
        return
    np.testing.assert_allclose(drawn.mean(0), 0.0, atol=0.05)
    np.testing.assert_allclose(drawn.var(0), 1.0, atol=0.1)
    if isinstance(variable, Sparse):
        np.testing.assert_allclose((drawn != 0).mean(), DENSITY, atol=0.02)


def test_information_by_hand():
    def nats(energies, odds=None):
        odds = np.full(len(energies), 1 / len(energies)) if odds is None else np.asarray(odds)
        log_prior = jnp.broadcast_to(jnp.log(odds)[:, None], energies.shape)
        return information(posterior(energies, log_prior), log_prior)

    # Of four candidates one fits far better: ln 4. All fit alike: nothing.
    np.testing.assert_allclose(nats(jnp.array([[1.0], [99], [99], [99]])), np.log(4), rtol=1e-4)
    np.testing.assert_allclose(nats(jnp.full((4, 5), 0.3)), 0.0, atol=1e-5)
    # Energies 1 and 1 + ln 3 at temperature 1: posterior 3/4 and 1/4.
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    np.testing.assert_allclose(nats(jnp.array([[1.0], [1 + np.log(3)]])), np.log(2) - entropy, rtol=1e-4)
    # What was known before is no news, and what was held for unlikely is more.
    np.testing.assert_allclose(nats(jnp.full((2, 5), 0.3), (0.9, 0.1)), 0.0, atol=1e-5)
    np.testing.assert_allclose(nats(jnp.array([[99.0], [1.0]]), (0.9, 0.1)), np.log(10), rtol=1e-4)


def branching(calm=False, count=40, length=12):
    """Each step moves by the action, and by half a metre to a side that a coin decides; not in every other episode, four metres away, if `calm`."""
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        away = calm and number % 2
        actions = random.uniform(-2, 2, (length, 1)).astype(np.float32)
        steps = 0.1 * actions[:, 0] + (0.0 if away else 0.5) * random.choice([-1.0, 1.0], length)
        path = np.concatenate([[0.0], np.cumsum(steps)]).astype(np.float32) + np.float32(random.normal() + (4 if away else 0))
        made.append(Episode({"position": path[:, None]}, actions, (path[:-1] ** 2), False, True, number))
    return Episodes(tiny.POSITION, tuple(made))


def branches(settings, updates, calm=False):
    """A model trained on `branching` episodes, and the nats that its z carries."""
    model = worldmodels.JEPA(tiny.POSITION, **SMALL, **settings)
    reports = []
    training = TrainingSettings(batch=64, length=2, learning_rate=3e-3)
    model = worldmodels.train(model, branching(calm), training, updates=updates, progress=reports.append)
    return model, reports[-1].recipe["information_z"]


def moves(model, futures, position=0.0):
    """By how much it says the position changes in a step, in each future."""
    latent = model.start({"position": np.full(1, position, np.float32)})
    noise = model.draw_noise(futures, 1, key=KEY)[:, 0]
    following = jax.vmap(lambda z: model.predict(latent, jnp.zeros(1), z))(noise)
    return np.asarray(model.readout(following)["position"])[:, 0] - position


@pytest.mark.slow
def test_a_deterministic_model_averages_two_branches():
    model, nothing = branches({}, 1000)
    assert abs(moves(model, 1)[0]) < 0.25
    assert nothing == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", LATENT_VARIABLES)
def test_futures_cover_both_branches(kind):
    model, nats = branches({"noise": kind, "noise_size": 2}, 1000)
    several = moves(model, 32)
    telling = 1 - (1 - DENSITY) ** 2 if kind == "sparse" else 1.0  # share of futures in which z is not zero
    assert (several > 0.35).mean() > 0.15 * telling
    assert (several < -0.35).mean() > 0.15 * telling
    assert 0.3 < nats < np.log(2 if kind == "quantised" else CANDIDATES) + 1e-3


@pytest.mark.slow
def test_codes_are_drawn_where_something_is_open():
    model, nats = branches({"noise": "quantised", "noise_size": 4}, 3000, calm=True)
    open_, calm = moves(model, 32), moves(model, 32, 4.0)
    assert (open_ > 0.3).mean() > 0.15 and (open_ < -0.3).mean() > 0.15
    assert calm.std() < 0.25 * open_.std() and 0 < nats < np.log(2)


def test_the_nats_of_z_teach_the_prior_alone(model):
    from flax import nnx

    from worldmodels.losses import losses

    window = Buffer.from_episodes(tiny.episodes(), 3).sample(16, 3, key=KEY)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    settings = TrainingSettings(batch=16, length=3)

    def gradient(name):
        return jax.jit(jax.grad(lambda p: losses(nnx.merge(graph, p, rest), settings, window, key=KEY)[name]))(params)

    reached = {name: any(abs(leaf).max() > 0 for leaf in jax.tree.leaves(part)) for name, part in gradient("prior").items()}
    assert [name for name, moved in reached.items() if moved] == ["prior"]
    assert not any(abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient("prediction")["prior"]))


def test_gradients_reach_every_member_and_what_is_averaged_is_the_same(model):
    from flax import nnx

    from worldmodels.losses import losses

    window = Buffer.from_episodes(tiny.episodes(), 3).sample(16, 3, key=KEY)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    settings = TrainingSettings(batch=16, length=3)
    gradient = jax.jit(jax.grad(lambda p: losses(nnx.merge(graph, p, rest), settings, window, key=KEY)["prediction"]))(params)
    by_member = sum(abs(leaf).reshape(2, -1).sum(-1) for leaf in jax.tree.leaves(gradient["predictor"]))
    assert (np.asarray(by_member) > 0).all()


class Windy:
    """The tiny world's physics with a wind that blows from either side; noise [1] says which."""

    def __new__(cls):
        from tests.test_agent import DoubleIntegrator

        class Model(DoubleIntegrator):
            def draw_noise(self, futures, horizon, *, key):
                side = jnp.where(jax.random.bernoulli(key, 0.5, (futures,)), 1.0, -1.0)
                return jnp.broadcast_to(side[:, None, None], (futures, horizon, 1))

            def predict(self, latent, action, noise):
                still = super().predict(latent, action, noise)
                return still.at[0].add(0.1 * noise[0])

        return Model(tiny.SPEC, latent=2, hidden=4, head=4, expander=4)


def test_the_agent_draws_its_futures_anew_in_every_decision_and_weighs_them_by_its_risk():
    planner = planners.ICEM(horizon=4, samples=16, iterations=1, elites=4, keep=2)
    costs = {}
    for risk in (planners.MEAN, planners.WORST):
        agent = mpc.PlanningAgent(Windy(), mpc.cost(blown), planner, futures=8, risk=risk)
        problem = agent.problem(key=KEY)
        assert problem.noise.shape == (8, 4, 1)
        assert not np.array_equal(problem.noise, agent.problem(key=jax.random.key(3)).noise)
        observation = tiny.observation(0.0, 0.0)
        decision, _ = agent.act(agent.reset(observation), observation, key=KEY)
        costs[risk] = float(decision.cost)
    # In the mean the wind blows either way, in the worst future to the right: 0.1, 0.2 and 0.3 metres after the first step.
    assert costs[planners.WORST] > costs[planners.MEAN] + 0.2


def test_an_agent_plans_in_every_member_of_an_ensemble_unless_it_is_told_otherwise(model):
    planner = planners.ICEM(horizon=3, samples=16, iterations=1, elites=4, keep=2)
    ensemble = worldmodels.JEPA(tiny.SPEC, members=3, **SMALL)
    cost = mpc.cost(lambda readout, action, step: readout["position"][0])
    for each, told, members in ((ensemble, {}, 3), (mpc.RememberingAction(ensemble), {}, 3), (ensemble, {"futures": 1}, 1)):
        noise = mpc.PlanningAgent(each, cost, planner, **told).problem(key=KEY).noise
        assert noise.shape[:2] == (members, 3)
        assert len(set(noise[:, 0, -1].tolist())) == members
    assert mpc.PlanningAgent(Windy(), cost, planner).problem(key=KEY).noise.shape == (1, 3, 1)


def blown(readout, action, step):
    return readout["position"][0]


def test_disagreement_is_a_cost_beside_others(model):
    cost = mpc.combine(task=(1.0, mpc.LearnedCost()), unknown=(2.0, mpc.disagreement()))
    latent, action = model.start(tiny.observation()), jnp.array([0.4])
    terms = cost.running(model, latent, action, jnp.zeros((), jnp.int32))
    np.testing.assert_allclose(terms["unknown"], 2 * model.disagreement(latent, action), rtol=1e-5)
    np.testing.assert_allclose(terms["task"], model.cost(latent, action), rtol=1e-5)


def test_a_model_that_watches_looks_at_no_action():
    watched = worldmodels.JEPA(tiny.SPEC, noise="gaussian", noise_size=2, actions="latent", **SMALL)
    latent, z = watched.start(tiny.observation()), jnp.array([0.3, -1.0])
    np.testing.assert_array_equal(watched.predict(latent, jnp.ones(1), z), watched.predict(latent, -jnp.ones(1), z))
    with pytest.raises(SpecError, match="actions='latent'"):
        worldmodels.learn_actions(worldmodels.JEPA(tiny.SPEC, **SMALL), tiny.episodes())
    with pytest.raises(SpecError, match="noise='none'"):
        worldmodels.JEPA(tiny.SPEC, actions="latent")
    with pytest.raises(SpecError, match="decoder"):
        worldmodels.train(watched, tiny.episodes(), TrainingSettings(batch=16, frozen=("decoder",)))


def error_ahead(model):
    """Mean error of the position predicted open loop five steps ahead, in metres."""
    errors = []
    for episode in tiny.episodes(count=30, length=5, seed=7):
        latent = model.start({name: value[0] for name, value in episode.observations.items()})
        for action in episode.actions:
            latent = model.predict(latent, tiny.SPEC.action.normalise(action), jnp.zeros(0))
        errors.append(abs(model.readout(latent)["position"] - episode.observations["position"][-1]).item())
    return float(np.mean(errors))


@pytest.mark.parametrize("spec", [tiny.SPEC, tiny.DISCRETE])
def test_the_actions_that_led_on_are_inferred_from_a_few_that_are_known(spec):
    model = worldmodels.JEPA(spec, noise="gaussian", actions="latent", **SMALL)
    model.normaliser.scale[...] = jnp.full(2, 0.3)
    seen = tiny.episodes(spec, count=10, seed=3)
    found = worldmodels.infer_actions(model, tiny.episodes(spec, count=8), [replace(e, actions=0 * e.actions) for e in seen])
    said, true = (np.concatenate([episode.actions for episode in each]) for each in (found, seen))
    assert said.shape == true.shape
    if spec is tiny.DISCRETE:
        assert (said == true).mean() > 0.8  # chance: a third
    else:
        assert ((said - true) ** 2).mean() < 0.15 * true.var() and np.abs(said).max() <= 2.0
    for before, after in zip(seen, found, strict=True):
        assert after.costs is before.costs and after.observations is before.observations


@pytest.mark.slow
@pytest.mark.parametrize("paid", ["all", "labelled", "watched"])
def test_what_was_watched_is_learned_from_again_with_the_actions_found_in_it(paid):
    settings, watching = TrainingSettings(batch=64, length=3), tiny.episodes(count=40)
    watched = worldmodels.JEPA(tiny.SPEC, noise="gaussian", noise_size=2, actions="latent", **SMALL)
    watched = worldmodels.train(watched, watching, settings, updates=1500)
    labelled = tiny.episodes(count=1, length=30, seed=5)
    seen = [replace(episode, costs=None) if paid == "labelled" else episode for episode in watching]
    if paid == "watched":
        labelled = replace(labelled, episodes=tuple(replace(episode, costs=None) for episode in labelled))
    few = worldmodels.learn_actions(watched, labelled, settings, updates=1500)
    after = worldmodels.learn_actions(watched, labelled, settings, seen=seen, updates=1500)
    assert error_ahead(after) < 0.8 * error_ahead(few)
    held_out = tiny.episodes(count=4, seed=9)
    costs = np.concatenate([episode.costs for episode in held_out])
    said = [
        float(
            after.cost(
                after.start({name: value[t] for name, value in e.observations.items()}),
                tiny.SPEC.action.normalise(e.actions[t]),
            )
        )
        for e in held_out
        for t in range(len(e))
    ]
    assert np.corrcoef(said, costs)[0, 1] > (0.3 if paid == "labelled" else 0.8)  # or the costs of one episode alone


@pytest.mark.slow
def test_watching_first_leaves_less_to_learn_from_actions():
    settings = TrainingSettings(batch=64, length=3)
    watched = worldmodels.JEPA(tiny.SPEC, noise="gaussian", noise_size=2, actions="latent", **SMALL)
    watched = worldmodels.train(watched, tiny.episodes(count=40), settings, updates=1500)
    labelled = tiny.episodes(count=1, length=30, seed=5)
    alone = worldmodels.train(worldmodels.JEPA(tiny.SPEC, **SMALL), labelled, settings, updates=600)
    after = worldmodels.learn_actions(watched, labelled, settings, updates=600)
    assert error_ahead(after) < 0.8 * error_ahead(alone)
    assert after.noise_size == 0
    for part in ("encoder", "normaliser"):
        for before, now in zip(*(jax.tree.leaves(getattr(m, part)) for m in (watched, after)), strict=True):
            np.testing.assert_array_equal(before, now)


def unsure(count, seed):
    """Mean disagreement of an ensemble that learned from `count` episodes, on states it never saw, over the features' variance there."""
    ensemble = worldmodels.JEPA(tiny.SPEC, members=4, seed=seed, latent=8, hidden=32, head=16, expander=16)
    data, unseen = tiny.episodes(count=count, length=20, seed=seed), tiny.episodes(count=10, length=20, seed=99)
    ensemble = worldmodels.train(ensemble, data, TrainingSettings(batch=64, length=2), updates=800, seed=seed)
    seen = {name: np.concatenate([episode.observations[name][:-1] for episode in unseen]) for name in tiny.SPEC.names}
    actions = tiny.SPEC.action.normalise(np.concatenate([episode.actions for episode in unseen]))
    latents = jax.vmap(ensemble.start)(seen)
    return float(jax.vmap(ensemble.disagreement)(latents, actions).mean() / latents.var(0).mean())


@pytest.mark.slow
def test_disagreement_falls_with_data():
    """At equal updates, 64 episodes leave less of it than 2, at every seed, and in the geometric mean less than a third."""
    ratios = np.array([unsure(2, seed) / unsure(64, seed) for seed in range(5)])
    assert (ratios > 1).all(), ratios
    assert np.exp(np.log(ratios).mean()) > 3, ratios
