"""The strait that branches: its physics written out, what particles cover, energies, and the benchmark's cells."""

import jax.numpy as jnp
import numpy as np
import pytest

import mpc
import planners
import worldmodels
from benchmarks import futures, results, strait
from benchmarks.model_cells import Budget


@pytest.fixture(scope="module")
def environment():
    return mpc.make(strait.ID)


@pytest.fixture(scope="module")
def recorded(environment):
    return futures.gather(environment, 8, 0)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_the_world_written_out_moves_as_mujoco_does(environment, side):
    world, boat = strait.World(environment.spec), strait.Strait()
    latent = world.start(boat.place(-0.15, 0.1, 0.2))
    for action in np.linspace(-1, 1, 5, dtype=np.float32):
        before, seen = latent, boat.sail([action], side)[0]
        latent = world.predict(latent, jnp.array([action]), jnp.array([side]))
        np.testing.assert_allclose(latent, np.concatenate([seen["position"], seen["drift"]]), atol=1e-5)
        if before[0] < 0 < latent[0]:
            assert world.infer_noise(before, jnp.array([action]), seen) == side
    assert side * latent[1] > 0.3


def test_a_gust_throws_whoever_sails_in_the_middle_onto_a_rock_and_misses_who_keeps_aside():
    for y, hit in ((0.0, True), (0.5, False)):
        for side in (-1.0, 1.0):
            seen = futures.sailed({"position": np.array([-0.05, y]), "drift": np.zeros(1)}, np.zeros((8, 1)), side)
            assert (min(float(strait.distance(moment["position"])) for moment in seen) < strait.SIZE) == hit


class Middle(strait.World):
    """Predicts the mean of the futures."""

    def predict(self, latent, action, noise):
        return super().predict(latent, action, 0.0 * noise)


def test_particles_of_the_world_cover_both_ends_and_those_of_its_mean_neither(environment, recorded):
    crossings = futures.before_the_gust(recorded)
    assert futures.coverage(strait.World(environment.spec), crossings) == {"modes_covered": 1.0, "between": 0.0}
    assert futures.coverage(Middle(environment.spec), crossings) == {"modes_covered": 0.0, "between": 1.0}


class Known(worldmodels.JEPA):
    """A JEPA whose encoder and predictor are the world's."""

    world = strait.World(mpc.make(strait.ID).spec)

    def start(self, observation):
        return self.world.start(observation)

    def predict(self, latent, action, noise):
        return self.world.predict(latent, action, noise @ jnp.array([[-1.0], [1.0]]))


def test_energies_tell_what_happened_from_what_did_not(environment, recorded):
    known = Known(environment.spec, noise="quantised", noise_size=2, latent=3, hidden=4, head=4, expander=4)
    found = futures.energies(known, recorded)
    assert found["energy_true"] < 1e-6 and found["energy_gust"] < 1e-6
    assert found["shuffled_told_apart"] > 0.95 and found["actions_told_apart"] > 0.95


def test_plans_are_ranked_alike_by_the_world_and_by_mujoco(environment, recorded, monkeypatch):
    monkeypatch.setattr(futures, "MOMENTS", 2)
    agent = mpc.PlanningAgent(strait.World(environment.spec), futures.COST, planners.ICEM(futures.HORIZON), futures=64)
    assert futures.plan_ranking(agent, futures.before_the_gust(recorded)) > 0.9


def test_cells_of_the_sweep_are_measured_once_and_the_world_for_one_seed(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    for name in ("measure", "measure_world"):
        monkeypatch.setattr(futures, name, lambda *_: {"return_mean": 1.0})
    lines = futures.bench_futures((0, 1, 2), Budget(seeds=(0, 1)))
    assert [(line["method"], line["seed"]) for line in lines] == [
        ("world", 0),
        ("deterministic", 0),
        ("z", 0),
        ("z, even", 0),
        ("deterministic", 1),
        ("z", 1),
        ("z, even", 1),
    ]
    assert [line["settings"]["condition"] for line in lines[2:4]] == ["2 codes", "2 codes, all as likely"]
    assert futures.bench_futures((0, 1, 2), Budget(seeds=(0, 1))) == []
    assert lines[2]["settings"]["noise_size"] == 2 and "noise" not in lines[1]["settings"]


@pytest.mark.slow
def test_without_its_prior_a_model_means_the_same_and_draws_its_codes_evenly(monkeypatch):
    for name, few in (("EPISODES", 16), ("MOMENTS", 2), ("PLANS", 8), ("FUTURES", 2)):
        monkeypatch.setattr(futures, name, few)
    drawn = []
    monkeypatch.setattr(futures, "coverage", lambda model, crossings: {"prior": drawn.append(model.prior) or 0.0})
    parts = {"latent": 4, "hidden": 8, "head": 8, "expander": 8, "noise": "quantised", "noise_size": 2}
    prior, even = (futures.measure(parts, each, 0, Budget(updates=100, batch=16, episodes=2)) for each in (False, True))
    assert drawn[0] is not None and drawn[1] is None
    same = ("energy_true", "energy_shuffled", "information_z", "effective_rank")
    assert {name: prior[name] for name in same} == {name: even[name] for name in same}
