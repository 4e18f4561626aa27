"""Exploration keeps no reward, goes where the ensemble disagrees, and is compared on a grid counted by hand."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
import planners
import worldmodels
from mpc.errors import LearningError
from mpc.exploration import Curiosity, ExplorationSettings, coverage, explore, relative_error
from tests import tiny
from tests.test_learning_runs import breaking
from worldmodels import Episode
from worldmodels.data import Dataset

TINY = ExplorationSettings(
    seed_frames=40,
    episode_frames=150,
    members=2,
    latent=8,
    hidden=16,
    horizon=3,
    samples=32,
    iterations=1,
    training=worldmodels.TrainingSettings(batch=16, length=2),
)


@pytest.mark.slow
def test_a_run_holds_no_reward_and_a_model(tmp_path):
    environment = mpc.make("Pendulum-v1", action_repeat=4)
    shown = []
    model = explore(environment, tmp_path / "run", frames=450, settings=TINY, progress=shown.append)
    memory = Dataset.open(tmp_path / "run/memory")
    assert memory.frames == 452  # whole decisions
    assert [len(episode) for episode in memory] == [38, 38, 37]  # reset after 150 frames, decisions of 4 as they come
    assert all(episode.costs is None for episode in memory)
    assert "cost" not in "".join(np.load(tmp_path / "run/memory/episodes/000000.npz").files)
    assert np.isnan(memory.returns).all()
    inside = [(episode.actions[1:] == episode.actions[:-1]) & (np.abs(episode.actions[1:]) < 1.99) for episode in memory]
    assert not inside[0].any()  # pink noise
    assert any(held.any() for held in inside[1:])  # planned, but now and then held
    saved = worldmodels.load(tmp_path / "run/model")
    assert saved.settings.circles == model.settings.circles == ((0, 1),)  # cosine and sine of the pendulum's angle
    for one, other in zip(jax.tree.leaves(saved), jax.tree.leaves(model), strict=True):
        np.testing.assert_array_equal(one, other)
    lines = [json.loads(line) for line in (tmp_path / "run/progress.jsonl").read_text().splitlines()]
    assert [line["frames"] for line in lines] == [report.frames for report in shown] == [152, 304, 452]
    assert lines[0]["novelty"] is None
    assert lines[1]["novelty"] > 0
    with pytest.raises(mpc.LearningError, match="holds something already"):
        explore(environment, tmp_path / "run", frames=10, settings=TINY)


def test_as_many_updates_are_made_as_are_due(tmp_path, monkeypatch):
    """In whole chunks until the end, what is left over later; after the seed and at the end everything, and then those that close."""
    asked = []

    def advanced(state, episodes, settings, *, updates, **also):
        asked.append((updates, sum(len(episode) for episode in episodes), settings.final_rate))
        return state

    monkeypatch.setattr(worldmodels, "advance", advanced)
    monkeypatch.setattr("mpc.exploration._agent", lambda model, settings: mpc.PinkAgent(model.spec))
    monkeypatch.setattr("mpc.exploration.relative_error", lambda model, episode: 0.0)
    settings = dataclasses.replace(
        TINY, episode_frames=80, updates=1.5, training=dataclasses.replace(TINY.training, final_rate=1.0)
    )
    explore(mpc.make("Pendulum-v1", action_repeat=4), tmp_path / "run", frames=400, settings=settings)
    # an episode is 20 decisions, 30 updates: the seed's, a chunk of two episodes' 60, all that is left at the end, and half an update per decision more
    assert asked == [(30, 20, 1.0), (50, 60, 1.0), (70, 100, 1.0), (50, 100, 0.1)]


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on(tmp_path):
    """With its own episodes and model; of another seed, of another environment and of none it is refused, and nothing changes."""

    class Cut(Exception):
        pass

    def cut(report):
        if report.episode == 2:
            raise Cut

    environment = mpc.make("Pendulum-v1", action_repeat=4)
    with pytest.raises(Cut):
        explore(environment, tmp_path / "run", frames=450, settings=TINY, progress=cut)
    before = Dataset.open(tmp_path / "run/memory")
    model = worldmodels.load(tmp_path / "run/model")
    with pytest.raises(LearningError, match=r"asked for .*'seed': 7"):
        explore(environment, tmp_path / "run", frames=450, settings=TINY, seed=7, resume=True)
    with pytest.raises(LearningError, match="holds no run to go on with"):
        explore(environment, tmp_path / "other", frames=450, settings=TINY, resume=True)
    begun, real = [], worldmodels.start
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worldmodels, "start", lambda model, *given, **also: begun.append(model) or real(model, *given, **also))
        explore(environment, tmp_path / "run", frames=450, settings=TINY, resume=True)
    after = Dataset.open(tmp_path / "run/memory")
    assert [len(episode) for episode in after] == [38, 38, 37] and len(set(after.seeds)) == 3
    for old, new in zip(before, after, strict=False):
        np.testing.assert_array_equal(old.actions, new.actions)
    for kept, gone_on in zip(jax.tree.leaves(model), jax.tree.leaves(begun[0]), strict=True):
        np.testing.assert_array_equal(kept, gone_on)
    lines = (tmp_path / "run/progress.jsonl").read_text().splitlines()
    assert [json.loads(line)["episode"] for line in lines] == [1, 2, 3]


@pytest.mark.slow
def test_rewards_are_not_looked_at(tmp_path, monkeypatch):
    """Rewards seven times as large change nothing; where the ensemble's disagreement is turned round, what is done changes."""

    def explored(name, environment):
        explore(environment, tmp_path / name, frames=450, settings=TINY)
        return np.concatenate([episode.actions for episode in Dataset.open(tmp_path / name / "memory")])

    made = mpc.make("Pendulum-v1", action_repeat=4)
    plain = explored("plain", made)
    real = type(made).step

    def generous(self, action):
        told = real(self, action)
        return told._replace(cost=7 * told.cost)

    with monkeypatch.context() as patch:
        patch.setattr(type(made), "step", generous)
        np.testing.assert_array_equal(explored("generous", mpc.make("Pendulum-v1", action_repeat=4)), plain)
    turned = Curiosity.running
    monkeypatch.setattr(Curiosity, "running", lambda *given, **named: jax.tree.map(jnp.negative, turned(*given, **named)))
    jax.clear_caches()
    assert not np.array_equal(explored("turned", mpc.make("Pendulum-v1", action_repeat=4)), plain)


@pytest.mark.slow
def test_short_episodes_are_learned_from_together_and_those_that_fail_are_left_out(tmp_path, monkeypatch):
    learned = []

    def advance(state, episodes, *arguments, updates, **others):
        learned.append((len(episodes), updates))
        return state

    monkeypatch.setattr(worldmodels, "advance", advance)
    settings = dataclasses.replace(TINY, episode_frames=160, seed_frames=640, updates=2.0, closing=0.0)
    with pytest.warns(UserWarning, match="seed 2000000 is left out"):
        explore(breaking(), tmp_path / "run", frames=1_280, settings=settings, seed=2)
    seeds = Dataset.open(tmp_path / "run/memory").seeds
    assert all(seed % 2 == 1 for seed in seeds) and len(set(seeds)) == len(seeds)
    assert learned == [(4, 2 * 4 * 8), (8, 2 * 4 * 8)]  # as many updates as twice the decisions, a round at least ROUND


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["spec"])
@dataclasses.dataclass(frozen=True)
class Unsure:
    """Members that disagree the more, the higher the action."""

    spec: worldmodels.Spec = tiny.SPEC

    def start(self, observation):
        return jnp.zeros(2)

    def predict(self, latent, action, noise):
        return latent

    def disagreement(self, latent, action):
        return 1 + action[0]


def test_episodes_too_short_to_learn_from_are_told_before_any_is_acted(tmp_path):
    settings = dataclasses.replace(TINY, episode_frames=2)
    with pytest.raises(LearningError, match=r"episode_frames=2.*episodes of 1 decisions.*2 in a row"):
        explore(mpc.make("dm_control/cartpole-balance-v0", action_repeat=2), tmp_path / "run", frames=100, settings=settings)
    assert not (tmp_path / "run").exists()


def test_plans_go_where_members_disagree():
    model = Unsure()
    problem = planners.Problem(model.predict, mpc.costs.OnModel(model, Curiosity()), planners.Box(-jnp.ones(1), jnp.ones(1)))
    planner = planners.CEM(horizon=3, samples=64, elites=8, iterations=8)
    plan, _ = planners.plan(planner, problem, jnp.zeros(2), planner.init(problem), key=jax.random.key(0))
    assert plan.actions.min() > 0.9
    assert plan.cost == pytest.approx(-6, abs=0.3)
    with pytest.raises(mpc.LearningError, match="does not disagree with itself"):
        ExplorationSettings(members=1)
    with pytest.raises(mpc.LearningError, match="closing=-1"):
        ExplorationSettings(closing=-1)
    with pytest.raises(mpc.LearningError, match="batch=160 for 7 members"):
        ExplorationSettings(members=7)


def along(values: list[float]) -> Episode:
    array = np.asarray(values, np.float32)[:, None]
    return Episode({"position": array, "velocity": array}, np.zeros((len(values) - 1, 1), np.float32), None, False, True, 0)


def test_coverage_counts_cells():
    groups = {"far": [along([0, 1, 2, 3, 4])], "still": [along([0, 0, 0]), along([0, 4])]}
    assert coverage(groups, tiny.SPEC, bins=4) == {"far": 4 / 16, "still": 2 / 16}


def test_pictures_alone_have_no_coverage():
    with pytest.raises(LearningError, match="tiny/pictures shows pictures alone"):
        coverage({"seen": tiny.episodes(tiny.PICTURES, count=1, length=2)}, tiny.PICTURES)


def test_what_the_model_knows_is_not_new():
    @dataclasses.dataclass(frozen=True)
    class Settings:
        members: int = 1

    from tests.test_diagnostics import Linear

    class Known(Linear):
        settings = Settings()

    jax.tree_util.register_dataclass(Known, [], ["force", "damping", "frozen", "noise", "spec"])
    episode = tiny.episodes(count=1)[0]
    assert relative_error(Known(), episode) < 1e-5
    assert relative_error(Known(damping=0.5), episode) > 0.05


def test_a_longer_run_serves_where_fewer_frames_are_asked_for(tmp_path, monkeypatch):
    from benchmarks import explore as bench

    episodes, asked = tiny.episodes(count=4), []
    monkeypatch.setattr(bench, "RUNS", tmp_path)
    monkeypatch.setattr(bench, "explored", lambda *run: asked.append(run) or (None, episodes))
    frames = bench.ACTION_REPEAT * len(episodes[0])
    assert len(bench.gathered("reacher", 1, 4 * frames)) == 4 and asked[-1] == ("reacher", 1, 4 * frames)
    for name in (
        f"reacher-1-{9 * frames}",
        f"reacher-1-{8 * frames}",
        f"reacher-1-{5 * frames}.aside",
        f"reacher-2-{6 * frames}",
    ):
        (tmp_path / name).mkdir()
    for wanted, count in ((frames, 1), (2 * frames - 1, 2), (2 * frames + 1, 3)):
        assert len(bench.gathered("reacher", 1, wanted)) == count and asked[-1] == ("reacher", 1, 8 * frames)


@pytest.mark.slow
def test_the_benchmark_compares_at_equal_frames_and_resets(tmp_path, monkeypatch):
    from benchmarks import explore as bench
    from benchmarks import many_tasks
    from tests.test_many_tasks import TINY

    monkeypatch.setattr(bench, "RESULTS", tmp_path / "exploration.jsonl")
    environment = mpc.make("dm_control/cartpole-swingup-v0", action_repeat=2)
    white = bench.noise(environment, mpc.RandomAgent(environment.spec), 600, 1)
    assert [len(episode) for episode in white] == [125, 125, 50]
    monkeypatch.setattr(bench, "explored", lambda *_: (None, white))
    monkeypatch.setattr(bench, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(bench, "EPISODES", 2)
    monkeypatch.setattr(many_tasks, "PLANNER", TINY)
    lines = bench.bench_exploration(["cartpole"], [1], 600, 10)
    assert [line["method"] for line in lines] == ["disagreement", "pink", "random"]
    coverages = {line["method"]: line["coverage"] for line in lines}
    assert coverages["disagreement"] == coverages["random"] < coverages["pink"]  # the same white noise; pink goes further
    new = {line["method"]: line["novelty"] for line in lines}
    assert new["disagreement"] == new["random"] > 0 and new["pink"] != new["random"]
    returns = {line["method"]: line["return_mean"] for line in lines}
    assert returns["disagreement"] == pytest.approx(returns["random"]) and returns["pink"] != returns["random"]
    assert bench.bench_exploration(["cartpole"], [1], 600, 10) == []
