"""Runs that learn: what they write acts, a killed one ends like one that was not, and what fails leaves them fit to go on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jax
import numpy as np
import pytest

import mpc
import planners
from benchmarks import learn as command
from mpc.learning import LearnerSettings, RunSettings, learn
from mpc.learning.storage import load_learned

TINY = LearnerSettings(latent=8, hidden=16, critic_hidden=16, policy_hidden=16, batch=16)
RUN = RunSettings(seed_frames=60, horizon=2, samples=8, iterations=1, proposals=2, learner=TINY)


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
from tests.test_learning_runs import RUN
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
