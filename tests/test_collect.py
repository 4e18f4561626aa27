"""The acting loop: seeds alone decide, budgets are kept, a killed collection goes on, latencies and intervals are right."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mpc.acting import _abreast
from mpc.agent import AgentState
from mpc.collection import collect
from mpc.decision import Decision
from mpc.environment import make
from mpc.errors import CollectionError
from mpc.evaluation import Evaluation, confidence_interval, evaluate, time_decisions
from mpc.mixed import MixedState
from mpc.random_agent import PinkAgent, RandomAgent
from planners import pytree, static
from planners.errors import SettingError
from worldmodels.data.dataset import Dataset
from worldmodels.data.episode import Episodes
from worldmodels.spec import ContinuousAction, DiscreteAction, Spec

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def cartpole():
    return make("CartPole-v1", action_repeat=2)


@pytree
class Pushing:
    """Pushes right while exploring, left otherwise; counts its decisions, and how often it is traced."""

    weight: jax.Array
    traces: list = static()

    def reset(self, observation):
        return jnp.zeros((), jnp.int32)

    def act(self, state, observation, *, elapsed=1.0, explore=False, key):
        self.traces.append(1)
        action = jnp.asarray(explore, jnp.int32)
        return Decision(action, cost=self.weight * observation["observation"].sum() + state), state + 1


class Traces(list):
    """Static under `jit`: equal to itself."""

    def __hash__(self):
        return id(self)

    def __eq__(self, other):
        return self is other


def same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert (a.seed, a.terminated, a.truncated) == (b.seed, b.terminated, b.truncated)
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.costs, b.costs)
        for name in a.observations:
            np.testing.assert_array_equal(a.observations[name], b.observations[name])


@pytest.mark.parametrize("pink", [False, True])
@pytest.mark.parametrize("copies", [2, 5])
def test_episodes_do_not_depend_on_copies(cartpole, copies, pink):
    agent = PinkAgent(cartpole.spec, length=8) if pink else RandomAgent(cartpole.spec)
    alone = collect(cartpole, frames=150, seed=3, agent=agent)
    same(alone, collect(cartpole, frames=150, seed=3, agent=agent, copies=copies))
    assert len({len(episode) for episode in alone}) > 1  # otherwise lockstep would not be tested


def test_a_copy_alone_acts_without_a_batch():
    batched = []

    def act(x):
        batched.append(isinstance(x, jax.core.Tracer))
        return {"sum": x.sum(), "x": x}

    for count in (1, 2):
        given = np.arange(3.0 * count).reshape(count, 3)
        made = _abreast(act, count)(given)
        np.testing.assert_array_equal(made["sum"], given.sum(1))
        np.testing.assert_array_equal(made["x"], given)
    assert batched == [False, True]


def test_frames_are_counted_before_action_repeat_and_the_last_episode_is_cut(cartpole):
    whole = collect(cartpole, episodes=6, seed=3)
    assert all(episode.terminated and not episode.truncated for episode in whole)
    wanted = 2 * (sum(len(episode) for episode in whole[:3]) + 4)
    cut = collect(cartpole, frames=wanted, seed=3, copies=2)
    assert [len(episode) for episode in cut] == [*(len(episode) for episode in whole[:3]), 4]
    assert cut.frames == wanted
    assert [(episode.terminated, episode.truncated) for episode in cut][-2:] == [(True, False), (False, True)]
    np.testing.assert_array_equal(cut[3].actions, whole[3].actions[:4])
    assert [episode.seed for episode in whole] == [3, 4, 5, 6, 7, 8]
    for episode in (*whole, *cut):
        episode.check(cartpole.spec)


@pytest.mark.parametrize("copies", [1, 3])
def test_episodes_are_cut_after_the_longest_and_end_by_themselves_before(cartpole, copies):
    agent = RandomAgent(cartpole.spec)
    whole = list(collect(cartpole, episodes=6, agent=agent))
    longest = int(np.median([len(episode) for episode in whole]))
    cut = list(collect(cartpole, episodes=6, agent=agent, copies=copies, longest=longest))
    assert [len(episode) for episode in cut] == [min(len(episode), longest) for episode in whole]
    assert [episode.terminated for episode in cut] == [len(episode) <= longest for episode in whole]
    assert all(short.truncated for short, full in zip(cut, whole, strict=True) if len(full) > longest)
    with pytest.raises(SettingError, match="longest=0"):
        collect(cartpole, episodes=1, agent=agent, longest=0)


def test_an_episode_that_ends_on_the_budget_is_not_cut(cartpole):
    whole = collect(cartpole, episodes=2, seed=3)
    exact = collect(cartpole, frames=whole.frames, seed=3)
    same(whole, exact)


@pytest.mark.parametrize("copies", [1, 3])
def test_progress_ends_at_what_was_wanted(cartpole, copies):
    seen = []
    collect(cartpole, frames=100, copies=copies, progress=lambda *now: seen.append(now))
    assert seen[-1] == (100, 100)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    pendulum = make("Pendulum-v1", action_repeat=50)
    collect(pendulum, episodes=2, progress=lambda *now: seen.append(now))
    assert seen[-1] == (400, 400)


def test_new_weights_compile_nothing_and_explore_reaches_the_agent(cartpole):
    traces = Traces()
    exploring = collect(cartpole, episodes=3, agent=Pushing(jnp.ones(()), traces), copies=2)
    count = len(traces)
    collect(cartpole, episodes=3, agent=Pushing(jnp.zeros(()), traces), copies=2, seed=9)
    assert len(traces) == count
    calm = collect(cartpole, episodes=1, agent=Pushing(jnp.ones(()), traces), explore=False)
    assert all((episode.actions == 1).all() for episode in exploring)
    assert (calm[0].actions == 0).all()


def test_an_agent_must_be_a_pytree_and_the_amount_given_once(cartpole):
    class Stranger(RandomAgent):
        pass

    with pytest.raises(CollectionError, match="Stranger is no pytree"):
        collect(cartpole, frames=10, agent=Stranger(cartpole.spec))
    for frames, episodes in ((None, None), (10, 1)):
        with pytest.raises(CollectionError, match="one of the two"):
            collect(cartpole, frames=frames, episodes=episodes)
    for frames, copies in ((0, 1), (10, 0)):
        with pytest.raises(SettingError, match="at least 1"):
            collect(cartpole, frames=frames, copies=copies)


def test_a_dataset_goes_on_behind_its_last_seed(cartpole, tmp_path):
    folder = tmp_path / "data"
    collect(cartpole, episodes=2, out=folder, seed=5)
    longer = collect(cartpole, episodes=5, out=folder, copies=2)
    assert isinstance(longer, Dataset)
    same(longer, collect(cartpole, episodes=5, seed=5))
    assert len(collect(cartpole, frames=2, out=folder)) == 5
    assert longer.spec == cartpole.spec
    with pytest.raises(CollectionError, match="another folder"):
        collect(make("Pendulum-v1"), episodes=9, out=folder)
    assert len(collect(cartpole, episodes=6, out=folder)) == 6  # the refusal let go of the folder


def test_a_killed_collection_goes_on_where_it_was(tmp_path):
    folder, pendulum = tmp_path / "data", make("Pendulum-v1", action_repeat=4)
    script = f"""
import time
from mpc.agent import AgentState
from mpc.collection import collect
from mpc.environment import make
pendulum = make("Pendulum-v1", action_repeat=4)
collect(pendulum, frames=1900, out={str(folder)!r}, copies=2, progress=lambda done, total: time.sleep(0.005))
"""
    child = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 120
        while len(list(folder.glob("episodes/*.npz"))) < 3:
            assert child.poll() is None, "the collection ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    kept = Dataset.open(folder)
    assert 2 <= len(kept) < 10
    same(collect(pendulum, frames=1900, out=folder), collect(pendulum, frames=1900))


def test_evaluation_plays_unseen_seeds_without_exploring(cartpole):
    evaluation = evaluate(cartpole, Pushing(jnp.ones(()), Traces()), episodes=4, seed=50)
    np.testing.assert_array_equal(evaluation.seeds, [50, 51, 52, 53])
    assert all((episode.actions == 0).all() for episode in evaluation.episodes)
    frames = [2 * length for length in evaluation.lengths]  # CartPole pays 1 a frame
    assert all(frames[i] - 1 <= evaluation.returns[i] <= frames[i] for i in range(4))
    assert len(evaluation.decision_ms) == 100
    summary = evaluation.summary()
    assert summary["return_mean"] == pytest.approx(evaluation.returns.mean())
    assert 0 < summary["decision_ms_p50"] <= summary["decision_ms_p99"]


@pytree
class EverySecond:
    """Reacts in its first decision, its third, and so on; pushes by its seed, so that episodes differ in length."""

    def reset(self, observation):
        nothing = jnp.zeros((), jnp.int32)
        return MixedState(AgentState((), nothing, (), nothing), jnp.zeros(()), nothing, nothing)

    def act(self, state, observation, *, elapsed=1.0, explore=False, key):
        following = MixedState(state.agent, state.waited, state.reacted + (state.decided + 1) % 2, state.decided + 1)
        return Decision(jax.random.randint(key, (), 0, 2)), following


@pytest.mark.parametrize("copies", [1, 2, None])
def test_evaluation_tells_how_often_reacting_sufficed(cartpole, copies):
    evaluation = evaluate(cartpole, EverySecond(), episodes=4, seed=50, copies=copies)
    assert len(set(evaluation.lengths.tolist())) > 1
    assert evaluation.reacted_share == sum(-(-length // 2) for length in evaluation.lengths) / sum(evaluation.lengths)
    assert evaluation.summary()["reacted_share"] == evaluation.reacted_share
    assert "reacted_share" not in evaluate(cartpole, RandomAgent(cartpole.spec), episodes=1).summary()


def test_latency_counts_the_work_of_a_decision():
    spec = Spec("test", (("x", (2,)),), ContinuousAction((-1.0,), (1.0,)))

    @pytree
    class Sleeping:
        def reset(self, observation):
            return jnp.zeros(())

        def act(self, state, observation, *, elapsed=1.0, explore=False, key):
            def sleep(x):
                time.sleep(0.004)
                return x

            return Decision(jnp.zeros(1)), jax.pure_callback(sleep, state, state)

    milliseconds = time_decisions(Sleeping(), {"x": np.zeros((3, *spec.observation[0][1]), np.float32)}, count=5)
    assert milliseconds.shape == (5,)
    assert (milliseconds >= 4).all()


def test_confidence_interval_against_the_table_of_students_t():
    assert confidence_interval(np.array([1.0, 2.0, 3.0])) == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)
    assert confidence_interval(np.array([5.0, 5.0, 5.0, 5.0])) == 0
    assert confidence_interval(np.array([5.0])) == float("inf")


def test_summary_of_known_returns(cartpole):
    evaluation = Evaluation(Episodes(cartpole.spec, tuple(collect(cartpole, episodes=2))), np.arange(101.0))
    assert evaluation.summary()["decision_ms_p50"] == 50
    assert evaluation.summary()["decision_ms_p99"] == 99
    assert evaluation.summary()["episodes"] == 2


def draws(agent, count):
    def step(state, key):
        decision, state = agent.act(state, {}, key=key)
        return state, decision.action

    return np.asarray(jax.lax.scan(step, agent.reset({}), jax.random.split(jax.random.key(0), count))[1])


@pytest.mark.parametrize("make_agent", [RandomAgent, PinkAgent])
def test_continuous_actions_are_uniform_over_the_box(make_agent):
    spec = Spec("test", (("x", (1,)),), ContinuousAction((-1.0, 2.0), (1.0, 6.0)))
    agent = make_agent(spec)
    # Independent episodes, so that correlation in time does not disturb the quantiles.
    keys = jax.random.split(jax.random.key(0), 4000)
    actions = np.asarray(jax.vmap(lambda key: agent.act(agent.reset({}), {}, key=key)[0].action)(keys))
    np.testing.assert_allclose(np.quantile(actions, [0.1, 0.5, 0.9], axis=0), [[-0.8, 2.4], [0, 4], [0.8, 5.6]], atol=0.12)


def test_pink_actions_resemble_the_last_and_random_ones_do_not():
    spec = Spec("test", (("x", (1,)),), ContinuousAction((-1.0,), (1.0,)))

    def correlation(agent):
        actions = draws(agent, 300)[:, 0]
        return np.corrcoef(actions[1:], actions[:-1])[0, 1]

    assert correlation(PinkAgent(spec, length=64)) > 0.4
    assert abs(correlation(RandomAgent(spec))) < 0.2
    assert abs(correlation(PinkAgent(spec, exponent=0.0))) < 0.2


def test_discrete_actions_cover_all_integers_and_pink_ones_linger():
    spec = Spec("test", (("x", (1,)),), DiscreteAction(3))
    random, pink = draws(RandomAgent(spec), 300), draws(PinkAgent(spec, length=64), 300)
    for actions in (random, pink):
        assert actions.dtype == np.int32
        assert set(actions.tolist()) == {0, 1, 2}
    assert (pink[1:] == pink[:-1]).mean() > (random[1:] == random[:-1]).mean() + 0.1


def test_pink_settings_are_checked():
    spec = Spec("test", (("x", (1,)),), DiscreteAction(3))
    with pytest.raises(SettingError, match="length=0"):
        PinkAgent(spec, length=0)
    with pytest.raises(SettingError, match="exponent=-1"):
        PinkAgent(spec, exponent=-1)
