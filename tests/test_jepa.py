"""The JEPA learns, does not collapse with its regulariser, collapses without, and its heads do not shape it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import worldmodels
from tests import tiny
from worldmodels import ContinuousAction, DataError, Episodes, SpecError, TrainingSettings, VICReg, WorldModelError, training
from worldmodels.losses import CORNER, LEAST_CHANGE, change_error, losses
from worldmodels.norms import FLOORS
from worldmodels.objectives import vicreg

SMALL = {"latent": 8, "hidden": 32, "head": 32, "expander": 32}
SETTINGS = TrainingSettings(batch=64, length=4)


def window(length=4, batch=32, seed=0):
    buffer = worldmodels.Buffer.from_episodes(tiny.episodes(), length)
    return buffer.sample(batch, length, key=jax.random.key(seed))


def train(objective=VICReg(), updates=3000, seed=0):  # noqa: B008
    model = worldmodels.JEPA(tiny.SPEC, seed=seed, **SMALL)
    settings = TrainingSettings(batch=64, length=4, objective=objective)
    return worldmodels.train(model, tiny.episodes(count=32), settings, updates=updates, seed=seed)


def rank_of(model):
    flat = np.concatenate([np.asarray(tiny.SPEC.flatten(e.observations)) for e in tiny.episodes(seed=1)])
    return float(worldmodels.effective_rank(model.encode(flat), floor=FLOORS["none"])), float(model.encode(flat).std(0).mean())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.slow
def test_without_the_regulariser_it_collapses_and_with_it_it_does_not(seed):
    rank, spread = rank_of(train(seed=seed))
    collapsed_rank, collapsed_spread = rank_of(train(VICReg(variance=0.0, covariance=0.0), seed=seed))
    assert spread > 10 * collapsed_spread
    assert rank > 2.0
    assert collapsed_rank <= 1.5


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.slow
def test_open_loop_prediction_beats_repeating_the_last_observation(seed):
    model = train(seed=seed)
    held_out = tiny.episodes(count=20, length=10, seed=7)
    errors, copied = [], []
    for episode in held_out:
        latent = model.start({name: value[0] for name, value in episode.observations.items()})
        for action in episode.actions:
            latent = model.predict(latent, tiny.SPEC.action.normalise(action), jnp.zeros((0,)))
        last = {name: value[-1] for name, value in episode.observations.items()}
        errors.append(float(abs(model.readout(latent)["position"] - last["position"]).item()))
        copied.append(float(abs(episode.observations["position"][0] - last["position"]).item()))
    assert np.mean(errors) < 0.5 * np.mean(copied)


def test_the_cost_head_learns_the_recorded_cost():
    model = train(updates=500)
    predicted = [float(model.cost(model.start(tiny.observation(p, 0.0)), jnp.zeros(1))) for p in (0.0, 1.0, 2.0)]
    assert predicted[0] < predicted[1] < predicted[2]


def gradient_of(name, settings=SETTINGS):
    model = worldmodels.JEPA(tiny.SPEC, **SMALL)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    gradient = jax.jit(jax.grad(lambda p: losses(nnx.merge(graph, p, rest), settings, window())[name]))(params)
    return {part: float(sum(jnp.abs(leaf).sum() for leaf in jax.tree.leaves(gradient[part]))) for part in gradient}


@pytest.mark.parametrize(("name", "head"), [("readout", "readout_head"), ("cost", "cost_head")])
def test_heads_send_no_gradient_into_the_model(name, head):
    gradient = gradient_of(name)
    assert gradient.pop(head) > 0
    assert set(gradient.values()) == {0.0}


def test_the_cost_sends_gradients_where_it_is_told_to():
    gradient = gradient_of("cost", TrainingSettings(batch=64, length=4, cost_gradient=1.0))
    assert gradient["encoder"] > 0
    assert gradient["predictor"] > 0


def test_the_prediction_loss_reaches_encoder_and_predictor():
    gradient = gradient_of("prediction")
    assert gradient["encoder"] > 0
    assert gradient["predictor"] > 0
    assert gradient["readout_head"] == gradient["cost_head"] == 0


def test_vicreg_terms_by_hand():
    embedding = jnp.array([[2.0, 0.0], [-2.0, 0.0], [2.0, 0.5], [-2.0, -0.5]])
    deviation = np.sqrt(np.var([0.0, 0.0, 0.5, -0.5]) + 1e-4)
    np.testing.assert_allclose(vicreg.variance(embedding), (0 + (1 - deviation)) / 2, rtol=1e-5)
    # covariance of the two components: Σ x y / 3 = (1 + 1) / 3; squared, twice off the diagonal, over D = 2
    np.testing.assert_allclose(vicreg.covariance(embedding), 2 * (2 / 3) ** 2 / 2, rtol=1e-5)


def test_effective_rank_by_hand():
    line = jnp.outer(jnp.linspace(-1, 1, 50), jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(worldmodels.effective_rank(line), 1.0, atol=1e-3)
    square = jnp.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    np.testing.assert_allclose(worldmodels.effective_rank(square), 2.0, rtol=1e-5)
    np.testing.assert_allclose(worldmodels.effective_rank(0.01 * square), 2.0, rtol=1e-5)
    assert worldmodels.effective_rank(0.01 * square, floor=0.1) == 0.0


def test_training_is_determined_by_its_seed_and_compiles_once():
    first = train(updates=100)
    compiled = training._advance._cache_size()
    second = train(updates=200, seed=0)
    third = train(updates=100)
    assert training._advance._cache_size() == compiled
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(third), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))


def test_training_leaves_the_given_model_as_it_was():
    model = worldmodels.JEPA(tiny.SPEC, **SMALL)
    before = jax.tree.map(np.array, jax.tree.leaves(model))
    worldmodels.train(model, tiny.episodes(), SETTINGS, updates=100)
    assert all(np.array_equal(a, b) for a, b in zip(before, jax.tree.leaves(model), strict=True))


def test_bad_data_is_refused_before_training():
    model = worldmodels.JEPA(tiny.SPEC, **SMALL)
    with pytest.raises(DataError, match="no episode"):
        worldmodels.train(model, Episodes(tiny.SPEC, ()), SETTINGS)
    with pytest.raises(SpecError, match="updates=0: expected at least 1"):
        worldmodels.train(model, tiny.episodes(), SETTINGS, updates=0)
    with pytest.raises(DataError, match="longest"):
        worldmodels.train(model, tiny.episodes(length=3), SETTINGS)
    with pytest.raises(DataError, match="made from the data's own spec"):
        worldmodels.train(model, tiny.episodes(tiny.DISCRETE), SETTINGS)
    poisoned = tiny.episodes()
    poisoned[2].observations["velocity"][5] = np.nan
    with pytest.raises(DataError, match=r"episode 2.*velocity.*step 5"):
        worldmodels.train(model, poisoned, SETTINGS)


@dataclasses.dataclass(frozen=True)
class Poisoned(VICReg):
    """Its gradient is a NaN in about three of ten updates, as their keys decide."""

    def terms(self, views):
        terms = super().terms(views)
        bad = jax.random.uniform(views.key) < 0.3
        return terms | {"prediction": jnp.where(bad, jnp.nan, 1.0) * terms["prediction"]}


def test_updates_that_are_not_finite_are_skipped_counted_and_never_get_in():
    settings, key, chunk = TrainingSettings(batch=16, length=2, objective=Poisoned()), jax.random.key(3), 10
    keys = jax.random.split(jax.random.split(key, 1)[0], chunk)
    expected = sum(float(jax.random.uniform(jax.random.fold_in(one, 1))) < 0.3 for one in keys)
    assert 0 < expected < chunk
    state, reports = worldmodels.start(worldmodels.JEPA(tiny.SPEC, **SMALL), settings), []
    with pytest.warns(worldmodels.SkippedUpdateWarning) as said:
        after = worldmodels.advance(
            state, tiny.episodes(), settings, updates=chunk, key=key, chunk=chunk, progress=reports.append
        )
    (skipped,) = (str(one.message) for one in said if one.category is worldmodels.SkippedUpdateWarning)
    assert skipped.startswith(f"{expected} of the 10 updates before update 10 were skipped")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after.model, after.optimizer)))
    assert np.isfinite(list(reports[0].losses.values())).all()
    assert not np.array_equal(after.model.encoder.layers[0].kernel[...], state.model.encoder.layers[0].kernel[...])

    buffer = worldmodels.Buffer.from_episodes(tiny.episodes(), settings.length, capacity=training.CAPACITY)
    poison = dataclasses.replace(buffer, costs=jnp.full_like(buffer.costs, jnp.nan))
    rate = np.float32(1.0), np.float32(settings.final_rate)
    stuck, _, _, none_made = training._advance(after, poison, rate, key, settings=settings, count=chunk)
    assert int(none_made) == chunk
    for one, other in zip(*(jax.tree.leaves((at.model, at.optimizer)) for at in (after, stuck)), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(WorldModelError, match="10 of the 10 updates before update 20 were skipped"):
        training._warn_of_skipped(int(none_made), chunk, int(stuck.updates))


def test_episodes_without_actions_train_only_what_looks_at_none():
    spec = dataclasses.replace(tiny.SPEC, action=ContinuousAction((), ()))
    watched = [dataclasses.replace(one, actions=np.zeros((len(one), 0), np.float32)) for one in tiny.episodes()]
    episodes = Episodes(spec, tuple(watched))
    with pytest.raises(DataError, match=r"double-integrator have no actions, .* actions='given' needs"):
        worldmodels.train(worldmodels.JEPA(spec, **SMALL), episodes, SETTINGS)
    watching = worldmodels.JEPA(spec, noise="gaussian", actions="latent", **SMALL)
    with pytest.raises(DataError, match="actions='translated' needs"):
        worldmodels.learn_actions(watching, episodes, SETTINGS)
    with pytest.raises(DataError, match="longest"):  # it would watch them, were they longer
        worldmodels.train(watching, episodes, TrainingSettings(length=50))


def test_bad_settings_are_named():
    with pytest.raises(SpecError, match="latent=0"):
        worldmodels.JEPA(tiny.SPEC, latent=0)
    with pytest.raises(SpecError, match="batch=0"):
        TrainingSettings(batch=0)
    with pytest.raises(SpecError, match="learning_rate"):
        TrainingSettings(learning_rate=float("nan"))


def test_the_update_lowers_for_accelerators():
    settings = SETTINGS
    model = worldmodels.JEPA(tiny.SPEC, **SMALL)

    def update(model, window):
        graph, params, rest = nnx.split(model, nnx.Param, ...)
        return jax.grad(lambda p: sum(losses(nnx.merge(graph, p, rest), settings, window).values()))(params)

    for platform in ("cuda", "tpu"):
        assert jax.export.export(jax.jit(update), platforms=[platform])(model, window()).platforms == (platform,)


def test_a_periodic_model_sees_an_angle_the_same_each_turn_beside_its_size():
    plain, periodic = (worldmodels.JEPA(tiny.SPEC, periodic=periodic, **SMALL) for periodic in (False, True))
    angles = jnp.linspace(-3.0, 3.0, 5)[:, None] * jnp.ones(tiny.SPEC.size)
    turned = angles + 2 * jnp.pi
    size = tiny.SPEC.size
    assert periodic._see(angles, {}).shape[-1] == 3 * size
    assert plain._see(angles, {}).shape[-1] == size
    np.testing.assert_allclose(periodic._see(angles, {})[:, size:], periodic._see(turned, {})[:, size:], atol=1e-5)
    np.testing.assert_array_equal(periodic._see(angles, {})[:, :size], plain._see(angles, {}))
    first = worldmodels.JEPA(tiny.SPEC, periodic=(0,), **SMALL)._see(angles, {})
    np.testing.assert_array_equal(
        first, np.concatenate([plain._see(angles, {}), jnp.sin(angles[:, :1]), jnp.cos(angles[:, :1])], 1)
    )
    for wrong in ((size,), (0.5,), ("position",)):
        with pytest.raises(worldmodels.SpecError, match="places in the flattened observation"):
            worldmodels.JEPA(tiny.SPEC, periodic=wrong, **SMALL)


def test_numbers_are_missed_in_units_of_how_much_they_change():
    steps = jnp.arange(4.0)[None, :, None]
    seen = jnp.concatenate([2.0 * steps, 0.02 * steps, 0.0 * steps], -1)  # changes of 2, 0.02, and none
    missed = jnp.array([0.2, 0.002, 0.001])  # a tenth of each change, and of the least that counts
    found = change_error(seen[:, 1:] + missed, seen)
    each = [
        np.sqrt((off / np.hypot(change, LEAST_CHANGE)) ** 2 + CORNER**2) - CORNER
        for off, change in zip(missed, (2, 0.02, 0), strict=True)
    ]
    np.testing.assert_allclose(found, np.mean(each), rtol=1e-4)
    assert float(change_error(seen[:, 1:], seen)) == 0
    far = change_error(seen[:, 1:] + 100.0, seen) / change_error(seen[:, 1:] + 50.0, seen)
    np.testing.assert_allclose(far, 2.0, rtol=1e-3)  # a jump counts once, not squared


def test_a_direct_model_reads_out_what_it_saw_and_is_told_apart_by_what_cannot_be_direct():
    model = worldmodels.JEPA(tiny.SPEC, direct=True, periodic=(0,), **SMALL)
    model.normaliser.fit(np.random.default_rng(0).normal(3.0, 2.0, (50, tiny.SPEC.size)))
    observation = tiny.observation(0.7, -0.4)
    read = model.readout(model.start(observation))
    for name, value in observation.items():
        np.testing.assert_allclose(read[name], value, rtol=1e-5)
    assert model.numbers == tiny.SPEC.size + 2 and model.start(observation).shape == (SMALL["latent"],)
    low, high = (np.asarray(model.normaliser(edge[...])) for edge in (model.normaliser.low, model.normaliser.high))
    far = model.start(observation).at[: model.numbers].set(1e3 * jnp.array([1.0, -1.0, 1.0, -1.0])[: model.numbers])
    held = model.predict(far, jnp.zeros(1), jnp.zeros(0))  # nowhere that the data did not show
    np.testing.assert_allclose(held[: model.numbers], [high[0], low[1], 1.0, -1.0], rtol=1e-5)
    plain = worldmodels.JEPA(tiny.SPEC, direct=True, **SMALL)
    foreseen = plain.predict(plain.start(observation), jnp.zeros(1), jnp.zeros(0))  # as if it had been seen
    np.testing.assert_allclose(foreseen, plain.start(plain.readout(foreseen)), rtol=1e-4, atol=1e-6)
    for wrong in ({"norm": "layer"}, {"memory": "stack"}):
        with pytest.raises(worldmodels.SpecError, match="direct=True with norm="):
            worldmodels.JEPA(tiny.SPEC, direct=True, **SMALL, **wrong)
    with pytest.raises(
        worldmodels.SpecError,
        match=f"latent={tiny.SPEC.size} with direct=True: expected more than the {tiny.SPEC.size} numbers",
    ):
        worldmodels.JEPA(tiny.SPEC, direct=True, **{**SMALL, "latent": tiny.SPEC.size})


def test_cosine_and_sine_of_an_angle_are_found_and_stay_on_the_circle():
    rng = np.random.default_rng(0)
    spec = dataclasses.replace(tiny.SPEC, observation=tuple((name, ()) for name in "abcdef"))

    def episode():
        turn, number = rng.uniform(-3, 3, 21), rng.normal(size=21)
        columns = (np.sin(turn), number, np.zeros(21), np.ones(21), np.cos(turn), -np.cos(turn))
        seen = {name: np.float32(column) for name, column in zip("abcdef", columns, strict=True)}
        return worldmodels.Episode(seen, np.zeros((20, 1), np.float32), None, False, True, seed=0)

    found = worldmodels.circles([episode() for _ in range(3)], spec)
    assert found == ((0, 4),)  # what rests is no angle; a place is taken once
    assert worldmodels.circles([], spec) == ()
    assert worldmodels.circles(tiny.episodes(), tiny.SPEC) == ()

    model = worldmodels.JEPA(tiny.SPEC, direct=True, circles=((0, 1),), **SMALL)
    model.normaliser.fit(rng.normal(0.3, 2.0, (50, tiny.SPEC.size)))
    latent = model.start(tiny.observation(0.6, -0.8))
    for _ in range(10):
        latent = model.predict(latent, jnp.ones(1), jnp.zeros(0))
        assert float(jnp.linalg.norm(tiny.SPEC.flatten(model.readout(latent)))) == pytest.approx(1, abs=1e-5)
    middle = model.start(tiny.observation(0.0, 0.0))
    slope = jax.grad(lambda latent: model.predict(latent, jnp.ones(1), jnp.zeros(0)).sum())(middle)
    assert np.isfinite(slope).all()
    for wrong, said in (
        ({"circles": (0, 1)}, "expected pairs"),
        ({"circles": ((0, 2),)}, "from 0 to 1"),
        ({"circles": ((0, 0),)}, "twice"),
        ({"direct": False}, "direct=True"),
    ):
        with pytest.raises(SpecError, match=said):
            worldmodels.JEPA(tiny.SPEC, **{"direct": True, "circles": ((0, 1),), **SMALL, **wrong})
