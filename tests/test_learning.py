"""The agent that learns: its losses by hand, its critic by a solved process, and a killed run that ends like one that was not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mpc
import planners
import worldmodels
from benchmarks import learn as command
from mpc.critic import BINS, Critic, expected, two_hot
from mpc.learning import LearnerSettings, RunSettings, improve, learn, new_learner
from mpc.learning.learner import surprise
from mpc.learning.losses import imagined_loss, paid_until_the_end
from mpc.learning.run import discount_of
from mpc.learning.storage import load_learned, planning_agent, save_learned
from worldmodels import TrainingSettings
from worldmodels.checkpoint import CheckpointError
from worldmodels.data.episode import Episode, Episodes
from worldmodels.data.windows import Buffer, Window
from worldmodels.spec import ContinuousAction, Spec

TINY = LearnerSettings(latent=8, hidden=16, critic_hidden=16, policy_hidden=16, batch=16)
RUN = RunSettings(seed_frames=60, horizon=2, samples=8, iterations=1, proposals=2, learner=TINY)


def spec_of(size: int) -> Spec:
    return Spec(
        environment="test/line",
        observation=(("x", (size,)),),
        action=ContinuousAction(low=(-1.0,), high=(1.0,)),
        action_repeat=1,
        seconds_per_step=0.1,
        units=(("x", ""),),
    )


def test_a_planner_that_cannot_be_is_refused_before_anything_is_acted(tmp_path):
    made = mpc.make("Pendulum-v1", action_repeat=4)
    with pytest.raises(planners.SettingError, match="spread"):
        learn(made, tmp_path / "run", frames=100, settings=replace(RUN, spread=-1.0))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("cost", [-300.0, -1.0, -1e-3, 0.0, 0.37, 12.5, 20_000.0])
def test_two_hot_stands_for_the_number_it_was_made_of(cost):
    weights = two_hot(jnp.asarray(cost))
    assert weights.shape == (BINS,)
    assert np.count_nonzero(np.asarray(weights)) <= 2
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-4)
    np.testing.assert_allclose(expected(jnp.log(weights + 1e-30)), cost, rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize(("explore", "expected_cost"), [(False, 3.0), (True, 2.0)])
def test_a_plan_is_judged_by_its_worst_critic_and_by_their_mean_while_exploring(explore, expected_cost):
    learner = new_learner(spec_of(1), TINY)
    agent = replace(planning_agent(learner, RUN.planner(spec_of(1)), 0.99, ends=False), critic=lambda *_: jnp.array([1.0, 3.0]))
    latent = learner.model.start({"x": jnp.zeros(1)})
    assert agent.problem(explore=explore).terminal_cost(latent) == expected_cost


def test_targets_are_discounted_sums_that_stop_where_the_episode_ended():
    window = Window(
        observations=jnp.zeros((2, 4, 1)),
        actions=jnp.zeros((2, 3, 1)),
        costs=jnp.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]),
        continues=jnp.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]),
    )
    paid = paid_until_the_end(window, jnp.array([10.0, 10.0]), jnp.float32(0.5))
    np.testing.assert_allclose(paid, [[1 + 1 + 0.75 + 1.25, 2 + 1.5 + 2.5, 3 + 5], [1 + 1 + 0.75, 2 + 1.5, 3.0]])


def test_discount_follows_the_length_of_an_episode():
    assert discount_of(500) == pytest.approx(0.99)
    assert discount_of(25) == 0.95
    assert discount_of(10_000) == 0.995
    assert discount_of(None) == 0.99


@pytest.mark.slow
def test_the_critic_finds_the_cost_to_go_of_a_known_process():
    """x halves at every step whatever is done, and costs x: from x on, Σ γ^t x / 2^t = x / (1 − γ / 2)."""
    spec, discount, rng = spec_of(1), 0.9, np.random.default_rng(0)
    episodes = []
    for _ in range(60):
        states = rng.uniform(1, 4) * 0.5 ** np.arange(9, dtype=np.float32)
        actions = rng.uniform(-1, 1, (8, 1)).astype(np.float32)
        episodes.append(Episode({"x": states[:, None].astype(np.float32)}, actions, states[:8], False, True, 0))
    settings = LearnerSettings(latent=8, hidden=32, critic_hidden=64, policy_hidden=16, batch=128, learning_rate=1e-3)
    learner = new_learner(spec, settings)
    buffer = Buffer.from_episodes(Episodes(spec, tuple(episodes)), settings.length)
    for key in jax.random.split(jax.random.key(0), 8):
        learner, _ = improve(learner, buffer, jnp.float32(discount), key, settings=settings, count=200)
    states = np.array([0.5, 1.0, 2.0, 3.0], np.float32)
    latents = learner.model.encode(states[:, None])
    said = learner.critic(latents, jnp.zeros((4, 1))).mean(0)
    np.testing.assert_allclose(said, states / (1 - discount / 2), rtol=0.15, atol=0.15)


def test_an_imagined_future_costs_what_its_steps_and_the_critic_say_and_its_gradient_agrees_with_finite_differences():
    learner, settings = new_learner(spec_of(1), TINY, seed=4), replace(TINY, imagined=2, entropy=0.0)
    modules, latents = (learner.model, learner.critic, learner.continuation), jax.random.normal(jax.random.key(0), (5, 8))
    graph, params, rest = nnx.split(learner.policy, nnx.Param, ...)
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    @jax.jit
    def loss(flat):
        policy = nnx.merge(graph, unravel(flat), rest)
        return imagined_loss(policy, modules, latents, jnp.float32(2.0), jnp.float32(0.9), settings, jax.random.key(1))

    last_key, key = jax.random.split(jax.random.key(1))
    latent, weight, expected_cost = latents, 1.0, 0.0
    for step_key in jax.random.split(key, 2):
        action = learner.policy(latent).sample(key=step_key)
        expected_cost += weight * learner.model.cost(latent, action)
        weight *= 0.9 * learner.continuation(latent, action)
        latent = learner.model.predict(latent, action, jnp.zeros(0))
    expected_cost += weight * learner.critic(latent, learner.policy(latent).sample(key=last_key)).mean(0)
    value, to_go = loss(flat)
    np.testing.assert_allclose(to_go, expected_cost, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value, to_go.mean() / 2, rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda flat: loss(flat)[0]))(flat)
    along, h = gradient / jnp.linalg.norm(gradient), 1e-2
    slope = (loss(flat + h * along)[0] - loss(flat - h * along)[0]) / (2 * h)
    np.testing.assert_allclose(slope, jnp.linalg.norm(gradient), rtol=2e-2)


@pytest.mark.slow
def test_losses_send_no_gradient_into_the_target_or_the_policy():
    learner = new_learner(spec_of(2), TINY)
    moved, _ = improve(learner, buffer_of(2), jnp.float32(0.9), jax.random.key(0), settings=TINY, count=2)
    before, after = jax.tree.leaves(learner.target), jax.tree.leaves(moved.target)
    most = max(float(jnp.abs(a - b).max()) for a, b in zip(before, after, strict=True))
    least = max(float(jnp.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (learner.critic, moved.critic)), strict=True))
    assert most < 0.2 * least  # the slow copy follows by τ = 2 % an update


@pytest.mark.slow
def test_a_learned_agent_comes_back_bit_for_bit_and_a_changed_one_is_refused(tmp_path):
    learner, _ = improve(
        new_learner(spec_of(2), TINY), buffer_of(2), jnp.float32(0.9), jax.random.key(0), settings=TINY, count=2
    )
    save_learned(learner, TINY, tmp_path / "agent", episodes=3)
    loaded, settings = load_learned(tmp_path / "agent")
    assert settings == TINY
    for a, b in zip(jax.tree.leaves(learner), jax.tree.leaves(loaded), strict=True):
        np.testing.assert_array_equal(a, b)
    weights = next(path for path in (tmp_path / "agent" / "weights").rglob("*") if path.is_file())
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match="changed or only half copied"):
        load_learned(tmp_path / "agent")


def buffer_of(size: int) -> Buffer:
    rng = np.random.default_rng(0)
    episode = Episode(
        {"x": rng.normal(size=(41, size)).astype(np.float32)},
        rng.uniform(-1, 1, (40, 1)).astype(np.float32),
        rng.uniform(0, 1, 40).astype(np.float32),
        False,
        True,
        0,
    )
    return Buffer.from_episodes(Episodes(spec_of(size), (episode,)), TINY.length)


def test_a_critic_needs_a_policy():
    with pytest.raises(mpc.MPCError, match="policy"):
        mpc.PlanningAgent(None, None, planners.CEM(horizon=2), critic=Critic(2, spec_of(2)))


@pytest.mark.slow
def test_what_no_model_has_met_surprises_and_what_it_has_does_not():
    rng = np.random.default_rng(0)

    def walk(push):
        x, states, actions = np.zeros(2), [], rng.uniform(-1, 1, (200, 1)).astype(np.float32)
        for action in [*actions, np.zeros(1)]:
            states.append(x)
            x = 0.9 * x + push * action
        return Episode({"x": np.stack(states).astype(np.float32)}, actions, np.zeros(200, np.float32), False, True, 0)

    same, heavier = [walk(1.0) for _ in range(9)], walk(-0.3)
    settings = TrainingSettings(batch=64, length=TINY.length)
    model = worldmodels.JEPA(spec_of(2), latent=TINY.latent, hidden=16, head=16, expander=16)
    model = worldmodels.train(model, Episodes(spec_of(2), tuple(same)), settings, updates=400)
    for last, low, high in ((walk(1.0), 0.5, 1.5), (heavier, 2.0, 10.0)):
        buffer = Buffer.from_episodes(Episodes(spec_of(2), (*same, last)), TINY.length)
        found = float(surprise(model, buffer, jnp.float32(0.1), jax.random.key(0), length=TINY.length))
        assert low < found < high


@pytest.mark.slow
def test_what_goes_as_predicted_is_learned_from_less(tmp_path):
    made = mpc.make("Pendulum-v1")
    updates = {}
    for share in (1.0, 0.0):
        run = learn(made, tmp_path / f"{share}", frames=1200, settings=replace(RUN, unsurprised=share))
        updates[share] = int(run.learner.updates)
    assert 400 <= updates[0.0] < updates[1.0]
    with pytest.raises(mpc.MPCError, match="unsurprised"):
        RunSettings(unsurprised=1.5)


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["Pendulum-v1", "CartPole-v1"])
def test_learning_runs_on_boxes_and_on_integers_and_what_it_wrote_acts(environment, tmp_path):
    made = mpc.make(environment)
    run = learn(made, tmp_path / "run", frames=260, settings=RUN)
    assert run.frames == 260
    assert int(run.learner.updates) >= 100
    agent = mpc.load_agent(tmp_path / "run" / "agent")
    assert agent.planner == RUN.planner(made.spec)
    observation = made.reset(0)
    decision, _ = agent.act(agent.reset(observation), observation, key=jax.random.key(0))
    made.spec.check_action(np.asarray(decision.action))
    lines = (tmp_path / "run" / "progress.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["episode"] == run.learned == len(run.episodes)


KILLED = """
import sys, mpc
from tests.test_learning import RUN
from mpc.learning import learn
learn(mpc.make("Pendulum-v1"), sys.argv[1], frames=1200, settings=RUN, resume=len(sys.argv) > 2,
      progress=lambda report: print(report.episode, flush=True))
"""


@pytest.mark.slow
def test_a_run_killed_and_resumed_ends_like_one_that_was_not(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed")], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while int(process.stdout.readline() or 3) < 3:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "killed"), "resume"], env=environment, check=True)
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "whole")], env=environment, check=True)
    resumed, _ = load_learned(tmp_path / "killed" / "agent")
    whole, _ = load_learned(tmp_path / "whole" / "agent")
    for a, b in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    returns = [
        [json.loads(line)["episode_return"] for line in (tmp_path / name / "progress.jsonl").read_text().splitlines()]
        for name in ("killed", "whole")
    ]
    assert returns[0][-1] == returns[1][-1]


def test_a_folder_that_holds_a_run_is_not_overwritten_and_other_settings_do_not_resume(tmp_path):
    made = mpc.make("Pendulum-v1")
    learn(made, tmp_path / "run", frames=40, settings=RUN)
    with pytest.raises(mpc.LearningError, match="--resume"):
        learn(made, tmp_path / "run", frames=80, settings=RUN)
    with pytest.raises(mpc.LearningError, match="seed"):
        learn(made, tmp_path / "run", frames=80, settings=RUN, seed=1, resume=True)
    shutil.rmtree(tmp_path / "run" / "agent")
    with pytest.raises(mpc.LearningError, match="action_repeat is 1, given 2"):
        learn(mpc.make("Pendulum-v1", action_repeat=2), tmp_path / "run", frames=80, settings=RUN, resume=True)
    with pytest.raises(mpc.LearningError, match="seed is 0, given 1"):
        learn(made, tmp_path / "run", frames=80, settings=RUN, seed=1, resume=True)
    with pytest.raises(mpc.LearningError, match="holds no run"):
        learn(made, tmp_path / "nowhere", frames=80, settings=RUN, resume=True)
    with pytest.raises(mpc.LearningError, match="frames=0"):
        learn(made, tmp_path / "other", frames=0)


def test_a_run_at_work_or_without_its_memory_is_not_resumed(tmp_path):
    made, refused = mpc.make("Pendulum-v1", action_repeat=20), []

    def again(_):
        with pytest.raises(mpc.LearningError, match="another process is writing here"):
            learn(made.copy(), tmp_path / "run", frames=400, settings=RUN, resume=True)
        refused.append(True)

    learn(made, tmp_path / "run", frames=200, settings=RUN, progress=again)
    assert refused
    (tmp_path / "run" / "agent").rename(tmp_path / "run" / ".agent.old")  # killed while the next one took its place
    kept = learn(made, tmp_path / "run", frames=200, settings=RUN, resume=True)
    assert kept.learned == 1
    (tmp_path / "run" / ".agent.old").rename(tmp_path / "run" / "agent")
    shutil.rmtree(tmp_path / "run" / "memory")
    with pytest.raises(mpc.LearningError, match="holds a run"):
        learn(made, tmp_path / "run", frames=200, settings=RUN)
    with pytest.raises(mpc.LearningError, match=r"learned from 1 episodes, and .* holds 0"):
        learn(made, tmp_path / "run", frames=200, settings=RUN, resume=True)


def test_what_can_never_be_learned_is_refused_before_anything_is_acted(tmp_path):
    seen = mpc.make("Pendulum-v1", action_repeat=4)
    with pytest.raises(mpc.LearningError, match="seed=-1"):
        learn(seen, tmp_path / "run", frames=100, settings=RUN, seed=-1)
    seen.spec = replace(seen.spec, observation=(("camera", (4, 4, 3)),), units=(("camera", ""),))
    with pytest.raises(mpc.LearningError, match="shows pictures, camera"):
        learn(seen, tmp_path / "run", frames=100, settings=RUN)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_evaluation_that_was_cut_off_is_made_when_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "RunSettings", lambda: RUN)
    monkeypatch.setattr(command, "evaluations", lambda *_: 1 / 0)
    ask = {"action_repeat": 20, "evaluate_every": 1000, "episodes": 1, "out": tmp_path / "run"}
    with pytest.raises(ZeroDivisionError):
        command.learn("Pendulum-v1", 400, **ask)
    row = {"return_mean": 1.0, "return_ci95": 0.0, "decision_ms_p50": 0.1}
    monkeypatch.setattr(command, "evaluations", lambda *_: {"planner": row, "policy": row})
    command.learn("Pendulum-v1", 400, **ask, resume=True)
    path = tmp_path / "run" / "evaluations.jsonl"
    lines = path.read_text().splitlines()
    assert [json.loads(line)["frames"] for line in lines] == [400, 400]
    path.write_text("\n".join(lines) + '\n{"method": "pl')
    assert command.evaluated_at(tmp_path / "run") == 400 and path.read_text().splitlines() == lines
    path.write_text("")
    assert command.evaluated_at(tmp_path / "run") == 0
    with pytest.raises(planners.SettingError, match="evaluate_every=0"):
        command.learn("Pendulum-v1", 400, **{**ask, "evaluate_every": 0})


class Breaking(mpc.Environment):
    """Pendulum-v1 whose episodes with an even seed raise in their fifth step, or all of them."""

    always = False

    def _frame(self, native):
        if self._step == 5 and (self.always or self._seed % 2 == 0):
            raise mpc.EnvironmentFaultError("the motor is on fire")
        return super()._frame(native)

    def reset(self, seed):
        self._seed = seed
        return super().reset(seed)


def breaking():
    return Breaking("Pendulum-v1", action_repeat=20, privileged=False, observe=(), block=1)  # ten decisions an episode


@pytest.mark.slow
def test_an_episode_in_which_the_environment_fails_is_left_out_and_said_so(tmp_path):
    with pytest.warns(UserWarning, match="seed 0 is left out"):
        run = learn(breaking(), tmp_path / "run", frames=600, settings=RUN)
    assert run.frames == 600
    assert all(episode.seed % 2 == 1 for episode in run.episodes)


def test_an_environment_that_keeps_failing_stops_the_run_and_leaves_it_fit_to_go_on(tmp_path):
    environment = breaking()
    environment.always = True
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(mpc.LearningError, match=r"3 episodes in a row.*on fire.*--resume"),
    ):
        learn(environment, tmp_path / "run", frames=600, settings=RUN)
    with pytest.warns(UserWarning, match="left out"):
        assert learn(breaking(), tmp_path / "run", frames=600, settings=RUN, resume=True).frames == 600


def test_a_full_disk_stops_the_run_and_leaves_it_fit_to_go_on(tmp_path, monkeypatch):
    from worldmodels.data import dataset

    made, written = mpc.make("Pendulum-v1", action_repeat=20), []

    def full(path, content):
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(path)
        return whole(path, content)

    whole = dataset.write_aside
    monkeypatch.setattr(dataset, "write_aside", full)
    with pytest.raises(mpc.LearningError, match=r"No space left.*--resume"):
        learn(made, tmp_path / "run", frames=1000, settings=RUN)
    monkeypatch.setattr(dataset, "write_aside", whole)
    assert learn(made, tmp_path / "run", frames=1000, settings=RUN, resume=True).frames == 1000


def test_episodes_are_cut_while_learning_every_so_often_whole_and_frames_counted_exactly(tmp_path):
    settings = replace(RUN, episode_frames=100, seed_frames=1000)
    run = learn(mpc.make("Pendulum-v1", action_repeat=2), tmp_path / "run", frames=650, settings=settings)
    assert [len(episode) for episode in run.episodes] == [50, 50, 100, 50, 50, 25]
    assert all(episode.truncated and not episode.terminated for episode in run.episodes)
    with pytest.raises(planners.SettingError, match="episode_frames=0"):
        replace(RUN, episode_frames=0)


@pytest.mark.slow
def test_short_episodes_are_learned_from_in_rounds(tmp_path):
    reports = []
    learn(mpc.make("Pendulum-v1", action_repeat=20), tmp_path / "run", frames=10_000, settings=RUN, progress=reports.append)
    assert [report.episode for report in reports] == [20, 40, 50]
