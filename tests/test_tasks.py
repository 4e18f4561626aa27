"""Costs in physical units against dm_control's own rewards, on random states."""

import functools

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
    states, targets, controls, _, observations = random_states(task)
    model = simulator(environment_of(task, privileged=True))
    cost = tasks.lookup(task)

    def measure(state, target, control):
        latent = {"state": state, "target": target, "sensor": jnp.zeros(model.engine.sensor_size)}
        readout = model.readout(latent)
        plain = {name: readout[name] for name in observations}
        return readout, cost(readout, control, 0), cost(plain, control, 0)

    return jax.jit(jax.vmap(measure))(states, targets, controls)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_cost_is_minus_the_environments_reward(task):
    rewards = random_states(task)[3]
    assert np.ptp(rewards) > 0.1, "the states must tell good from bad"
    _, cost, _ = measured(task)
    np.testing.assert_allclose(-cost, rewards, atol=1e-4)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_the_plain_observation_is_enough(task):
    _, _, cost = measured(task)
    np.testing.assert_allclose(-cost, random_states(task)[3], atol=1e-4)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_readout_is_the_environments_observation(task):
    readout = measured(task)[0]
    for name, value in random_states(task)[4].items():
        if name == "touch":
            continue  # made by the step that led here, not by the state: tests/test_simulator.py
        assert readout[name].shape == value.shape, name
        np.testing.assert_allclose(readout[name], value, atol=1e-5, err_msg=name)


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
