"""Costs in physical units against dm_control's own rewards, on random states."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import mpc.environment
from mpc import tasks
from mpc.costs import CostError
from mpc.simulation import simulator
from mpc.tasks.tolerance import tolerance

pytest.importorskip("dm_control")
STATES = 1000
SLOPES = 200  # of these states
OWN = {"cheetah.flip": "cheetah.run", "cheetah.run_backwards": "cheetah.run", "walker.run_backwards": "walker.run"}
"""Tasks that dm_control does not have, and one of its tasks with the same body."""
SUITE = [task for task in tasks.TASKS if task not in OWN]
FULL_PHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS.value


def environment_of(task, **options):
    return mpc.environment.make(f"dm_control/{task.replace('.', '-')}-v0", **options)


def towards_success(task, q, random):
    """Joint positions near where sparse rewards live, for half of the states; the rest stay as they are."""
    if task == "ball_in_cup.catch":
        return np.array([q[0], q[1], q[0], q[1] + 0.35]) + random.uniform(-0.04, 0.04, 4)
    return q


@functools.cache
def random_states(task):
    """States [N, S], targets [N, 3], controls [N, U], the environment's rewards [N] and observations {name: [N, ...]}."""
    environment = environment_of(task, privileged=True)
    environment.reset(seed=0)
    suite = environment._env.unwrapped._env
    physics, model = suite.physics, suite.physics.model.ptr
    random = np.random.default_rng(0)
    rows = []
    for index in range(STATES):
        q = random.normal(size=model.nq) * random.choice([0.03, 0.3, 2])
        q = towards_success(task, q, random) if index % 2 else q
        velocity = random.normal(size=model.nv) * random.choice([0.1, 1, 20])
        control = random.uniform(-1, 1, model.nu).astype(np.float32)
        if task.startswith("reacher"):
            physics.forward()
            nearby = physics.named.data.geom_xpos["finger", :2] + random.normal(size=2) * 0.04
            physics.named.model.geom_pos["target", :2] = nearby
        physics.data.qpos[:], physics.data.qvel[:] = q.astype(np.float32), velocity.astype(np.float32)
        physics.data.ctrl[:] = control
        mujoco.mj_forward(model, physics.data.ptr)
        state = np.empty(mujoco.mj_stateSize(model, FULL_PHYSICS))
        mujoco.mj_getState(model, physics.data.ptr, state, FULL_PHYSICS)
        target = np.array(physics.named.model.geom_pos["target"]) if task.startswith("reacher") else np.zeros(3)
        observation = {name: np.array(value) for name, value in suite.task.get_observation(physics).items()}
        rows.append((state, target, control, float(np.squeeze(suite.task.get_reward(physics))), observation))
    states, targets, controls, rewards, observations = zip(*rows, strict=True)
    named = {name: np.stack([observation[name] for observation in observations]) for name in observations[0]}
    return np.float32(states), np.float32(targets), np.stack(controls), np.array(rewards), named


@functools.cache
def measured(task):
    """Our readouts and costs in the same states, and the costs from what the environment observes alone."""
    like = OWN.get(task, task)
    states, targets, controls, _, observations = random_states(like)
    model = simulator(environment_of(like, privileged=True))
    cost = tasks.lookup(task)

    def measure(state, target, control):
        latent = {"state": state, "target": target, "sensor": jnp.zeros(model.engine.sensor_size)}
        readout = model.readout(latent)
        plain = {name: readout[name] for name in observations}
        return readout, cost(readout, control, 0), cost(plain, control, 0)

    return jax.jit(jax.vmap(measure))(states, targets, controls)


@pytest.mark.parametrize("task", SUITE)
def test_cost_is_minus_the_environments_reward(task):
    rewards = random_states(task)[3]
    assert np.ptp(rewards) > 0.1, "the states must tell good from bad"
    _, cost, _ = measured(task)
    np.testing.assert_allclose(-cost, rewards, atol=1e-4)


@pytest.mark.parametrize("task", SUITE)
def test_the_plain_observation_is_enough(task):
    _, _, cost = measured(task)
    np.testing.assert_allclose(-cost, random_states(task)[3], atol=1e-4)


@pytest.mark.parametrize("task", SUITE)
def test_readout_is_the_environments_observation(task):
    readout = measured(task)[0]
    for name, value in random_states(task)[4].items():
        if name == "touch":
            continue  # made by the step that led here, not by the state: tests/test_simulator.py
        assert readout[name].shape == value.shape, name
        np.testing.assert_allclose(readout[name], value, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("task", OWN)
def test_a_task_of_our_own_tells_good_from_bad_and_needs_the_plain_observation_alone(task):
    _, cost, plain = measured(task)
    assert -1 <= cost.min() < -0.9 and -0.1 < cost.max() <= 0
    np.testing.assert_allclose(plain, cost, atol=1e-4)


def moving_at(task, rate, torso=(1.0, 0.0)):
    """What a body reads out while it stands upright and moves at `rate`, in whatever way its task speaks of."""
    orientations = jnp.asarray([*torso] + [1.0, 0.0] * 6)
    velocity = jnp.zeros(9).at[2].set(rate) if task == "cheetah.flip" else jnp.zeros(9)
    return {"height": 1.1, "orientations": orientations, "velocity": velocity, "horizontal_velocity": rate, "speed": rate}


@pytest.mark.parametrize("body", ["cheetah", "walker"])
def test_running_backwards_is_running_seen_in_a_mirror(body):
    forwards, backwards = tasks.lookup(f"{body}.run"), tasks.lookup(f"{body}.run_backwards")
    for rate in (-12.0, -5.0, -0.5, 0.0, 3.0, 11.0):
        assert backwards(moving_at(body, rate), None, 0) == forwards(moving_at(body, -rate), None, 0)
    assert backwards(moving_at(body, -12.0), None, 0) < backwards(moving_at(body, 12.0), None, 0) - 0.5


@pytest.mark.parametrize("task", [*OWN, "walker.run", "cheetah.run"])
def test_a_costs_gradient_agrees_with_finite_differences(task):
    sign = -1.0 if task.endswith("backwards") else 1.0
    cost = tasks.lookup(task)
    with jax.enable_x64(True):
        of = lambda v: cost(moving_at(task, sign * v[0], (jnp.cos(v[1]), jnp.sin(v[1]))), None, 0)  # noqa: E731
        for point in (jnp.array([4.5, 0.3]), jnp.array([2.0, -0.7]), jnp.array([30.0, 0.3]), jnp.array([-3.0, 0.5])):
            wanted = [(of(point + d) - of(point - d)) / 2e-4 for d in 1e-4 * jnp.eye(2)]
            np.testing.assert_allclose(jax.grad(of)(point), wanted, atol=1e-7)
        assert jax.grad(of)(jnp.array([4.5, 0.3]))[0] < -0.03  # faster is better


PLAIN = [  # tasks whose costs slope; add a line for a new one
    "cartpole.swingup",
    "cheetah.flip",
    "cheetah.run",
    "hopper.hop",
    "walker.run",
    "walker.stand",
    "walker.walk",
]


@pytest.mark.parametrize("task", PLAIN)
def test_a_costs_gradient_from_the_plain_observation_agrees_with_finite_differences(task):
    """What learned models read out, from which speeds and heights are computed by the body's kinematics."""
    _, _, controls, _, observations = random_states(OWN.get(task, task))
    shapes = {name: value.shape[1:] for name, value in observations.items()} | {"control": controls.shape[1:]}
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
    points = np.concatenate([np.reshape(value, (STATES, -1)) for value in (*observations.values(), controls)], 1)[:SLOPES]

    def of(point):
        parts = zip(shapes.items(), jnp.split(point, ends[:-1]), strict=True)
        readout = {name: part.reshape(shape) for (name, shape), part in parts}
        return tasks.lookup(task)(readout, readout.pop("control"), 0)

    with jax.enable_x64(True):
        points, step = points.astype(np.float64), 1e-6
        along = np.random.default_rng(1).normal(size=points.shape)
        values, gradients = jax.jit(jax.vmap(jax.value_and_grad(of)))(
            np.concatenate([points, points + step * along, points - step * along])
        )
        _, ahead, behind = np.split(np.asarray(values), 3)
        slopes = (np.asarray(gradients)[:SLOPES] * along).sum(1)
        np.testing.assert_allclose(slopes, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-6)
        assert (abs(slopes) > 1e-2).sum() >= 10, "the states must be some where the cost has a slope"


def test_the_cheetahs_rate_of_pitch_is_how_its_torso_turns_over_in_a_moment():
    states, _, _, _, observations = random_states("cheetah.run")
    model = tasks.reading.suite_model("cheetah")
    data, turned = mujoco.MjData(model), []
    for state in states[:50].astype(np.float64):
        qpos, pitch = state[1 : 1 + model.nq].copy(), []
        for _ in range(2):
            data.qpos[:] = qpos
            mujoco.mj_kinematics(model, data)
            rotation = data.body("torso").xmat.reshape(3, 3)
            pitch.append(np.arctan2(-rotation[2, 0], rotation[0, 0]))  # the nose goes down
            mujoco.mj_integratePos(model, qpos, state[1 + model.nq : 1 + model.nq + model.nv], 1e-5)
        turned.append((np.mod(pitch[1] - pitch[0] + np.pi, 2 * np.pi) - np.pi) / 1e-5)
    np.testing.assert_allclose(observations["velocity"][:50, 2], turned, rtol=1e-4, atol=1e-4)


SIGMOIDS = ["gaussian", "hyperbolic", "long_tail", "reciprocal", "cosine", "linear", "quadratic", "tanh_squared"]


@pytest.mark.parametrize("sigmoid", SIGMOIDS)
@pytest.mark.parametrize("bounds", [(0.0, 0.0), (-0.5, 1.0), (0.3, float("inf")), (-float("inf"), 0.3)])
@pytest.mark.parametrize("margin", [0.0, 0.7])
def test_tolerance_is_dm_controls(sigmoid, bounds, margin):
    from dm_control.utils import rewards

    x = np.concatenate([np.linspace(-5, 5, 101), [-0.5, 0.0, 0.3, 1.0]])
    settings = {"bounds": bounds, "margin": margin, "sigmoid": sigmoid, "value_at_margin": 0.2}
    with jax.enable_x64(True):
        np.testing.assert_allclose(tolerance(jnp.asarray(x), **settings), rewards.tolerance(x, **settings), atol=1e-12)


@pytest.mark.parametrize("sigmoid", SIGMOIDS)
def test_tolerance_has_finite_gradients(sigmoid):
    gradient = jax.vmap(jax.grad(lambda x: tolerance(x, (0.5, float("inf")), 1.0, sigmoid, 0.2)))(jnp.linspace(-3, 3, 61))
    assert jnp.isfinite(gradient).all()
    assert (gradient[jnp.linspace(-3, 3, 61) > 0.5] == 0).all()


@pytest.mark.parametrize(
    "settings", [{"bounds": (1, 0)}, {"margin": -1}, {"margin": 1, "value_at_margin": 0.0}, {"margin": 1, "sigmoid": "s"}]
)
def test_tolerance_refuses(settings):
    with pytest.raises(CostError, match=next(name for name in reversed(settings))):
        tolerance(jnp.zeros(()), **settings)


def test_the_docs_list_every_cost():
    text = (Path(__file__).resolve().parent.parent / "docs/many-tasks.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    listed = [f"{body}.{task}" for body, named in rows if body in tasks.BODIES for task in re.findall(r"`(\w+)`", named)]
    assert sorted(listed) == sorted(tasks.TASKS)


def test_lookup_by_name_and_by_environment():
    assert tasks.lookup("cartpole.swingup") is tasks.lookup("dm_control/cartpole-swingup-v0") is tasks.cartpole.swingup
    assert tasks.lookup("dm_control/ball_in_cup-catch-v0") is tasks.ball_in_cup.catch
    assert tasks.lookup("cartpole-swingup_sparse") is tasks.cartpole.swingup_sparse


def test_lookup_names_near_matches():
    with pytest.raises(CostError, match=r"Did you mean cartpole\.swingup"):
        tasks.lookup("cartpole.swing")
    with pytest.raises(CostError, match="Known: ball_in_cup"):
        tasks.lookup("zzz")


@pytest.mark.parametrize("task", tasks.TASKS)
def test_missing_readout_names_near_matches_when_traced(task):
    with pytest.raises(CostError, match="the cost reads"):
        jax.eval_shape(lambda: tasks.lookup(task)({"unrelated": jnp.zeros(3)}, jnp.zeros(1), 0))


def test_missing_readout_suggests():
    with pytest.raises(CostError, match="Did you mean orientations"):
        tasks.pendulum.swingup({"orientations": jnp.zeros(2)}, jnp.zeros(1), 0)
