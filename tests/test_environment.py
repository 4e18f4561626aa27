"""Environments by id: names and shapes, seeds, action repeat, the true physics state, and every bad input."""

from typing import Any

import chex
import gymnasium
import mujoco
import mujoco.rollout
import numpy as np
import pytest
from gymnasium import spaces

import mpc
from mpc.environment import FULL_PHYSICS, make
from mpc.errors import EnvironmentFaultError, UnknownEnvironmentError, UnsupportedEnvironmentError
from planners.errors import SettingError
from worldmodels.errors import SpecError
from worldmodels.spec import ContinuousAction, DiscreteAction

CARTPOLE = "dm_control/cartpole-swingup-v0"


class Counter(gymnasium.Env):
    """Observes how often it was stepped; pays the action; ends after seven steps."""

    observation_space = spaces.Dict(
        {
            "count": spaces.Box(0, 100, ()),
            "arm": spaces.Dict({"angle": spaces.Box(-1, 1, (2, 3)), "gripper": spaces.Discrete(3)}),
            "camera": spaces.Box(0, 255, (4, 5, 3), np.uint8),
        }
    )
    action_space = spaces.Box(np.array([0.0, -2.0]), np.array([1.0, 2.0]), dtype=np.float64)

    def __init__(self, bad_at=None, bad=None, observation_space=None, action_space=None, render_mode=None):
        self.bad_at, self.bad = bad_at, bad
        self.observation_space = self.observation_space if observation_space is None else observation_space
        self.action_space = action_space or self.action_space

    def _observation(self):
        now = self.bad if self.count == self.bad_at else None
        angle = np.full((2, 3), np.nan if now == "arm.angle" else 0.5)
        seen = {
            "count": "seven" if now == "text" else float(self.count),
            "arm": {"angle": angle, "gripper": -1 if now == "category" else self.count % 3},
            "camera": np.full((4, 5, 3), self.count, np.uint8),
        }
        return {} if now == "nothing" else seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        self.received = []
        return self._observation(), {}

    def step(self, action):
        self.count += 1
        self.received.append(action)
        reward = {"reward": np.nan, "large": 1e39}.get(self.bad, 1.0) if self.count == self.bad_at else 1.0
        return self._observation(), reward, self.count == 7, False, {}


def native(environment) -> Any:
    return environment._env.unwrapped


def registered(name, **settings):
    gymnasium.register(f"sailplan-test/{name}-v0", entry_point=lambda **more: Counter(**settings, **more))
    return f"sailplan-test/{name}-v0"


@pytest.fixture(scope="module")
def counter_id():
    return registered("Counter")


def test_spec_names_every_quantity(counter_id):
    environment = make(counter_id, action_repeat=3)
    assert dict(environment.spec.observation) == {"count": (), "arm.angle": (2, 3), "arm.gripper": (3,), "camera": (4, 5, 3)}
    assert environment.spec.action == ContinuousAction((0.0, -2.0), (1.0, 2.0))
    observation = environment.reset(0)
    environment.spec.check_observation(observation)
    assert {name: value.dtype for name, value in observation.items()} == {
        "count": np.float32, "arm.angle": np.float32, "arm.gripper": np.float32, "camera": np.uint8
    }  # fmt: skip
    np.testing.assert_array_equal(observation["arm.gripper"], [1, 0, 0])


def test_observations_are_kept_though_the_environment_writes_into_its_own():
    class Same(Counter):
        observation_space = spaces.Box(0, 100, (1,))
        kept = np.zeros(1, np.float32)

        def _observation(self):
            self.kept[:] = self.count
            return self.kept

    gymnasium.register("sailplan-test/Same-v0", entry_point=Same)
    (episode,) = mpc.collect(make("sailplan-test/Same-v0"), episodes=1)
    np.testing.assert_array_equal(episode.observations["observation"][:, 0], np.arange(8))


def test_action_repeat_sums_rewards_and_stops_at_the_end(counter_id):
    environment = make(counter_id, action_repeat=3)
    environment.reset(0)
    seen = []
    for _ in range(3):
        transition = environment.step(np.array([0.5, 0.0]))
        seen.append((float(transition.observation["count"]), transition.cost, transition.terminated, transition.truncated))
    assert seen == [(3, -3, False, False), (6, -3, False, False), (7, -1, True, False)]
    with pytest.raises(EnvironmentFaultError, match=r"Call reset"):
        environment.step(np.array([0.5, 0.0]))


def test_actions_are_checked_and_clipped_to_the_exact_bounds(counter_id):
    environment = make(counter_id)
    environment.reset(0)
    environment.step(np.array([1 + 1e-6, -2 - 1e-6]))
    received = native(environment).received[-1]
    assert received.dtype == np.float64
    np.testing.assert_array_equal(received, [1.0, -2.0])
    for action in (np.array([1.5, 0.0]), np.array([np.nan, 0.0]), np.zeros(3), np.array(["a", "b"])):
        with pytest.raises(SpecError, match="action"):
            environment.step(action)


def test_discrete_actions_and_gymnasium_time_limit():
    environment = make("CartPole-v1", action_repeat=3)
    assert environment.spec.action == DiscreteAction(2)
    assert environment.spec.observation == (("observation", (4,)),)
    assert environment.decisions_per_episode == 167  # 500 frames
    assert environment.spec.seconds_per_step == pytest.approx(0.06)
    environment.reset(0)
    environment.step(np.int32(1))
    with pytest.raises(SpecError, match="integers from 0 to 1"):
        environment.step(2)
    assert environment.mujoco() is None


def test_a_maze_keeps_the_time_of_the_robot_in_it():
    pytest.importorskip("gymnasium_robotics")
    environment = make("PointMaze_UMaze-v3", action_repeat=4, observe=("observation",))
    assert environment.spec.seconds_per_step == pytest.approx(0.04)  # the maze itself says 50 frames a second, for videos
    assert environment.spec.observation == (("observation", (4,)),)
    assert environment.decisions_per_episode == 75


def test_pendulum_is_truncated_by_the_clock():
    environment = make("Pendulum-v1", action_repeat=100)
    environment.reset(0)
    first, second = environment.step(np.zeros(1)), environment.step(np.zeros(1))
    assert (first.terminated, first.truncated, second.terminated, second.truncated) == (False, False, False, True)


def test_dm_control_names_time_and_seeds():
    environment = make(CARTPOLE, action_repeat=4)
    assert environment.spec.observation == (("position", (3,)), ("velocity", (2,)))
    assert environment.spec.seconds_per_step == pytest.approx(0.04)
    assert environment.decisions_per_episode == 250
    first = environment.reset(7)
    again, copied, other = environment.reset(7), environment.copy().reset(7), environment.reset(8)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        np.testing.assert_array_equal(first[name], copied[name])
    assert not np.array_equal(first["position"], other["position"])


def test_dm_control_discount_tells_termination_from_truncation():
    environment = make(CARTPOLE, action_repeat=100)
    environment.reset(0)
    last = [environment.step(np.zeros(1)) for _ in range(10)][-1]
    assert (last.terminated, last.truncated) == (False, True)
    task = native(environment).task
    task.get_termination = lambda physics: 0.0
    environment.reset(0)
    last = environment.step(np.zeros(1))
    assert (last.terminated, last.truncated) == (True, False)


@pytest.mark.parametrize("id", [CARTPOLE, "dm_control/walker-walk-v0", "InvertedPendulum-v5", "HalfCheetah-v5"])
def test_rollout_from_the_privileged_state_reproduces_the_episode(id):
    environment = make(id, action_repeat=2, privileged=True)
    state = environment.reset(3)["state"]
    physics, simulator = environment.mujoco(), native(environment)
    assert physics is not None
    model, data = physics
    substeps = 2 * (simulator._n_sub_steps if id.startswith("dm_control") else simulator.frame_skip)
    full = np.empty(mujoco.mj_stateSize(model, FULL_PHYSICS.value))
    generator = np.random.default_rng(0)
    for _ in range(5):
        mujoco.mj_getState(model, data, full, FULL_PHYSICS.value)
        np.testing.assert_array_equal(full.astype(np.float32), state)
        action = generator.uniform(-0.3, 0.3, environment.spec.action.shape)
        controls = np.repeat(action[None, None], substeps, axis=1)
        states, _ = mujoco.rollout.rollout(model, mujoco.MjData(model), full[None], controls)
        state = environment.step(action).observation["state"]
        np.testing.assert_allclose(states[0, -1], state, rtol=1e-6, atol=1e-6)


def test_unknown_id_names_its_neighbours():
    with pytest.raises(UnknownEnvironmentError, match="dm_control/cartpole-swingup-v0"):
        make("dm_control/cartpol-swingup-v0")
    with pytest.raises(UnknownEnvironmentError, match="Pendulum-v1"):
        make("Pendulum-v7")
    with pytest.raises(UnknownEnvironmentError, match="no_such_package"):
        make("no_such_package:Thing-v0")
    with pytest.raises(UnknownEnvironmentError, match="Malformed"):
        make("json:")


def test_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "shimmy", None)
    for id in [known for known in gymnasium.registry if known.startswith("dm_control/")]:
        monkeypatch.delitem(gymnasium.registry, id)
    with pytest.raises(UnknownEnvironmentError, match=r"sailplan\[dmc\]"):
        make(CARTPOLE)


@pytest.mark.parametrize(
    ("name", "space", "message"),
    [
        ("Infinite", spaces.Box(-np.inf, np.inf, (2,)), "finite"),
        ("Integers", spaces.Box(0, 5, (2,), np.int64), "Box of floats or Discrete"),
        ("Several", spaces.MultiDiscrete([2, 3]), "Box of floats or Discrete"),
    ],
)
def test_unsupported_action_spaces(name, space, message):
    with pytest.raises(UnsupportedEnvironmentError, match=message):
        make(registered(name, action_space=space))


def test_inverted_action_bounds():
    space = spaces.Box(-1.0, 1.0, (1,))
    space.low, space.high = space.high, space.low
    with pytest.raises(UnsupportedEnvironmentError, match="low < high"):
        make(registered("Inverted", action_space=space))


@pytest.mark.parametrize(
    ("name", "space", "message"),
    [
        ("Text", spaces.Dict({"note": spaces.Text(5)}), "'note' is a Text"),
        ("Grey", spaces.Box(0.0, 1.0, (4, 5, 3)), "pictures of uint8"),
        ("Empty", spaces.Box(0.0, 1.0, (0,)), "at least one number"),
        ("Nothing", spaces.Dict({}), "shows nothing"),
    ],
)
def test_unsupported_observation_space_is_named(name, space, message):
    with pytest.raises(UnsupportedEnvironmentError, match=message):
        make(registered(name, observation_space=space))


def test_a_constructor_that_raises_is_named():
    gymnasium.register("sailplan-test/Broken-v0", entry_point=lambda: 1 / 0)
    with pytest.raises(UnsupportedEnvironmentError, match="ZeroDivisionError"):
        make("sailplan-test/Broken-v0")


def test_privileged_needs_mujoco():
    with pytest.raises(UnsupportedEnvironmentError, match="MuJoCo"):
        make("Pendulum-v1", privileged=True)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("reward", "reward is nan at step 2"),
        ("large", r"reward is 1e\+39 at step 2"),
        ("arm.angle", r"'arm.angle'.*at step 2"),
        ("text", "at step 2 is not of its space.*seven"),
        ("category", r"at step 2 is not of its space.*-1 is not in Discrete\(3\)"),
        ("nothing", "at step 2 is not of its space.*KeyError"),
    ],
)
def test_what_is_bad_names_environment_step_and_field(bad, message):
    environment = make(registered(f"Bad{bad.replace('.', '')}", bad_at=2, bad=bad))
    environment.reset(0)
    environment.step(np.zeros(2))
    with pytest.raises(EnvironmentFaultError, match=message):
        environment.step(np.zeros(2))


def test_settings_out_of_range():
    with pytest.raises(SettingError, match="action_repeat=0"):
        make("Pendulum-v1", action_repeat=0)
    with pytest.raises(SettingError, match="seed=-1"):
        make("Pendulum-v1").reset(-1)


@pytest.mark.parametrize(
    ("id", "places"),
    [
        ("dm_control/reacher-easy-v0", (0,)),
        ("dm_control/walker-walk-v0", ()),
        ("dm_control/cheetah-run-v0", (1,)),
        ("HalfCheetah-v5", (1,)),
        ("CartPole-v1", ()),
    ],
)
def test_angles_that_turn_without_end_are_found_where_they_are_observed(id, places):
    assert mpc.make(id).angles() == places


def test_an_episode_goes_on_as_if_nobody_had_looked_for_angles():
    environment = mpc.make("dm_control/cheetah-run-v0")
    action = np.full(environment.spec.action.shape, 0.5)
    environment.reset(seed=5)
    environment.angles()
    after = environment.step(action)
    environment.reset(seed=5)
    chex.assert_trees_all_equal(after.observation, environment.step(action).observation)
