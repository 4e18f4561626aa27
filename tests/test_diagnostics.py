"""Diagnostics of a linear world whose every figure is known."""

import dataclasses
import json
from functools import partial
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import worldmodels
from benchmarks.open_loop import open_loop
from tests import tiny
from worldmodels import Episode, Episodes
from worldmodels.diagnostics import (
    action_sensitivity,
    calibration,
    diagnose,
    look,
    open_loop_errors,
    open_loop_score,
    readout_r_squared,
    spread,
    trials,
)
from worldmodels.diagnostics.calibration import covered
from worldmodels.errors import DataError


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["force", "damping", "frozen", "noise", "spec"])
@dataclasses.dataclass(frozen=True)
class Linear:
    """The double integrator of `tiny`, known exactly but for what the settings spoil. Its latent is the state."""

    force: float = 0.2  # of a normalised action: what the world has
    damping: float = 0.95
    frozen: bool = False
    noise: float = 0.0  # standard deviation of the velocity's kick a step
    spec: worldmodels.Spec = tiny.SPEC

    def start(self, observation):
        return jnp.concatenate([observation["position"], observation["velocity"]])

    def observe(self, latent, previous_action, observation):
        return self.start(observation)

    def predict(self, latent, action, noise):
        if self.frozen:
            return latent
        kick = self.noise * noise[0] if noise.shape[0] else 0.0
        velocity = self.damping * latent[1] + self.force * action[0] + kick
        return jnp.stack([latent[0] + 0.1 * velocity, velocity])

    def draw_noise(self, futures, horizon, *, key):
        return jax.random.normal(key, (futures, horizon, 1)) if self.noise else jnp.zeros((1, horizon, 0))

    def features(self, latent):
        return latent

    def readout(self, latent):
        return {"position": latent[:1], "velocity": latent[1:]}


HORIZON = 12
DATA = tiny.episodes(count=8, length=40)
GIVEN = trials(DATA, tiny.SPEC, HORIZON, 64)


def test_trajectories_of_the_demo_by_hand():
    """An exact model follows each episode from its start; one that is frozen errs as repeating the first observation does."""
    figures = open_loop(Linear(), DATA, horizon=HORIZON, starts=20)  # type: ignore[arg-type]
    assert figures["names"] == ["position[0]", "velocity[0]"]
    assert max(max(errors) for errors in figures["error"].values()) < 1e-5
    assert len(figures["examples"]) == 3
    for example, episode in zip(figures["examples"], DATA, strict=False):
        np.testing.assert_allclose(example["time"], 0.1 * np.arange(HORIZON + 1), rtol=1e-6)
        for way in ("real", "predicted"):
            wanted = episode.observations["position"][: HORIZON + 1, 0]
            np.testing.assert_allclose(example[way]["position[0]"], wanted, atol=1e-5)
    frozen = open_loop(Linear(frozen=True), DATA, horizon=HORIZON, starts=20)  # type: ignore[arg-type]
    assert frozen["error"] == frozen["copy_last_error"] == figures["copy_last_error"]
    assert frozen["error"]["position[0]"][-1] > 0.1


def test_windows_are_split_by_episode_however_the_long_ones_are_numbered():
    """Every other episode is too short, so that all numbers are even; half of the episodes are fitted on all the same."""
    short = tiny.episodes(count=6, length=3)
    mixed = Episodes(tiny.SPEC, tuple(one for pair in zip(DATA, short, strict=False) for one in pair))
    with pytest.warns(
        worldmodels.ShortEpisodeWarning, match=r"6 of 12 .* window of 12 decisions and left out: 1, 3, 5"
    ) as said:
        given = trials(mixed, tiny.SPEC, HORIZON, 12)
    assert len(said) == 1
    assert set(given.episodes[given.fit]) == {0, 4, 8}
    assert set(given.episodes[~given.fit]) == {2, 6, 10}
    with pytest.warns(worldmodels.ShortEpisodeWarning, match="1 of 2 .* left out: 0"):
        one = trials(Episodes(tiny.SPEC, (short[0], DATA[0])), tiny.SPEC, HORIZON, 4)
    assert one.fit.tolist() == [True, False, True, False]
    assert (given.apart, one.apart) == (True, False)


def test_an_exact_model_of_a_linear_world():
    errors = open_loop_errors(look(Linear(), GIVEN), tiny.SPEC)
    for name in ("position[0]", "velocity[0]"):
        np.testing.assert_allclose(errors["model"][name], 0, atol=1e-5)
        np.testing.assert_allclose(errors["linear"][name], 0, atol=0.02)  # the world is linear; only the shrinkage is wrong
    position = GIVEN.observations["position"][~GIVEN.fit, :, 0]
    expected = np.sqrt(((position[:, 1:] - position[:, :1]) ** 2).mean(0)) / position.std()
    np.testing.assert_allclose(errors["copy"]["position[0]"], expected, rtol=1e-5)
    assert len(errors["features"]["model"]) == HORIZON
    assert open_loop_score(look(Linear(), GIVEN)) < 1e-5
    for figures in readout_r_squared(look(Linear(), GIVEN), tiny.SPEC).values():
        assert figures["linear"] == pytest.approx(1, abs=1e-3)
        assert figures["readout"] == pytest.approx(1, abs=1e-5)


def test_a_wrong_model_errs_as_computed_by_hand():
    chosen = GIVEN.actions[~GIVEN.fit, :, 0]
    position, velocity = (GIVEN.observations[name][~GIVEN.fit, 0, 0].astype(float) for name in ("position", "velocity"))
    wrong = []
    for step in range(HORIZON):
        velocity = 0.7 * velocity + 0.2 * chosen[:, step]
        position = position + 0.1 * velocity
        wrong.append(position)
    real = GIVEN.observations["position"][~GIVEN.fit, :, 0]
    seen = look(Linear(damping=0.7), GIVEN)
    expected = np.sqrt(((np.stack(wrong, 1) - real[:, 1:]) ** 2).mean(0)) / real.std()
    np.testing.assert_allclose(open_loop_errors(seen, tiny.SPEC)["model"]["position[0]"], expected, rtol=1e-4)
    assert open_loop_score(seen) > open_loop_score(look(Linear(damping=0.9), GIVEN)) > 0.01


def test_a_model_that_never_moves_is_the_copying_baseline_and_heeds_no_action():
    seen = look(Linear(frozen=True), GIVEN)
    errors = open_loop_errors(seen, tiny.SPEC)
    np.testing.assert_allclose(errors["model"]["position[0]"], errors["copy"]["position[0]"], rtol=1e-6)
    heeded = action_sensitivity(Linear(frozen=True), seen)
    assert heeded["components"] == [0.0]
    np.testing.assert_allclose(heeded["shuffled"], 1.0)


def test_actions_move_features_as_far_as_the_force_says():
    heeded = action_sensitivity(Linear(), look(Linear(), GIVEN))
    states = np.concatenate([GIVEN.observations[name] for name in ("position", "velocity")], -1).reshape(-1, 2)
    moved = np.hypot(0.1 * 0.4, 0.4)  # from -1 to 1: the velocity by twice the force, the position by a tenth of that
    assert heeded["components"] == pytest.approx([moved / np.sqrt(states.var(0).sum())], rel=1e-4)
    assert min(heeded["shuffled"]) > 10


def noisy_world(sigma: float) -> Episodes:
    made = []
    for number in range(40):
        random = np.random.default_rng(number)
        position, velocity, seen = random.normal(), random.normal(), []
        actions = random.uniform(-2, 2, (30, 1)).astype(np.float32)
        for force in [*actions[:, 0], 0.0]:
            seen.append((position, velocity))
            velocity = 0.95 * velocity + 0.1 * force + sigma * random.normal()
            position += 0.1 * velocity
        array = np.asarray(seen, np.float32)
        made.append(Episode({"position": array[:, :1], "velocity": array[:, 1:]}, actions, None, False, True, number))
    return Episodes(tiny.SPEC, tuple(made))


def test_noise_of_the_right_size_covers_the_truth_and_half_of_it_does_not():
    given = trials(noisy_world(0.3), tiny.SPEC, 8, 600)
    good, narrow = (calibration(look(Linear(noise=sigma), given, futures=200)) for sigma in (0.3, 0.15))
    for level in ("0.5", "0.8", "0.9"):
        assert np.mean(good["coverage"][level]) == pytest.approx(float(level), abs=0.04)
        inside = 2 * NormalDist().cdf(NormalDist().inv_cdf((1 + float(level)) / 2) / 2) - 1
        assert np.mean(narrow["coverage"][level]) == pytest.approx(inside, abs=0.05)
    assert np.mean(good["spread_over_error"]) == pytest.approx(1.0, abs=0.06)
    assert np.mean(narrow["spread_over_error"]) == pytest.approx(0.5, abs=0.05)
    assert max(good["ranks"]) - min(good["ranks"]) < 0.05
    assert narrow["ranks"][0] + narrow["ranks"][-1] > 0.4  # a U
    assert calibration(look(Linear(), given)) is None


def test_coverage_by_counting():
    drawn = np.linspace(0, 1, 101)[None, :, None, None] * np.ones((4, 1, 1, 1))
    figures = covered(drawn, np.array([0.55, 0.2, 0.93, 2.0]).reshape(4, 1, 1))
    assert figures["coverage"] == {"0.5": [0.25], "0.8": [0.5], "0.9": [0.75]}
    np.testing.assert_allclose(figures["ranks"], [0, 0, 0.25, 0, 0, 0.25, 0, 0, 0, 0.5])


def test_spread_of_known_features():
    random = np.random.default_rng(0)
    independent = random.normal(size=(4000, 6))
    figures = spread(independent * [3, 1, 1, 1, 1, 0.1])
    assert figures["deviations"] == pytest.approx([3, 1, 1, 1, 1, 0.1], rel=0.05)
    assert figures["correlation"] < 0.03
    assert spread(independent)["effective_rank"] == pytest.approx(6, abs=0.05)
    same = np.repeat(independent[:, :1], 5, axis=1)
    assert spread(same)["effective_rank"] == pytest.approx(1, abs=0.01)
    assert spread(same)["correlation"] == pytest.approx(1)
    assert spread(np.ones((10, 4)))["effective_rank"] == 0


def test_windows_are_cut_where_they_lie_and_split_by_episode():
    given = trials(DATA, tiny.SPEC, 5, 20, context=3, seed=1)
    assert (given.horizon, len(given)) == (5, 20)
    assert set(given.episodes) == set(range(8))
    for row, index in enumerate(given.episodes):
        episode = DATA[int(index)].observations["position"]
        place = int(np.flatnonzero(episode[:, 0] == given.observations["position"][row, 0, 0])[0])
        np.testing.assert_array_equal(given.observations["position"][row], episode[place : place + 9])
        np.testing.assert_allclose(given.actions[row], DATA[int(index)].actions[place : place + 8] / 2, atol=1e-6)
    assert not set(given.episodes[given.fit]) & set(given.episodes[~given.fit])
    with pytest.raises(DataError, match="has 40 decisions, this needs 41"):
        trials(DATA, tiny.SPEC, 38, 4, context=3)


@pytest.mark.parametrize("settings", [{}, {"memory": "stack", "history": 3}])
def test_a_learned_model_is_diagnosed_as_json(settings):
    model = worldmodels.JEPA(tiny.SPEC, latent=8, hidden=16, head=16, expander=16, **settings)
    figures = diagnose(model, DATA, horizon=100, windows=16)
    text = json.dumps(figures, allow_nan=False)
    assert json.loads(text)["horizon"] == 40 - model.context
    assert (figures["calibration"], figures["held_out"]) == (None, "episodes")
    assert diagnose(model, Episodes(tiny.SPEC, DATA[:1]), horizon=100, windows=16)["held_out"] == "windows"
    given = trials(DATA, tiny.SPEC, 4, 3, context=model.context)
    seen_by_look = look(model, given).features
    latent, window = None, {name: array[1] for name, array in given.observations.items()}
    for step in range(model.context + 3):
        seen = {name: array[step] for name, array in window.items()}
        latent = model.start(seen) if latent is None else model.observe(latent, given.actions[1, step - 1], seen)
    np.testing.assert_allclose(model.features(latent), seen_by_look[1, 2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{"horizon": 0}, {"windows": 1}, {"futures": 0}, {"seed": -1}])
def test_too_few_to_measure_by_is_said(settings):
    (name,) = settings
    with pytest.raises(DataError, match=f"{name}=.*: expected at least"):
        diagnose(worldmodels.JEPA(tiny.SPEC, latent=8, hidden=16, head=16, expander=16), DATA, **settings)


@pytest.mark.slow
def test_images_alone_and_other_environments():
    model = worldmodels.JEPA(tiny.PICTURES, latent=8, hidden=16, head=16, expander=16)
    figures = diagnose(model, tiny.episodes(tiny.PICTURES, count=2, length=12), horizon=4, windows=8)
    assert figures["readout"] == {}
    assert figures["open_loop_score"] > 0
    assert "model" not in figures["open_loop"]
    with pytest.raises(DataError, match="the model is for"):
        diagnose(model, DATA)
