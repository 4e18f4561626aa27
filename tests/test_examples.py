"""The examples do what they say, at a size that fits the tests."""

import time

import pytest

import mpc
import planners
from examples import own_cost, own_environment, own_policy, robot_loop
from mpc.learning import LearnerSettings, new_learner
from mpc.learning.storage import save_learned

pytestmark = pytest.mark.slow


def test_the_boat_of_ones_own_finds_the_buoy():
    assert own_environment.main(frames=3_000, updates=1_000) < 0.3


def test_a_cost_of_ones_own_carries_the_load_to_either_side():
    ends = own_cost.main(frames=6_000, updates=2_000)
    assert ends["-0.5"] < -0.2 < 0.2 < ends["+0.5"]


def test_a_policy_of_ones_own_helps_a_small_planner():
    returns = own_policy.main(frames=4_000, updates=1_500)
    assert returns["seeded by the rule"] > returns["a small planner"]


def test_the_robot_loop_runs_in_real_time_through_outages_and_its_log_can_be_replayed(tmp_path, capsys):
    settings = LearnerSettings(latent=8, hidden=16, critic_hidden=16, policy_hidden=16)
    spec = mpc.make("dm_control/cartpole-swingup-v0", action_repeat=8).spec
    save_learned(new_learner(spec, settings), settings, tmp_path / "agent", discount=0.99, ends=False, frames=0, episodes=0)
    planner = planners.CEM(horizon=2, samples=16, iterations=1, elites=4, proposals=2)
    began = time.monotonic()
    counts = robot_loop.main(str(tmp_path / "agent"), 6.0, str(tmp_path / "log"), planner)
    assert time.monotonic() - began > 6.0
    assert counts["observation unreadable"] >= 2 and counts["PLAN"] > 20
    assert "observation unreadable" in capsys.readouterr().out
    replays = list(mpc.Log(tmp_path / "log").replays())
    assert len(replays) == sum(counts[rung.name] for rung in mpc.Rung) and all(r.identical for r in replays)
