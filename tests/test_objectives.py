"""What every objective promises, and the terms by hand."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import worldmodels
from tests import tiny
from tests.objective_list import OBJECTIVES
from worldmodels import SpecError, TrainingSettings, VICReg, training
from worldmodels.encoders import Drawing
from worldmodels.encoders.convolution import spread_out
from worldmodels.losses import losses
from worldmodels.objectives import PRESETS, InverseDynamics, Mixture, barlow, infonce, reweighted, sigreg, smoothness
from worldmodels.objectives.objective import relative_error
from worldmodels.recipe import Recipe, collapsed, gaussian_information, sound_alarm

SIZES = {"latent": 8, "hidden": 16, "head": 16, "expander": 16}


@pytest.fixture(params=OBJECTIVES.values(), ids=OBJECTIVES.keys(), scope="module")
def case(request):
    return request.param


@pytest.fixture(scope="module")
def buffer():
    return worldmodels.Buffer.from_episodes(tiny.episodes(), 3)


def settings_of(preset, **others):
    return TrainingSettings(batch=16, length=3, objective=preset.objective, cost_gradient=preset.cost_gradient, **others)


def model_of(preset, spec=tiny.SPEC, sizes=SIZES, seed=0):
    return worldmodels.JEPA(spec, norm=preset.norm, seed=seed, **sizes)


def test_the_list_holds_every_preset():
    assert set(OBJECTIVES) == set(PRESETS)


def test_every_term_is_finite_has_a_weight_and_gradients_reach_what_they_should(case, buffer):
    settings, model = settings_of(case.preset), model_of(case.preset)
    heads = settings.objective.heads(model, nnx.Rngs(1))
    window = buffer.sample(16, 3, key=jax.random.key(0))
    graphs, params, rests = zip(*(nnx.split(part, nnx.Param, ...) for part in (model, heads, model)), strict=True)

    def loss(params):
        model, heads, teacher = (nnx.merge(*part) for part in zip(graphs, params, rests, strict=True))
        terms = losses(model, settings, window, heads=heads, teacher=teacher, key=jax.random.key(1))
        return sum(
            settings.objective.weights[name] * value for name, value in terms.items() if name in settings.objective.weights
        ), terms

    (into, of_heads, of_teacher), terms = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert set(terms) == {*settings.objective.weights, "readout", "cost"}
    assert all(np.isfinite(value) and value.shape == () for value in terms.values())
    size = {part: total(into[part]) for part in into}
    assert size["encoder"] > 0
    assert size["predictor"] > 0
    assert size["readout_head"] == size["cost_head"] == total(of_teacher) == 0
    assert all(total(of_heads[name]) > 0 for name in heads)


def total(tree):
    return float(sum(jnp.abs(leaf).sum() for leaf in jax.tree.leaves(tree)))


def test_the_update_lowers_for_accelerators(case, buffer):
    settings, model = settings_of(case.preset), model_of(case.preset)
    state = training.start(model, settings)
    update = jax.jit(lambda state, buffer, key: training._advance(state, buffer, (1.0, 1.0), key, settings=settings, count=2))
    exported = jax.export.export(update, platforms=["cuda", "tpu"])(state, buffer, jax.random.key(0))
    assert exported.platforms == ("cuda", "tpu")


def test_a_point_becomes_a_patch():
    x = jnp.arange(8.0).reshape(1, 1, 2, 4)
    np.testing.assert_array_equal(spread_out(x, 2)[0, :, :, 0], [[0, 1, 4, 5], [2, 3, 6, 7]])
    assert Drawing(5, (24, 20, 3), rngs=nnx.Rngs(0))(jnp.zeros((2, 7, 5))).shape == (2, 7, 24, 20, 3)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [tiny.PICTURES, tiny.BOTH])
def test_pictures_are_drawn_from_encoded_and_from_predicted_latents(spec):
    settings, reports = settings_of(PRESETS["reconstruction"], learning_rate=3e-3), []
    model = model_of(PRESETS["reconstruction"], spec)
    worldmodels.train(model, tiny.episodes(spec), settings, updates=300, progress=reports.append)
    for term in ("reconstruction", "generation"):
        assert reports[-1].losses[term] < 0.5 * reports[0].losses[term] and reports[-1].losses[term] < 0.5


def test_a_weight_that_is_not_there_is_named(case):
    with pytest.raises(SpecError, match="nonsense"):
        reweighted(case.preset.objective, {"nonsense": 1.0})
    name = next(iter(case.preset.objective.weights))
    assert reweighted(case.preset.objective, {name: 7.0}).weights[name] == 7.0
    with pytest.raises(SpecError, match=f"{name}=-1"):
        reweighted(case.preset.objective, {name: -1.0})


def train(preset, updates, seed=0, **others):
    model = model_of(preset, sizes={"latent": 8, "hidden": 32, "head": 32, "expander": 32}, seed=seed)
    settings = settings_of(preset, **others)
    reports = []
    worldmodels.train(model, tiny.episodes(count=32), settings, updates=updates, seed=seed, progress=reports.append)
    return reports


@pytest.mark.slow
def test_a_collapse_is_noticed_and_the_term_to_raise_is_named():
    objective = VICReg(variance=0.0, covariance=0.0)
    with pytest.warns(worldmodels.CollapseWarning, match=r"by update \d+.*Raise the weight 'variance' \(now 0\)"):
        reports = train(PRESETS["vicreg"]._replace(objective=objective), 800)
    found = Recipe(**{name: jnp.asarray(value) for name, value in reports[-1].recipe.items()})
    assert collapsed(found, "none")
    with pytest.raises(worldmodels.CollapseError, match="variance"):
        sound_alarm(found, objective, "none", 800, "stop")
    with pytest.raises(worldmodels.CollapseError, match="covariance"):
        sound_alarm(found._replace(spread=jnp.ones(())), objective, "none", 800, "stop")
    with pytest.raises(worldmodels.CollapseError, match="no term against it"):
        sound_alarm(found, PRESETS["teacher"].objective, "none", 800, "stop")
    sound_alarm(found, objective, "none", 800, "ignore")
    wide = found._replace(spread=jnp.ones(()))
    assert not collapsed(wide._replace(observed_rank=jnp.ones(())), "none")  # a world of one dimension
    several = wide._replace(effective_rank=jnp.full((), 2.0))  # where many components share what little is left
    assert not collapsed(several, "none") and collapsed(several._replace(spread=jnp.full((), 0.05)), "none")
    assert not collapsed(several._replace(spread=jnp.full((), 0.05)), "simplex")


@pytest.mark.parametrize("case", OBJECTIVES.values())
def test_what_the_alarm_advises_can_be_done(case):
    objective = case.preset.objective
    lost = Recipe(*jnp.zeros(len(Recipe._fields)))
    for found in (lost, lost._replace(spread=jnp.ones(()))):
        with pytest.raises(worldmodels.CollapseError) as told:
            sound_alarm(found, objective, case.preset.norm, 100, "stop")
        named = re.findall("'(.+?)'", str(told.value))
        assert reweighted(objective, dict.fromkeys(named, 0.5))
        assert named or "--objective vicreg" in str(told.value)


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in OBJECTIVES.values() if not isinstance(case.preset.objective, Mixture)])
def test_it_keeps_its_rank_and_without_the_regulariser_the_collapse_is_caught(case):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        last = train(case.preset, 1200)[-1].recipe
    assert last["effective_rank"] > 1.5
    if "prediction" in case.preset.objective.weights:
        assert last["prediction_error"] < 0.5
    if case.without:
        objective = reweighted(case.preset.objective, dict.fromkeys(case.without, 0.0))
        with pytest.warns(worldmodels.CollapseWarning, match="Raise the weight"):
            bare = train(case.preset._replace(objective=objective), 1200)[-1].recipe
        assert bare["information_x"] < 0.5 * last["information_x"]


def test_two_parts_with_one_name_are_refused():
    with pytest.raises(SpecError, match="variance"):
        Mixture((VICReg(), VICReg()))
    with pytest.raises(SpecError, match="Did you mean vicreg"):
        worldmodels.preset("vicrag")
    with pytest.raises(SpecError, match="norm='box'"):
        worldmodels.JEPA(tiny.SPEC, norm="box")
    with pytest.raises(SpecError, match="multiple of 8"):
        worldmodels.JEPA(tiny.SPEC, norm="simplex", latent=12)


@pytest.mark.slow
def test_inverse_dynamics_tells_integers_apart():
    objective = InverseDynamics()
    settings = TrainingSettings(batch=16, length=3, objective=objective)
    model = worldmodels.JEPA(tiny.DISCRETE, **SIZES)
    window = worldmodels.Buffer.from_episodes(tiny.episodes(tiny.DISCRETE), 3).sample(64, 3, key=jax.random.key(0))
    heads = objective.heads(model, nnx.Rngs(0))
    # An untrained head says nothing of three buttons: about ln 3.
    assert 0.5 < float(losses(model, settings, window, heads=heads)["inverse"]) < 3.0
    heads["inverse"].output.kernel[...] *= 0
    np.testing.assert_allclose(losses(model, settings, window, heads=heads)["inverse"], np.log(3), rtol=1e-5)


def test_barlow_terms_by_hand():
    # Columns of mean 0 and variance 1: the first with itself correlates 1, with the second 0.6.
    x = np.array([1.0, 1.0, -1.0, -1.0])
    y = np.array([1.0, -1.0, 1.0, -1.0])
    mixed = 0.6 * x + 0.8 * y
    correlation = barlow.cross_correlation(jnp.stack([x, y], 1), jnp.stack([x, mixed], 1))
    np.testing.assert_allclose(correlation, [[1, 0.6], [0, 0.8]], atol=1e-3)
    np.testing.assert_allclose(barlow.agreement(correlation), (0 + 0.2**2) / 2, atol=1e-3)
    np.testing.assert_allclose(barlow.redundancy(correlation), 0.6**2 / 2, atol=1e-3)


def test_sigreg_by_hand():
    # All samples at 0: φ = 1, so ∫ (1 − e^{−t²/2})² e^{−t²/2} dt = √(2π) (1 − 2/√2 + 1/√3).
    wanted = np.sqrt(2 * np.pi) * (1 - np.sqrt(2) + 1 / np.sqrt(3))
    np.testing.assert_allclose(sigreg.epps_pulley(jnp.zeros((5, 1)))[0], wanted, rtol=1e-3)
    # All at 2: φ = e^{2it}, and |φ − g|² = 1 − 2 g cos 2t + g².
    shifted = np.sqrt(2 * np.pi) * (1 + 1 / np.sqrt(3) - np.sqrt(2) * np.exp(-1))
    np.testing.assert_allclose(sigreg.epps_pulley(jnp.full((5, 1), 2.0))[0], shifted, rtol=1e-2)
    gaussian = jax.random.normal(jax.random.key(0), (4000, 6))
    assert sigreg.sketched(gaussian, jax.random.key(1)) < 2e-3
    assert sigreg.sketched(gaussian * jnp.array([1, 1, 1, 1, 1, 0.0]), jax.random.key(1)) > 4e-3


def test_smoothness_and_straightening_by_hand():
    line = jnp.linspace(0, 1, 6)[None, :, None] * jnp.array([1.0, 2.0])
    np.testing.assert_allclose(smoothness.curvature(line), 0.0, atol=1e-3)
    zigzag = jnp.array([0.0, 1, 0, 1, 0])[None, :, None]
    np.testing.assert_allclose(smoothness.curvature(zigzag), 2.0, atol=1e-3)
    corner = jnp.array([[[0.0, 0], [1, 0], [1, 1]]])
    np.testing.assert_allclose(smoothness.curvature(corner), 1.0, atol=1e-3)
    np.testing.assert_allclose(smoothness.slowness(zigzag), 1.0 / np.var([0, 1, 0, 1, 0]), rtol=1e-4)


def test_infonce_by_hand():
    # Two orthogonal pairs that match: logits 1/τ and 0.
    pair = jnp.array([[3.0, 0.0], [0.0, 5.0]])
    own = np.exp(1 / infonce.TEMPERATURE)
    np.testing.assert_allclose(infonce.contrast(pair, pair), -np.log(own / (own + 1)), atol=1e-5)
    np.testing.assert_allclose(infonce.contrast(jnp.ones((4, 2)), jnp.ones((4, 2))), np.log(4), rtol=1e-5)


def test_what_the_recipe_measures_by_hand():
    square = jnp.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    np.testing.assert_allclose(gaussian_information(square, floor=0.1), np.log(101), rtol=1e-4)
    wide = jnp.pad(square, ((0, 0), (0, 6)))  # more dimensions than samples take the other branch
    np.testing.assert_allclose(gaussian_information(wide, floor=0.1), np.log(101), rtol=1e-4)
    np.testing.assert_allclose(relative_error(square + 0.5, square), 0.25, rtol=1e-4)
    np.testing.assert_allclose(relative_error(1e-2 * (square + 0.5), 1e-2 * square), 0.25, rtol=2e-2)
