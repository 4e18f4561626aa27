"""The simulator against the environment it came from, under every transformation planners use."""

import copy

import chex
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import mpc
import mpc.environment
import planners
from mpc import costs, tasks
from mpc.simulation import SimulatorProblem, simulator, simulator_problem
from worldmodels import kinematics
from worldmodels.errors import SpecError
from worldmodels.simulator import Engine, PhysicalState, Simulator
from worldmodels.world_model import WorldModel

pytest.importorskip("dm_control")
FULL_PHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS.value
CARTPOLE, CHEETAH, HOPPER = (f"dm_control/{name}-v0" for name in ("cartpole-swingup", "cheetah-run", "hopper-hop"))


def make(id, **options):
    return mpc.environment.make(id, privileged=True, **options)


def actions_for(model, *shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (*shape, *model.spec.action.shape)).astype(np.float32)


def episode(environment, actions, seed=3):
    """Observations [H+1] of an episode whose first state is exactly the float32 one that was observed."""
    first = environment.reset(seed=seed)
    model, data = environment.mujoco()
    mujoco.mj_setState(model, data, first["state"].astype(np.float64), FULL_PHYSICS)
    mujoco.mj_forward(model, data)
    steps = [environment.step(environment.spec.action.denormalise(action)).observation for action in actions]
    return [first, *steps]


@pytest.fixture(scope="module")
def cartpole():
    environment = make(CARTPOLE, action_repeat=4)
    model = simulator(environment)
    return model, model.start(environment.reset(seed=0))


@pytest.mark.parametrize("action_repeat", [1, 4])
@pytest.mark.parametrize("id", [CARTPOLE, CHEETAH])
def test_reproduces_the_environment(id, action_repeat):
    environment = make(id, action_repeat=action_repeat)
    model = simulator(environment)
    actions = actions_for(model, 50)
    real = np.stack([observation["state"] for observation in episode(environment, actions)])
    latents = jax.jit(Simulator.trajectory)(model, model.start({"state": real[0]}), actions)
    np.testing.assert_allclose(latents["state"], real, rtol=1e-5, atol=1e-5)


def test_reproduces_gymnasium():
    environment = make("Hopper-v5", action_repeat=2)
    model = simulator(environment)
    actions = 0.1 * actions_for(model, 5)
    real = np.stack([observation["state"] for observation in episode(environment, actions)])
    latents = model.trajectory(model.start({"state": real[0]}), jnp.asarray(actions))
    np.testing.assert_allclose(latents["state"], real, rtol=1e-5, atol=1e-5)
    readout = model.readout(jax.tree.map(lambda x: x[-1], latents))
    np.testing.assert_allclose(readout["qpos"], environment.mujoco()[1].qpos, atol=1e-5)


@pytest.mark.parametrize("id", [CARTPOLE, CHEETAH, HOPPER, "dm_control/finger-spin-v0", "dm_control/reacher-hard-v0"])
def test_readouts_are_what_the_environment_observes(id):
    environment = make(id, action_repeat=2)
    model = simulator(environment)
    actions = actions_for(model, 12)
    latents = [model.start(environment.reset(seed=3))]
    observed = [environment._env.unwrapped._env.task.get_observation(environment._env.unwrapped._env.physics)]
    for action in actions:
        seen = environment.step(environment.spec.action.denormalise(action)).observation
        latents.append(model.observe(latents[-1], jnp.asarray(action), seen))
        observed.append(environment._env.unwrapped._env.task.get_observation(environment._env.unwrapped._env.physics))
    for latent, observation in zip(latents, observed, strict=True):
        readout = model.readout(latent)
        for name, value in observation.items():
            np.testing.assert_allclose(readout[name], value, atol=5e-4, err_msg=name)


def test_is_a_world_model_without_leaves_and_is_never_copied(cartpole):
    model, _ = cartpole
    assert isinstance(model, WorldModel)
    assert jax.tree.leaves(model) == []
    assert copy.deepcopy(model).engine is model.engine
    again = simulator(make(CARTPOLE, action_repeat=4))
    assert again == model and hash(again) == hash(model) and again.engine is not model.engine
    assert simulator(make(CARTPOLE, action_repeat=2)) != model


def test_equal_simulators_compile_once(cartpole):
    model, latent = cartpole
    predict = jax.jit(chex.assert_max_traces(lambda model, latent, action: model.predict(latent, action, jnp.zeros(0)), 1))
    for again in (model, copy.deepcopy(model), simulator(make(CARTPOLE, action_repeat=4))):
        predict(again, latent, jnp.zeros(1))


def test_batches_equal_loops(cartpole):
    model, latent = cartpole
    actions = jnp.asarray(actions_for(model, 3, 4, 5))
    latents = jax.vmap(model.rollout)(jax.tree.map(lambda x: jnp.stack([x, x + 0.1, x - 0.1]), latent), actions)
    assert latents["state"].shape == (3, 4, 6, model.engine.state_size)
    for environment, shift in enumerate((0, 0.1, -0.1)):
        for plan in range(4):
            here = jax.tree.map(lambda x, shift=shift: x + shift, latent)
            for step, action in enumerate(actions[environment, plan]):
                here = model.predict(here, action, jnp.zeros(0))
                np.testing.assert_allclose(latents["state"][environment, plan, step + 1], here["state"], atol=1e-5)


def test_one_call_to_mujoco_for_a_whole_batch(cartpole, monkeypatch):
    model, latent = cartpole
    calls = []
    advance = Engine.advance
    monkeypatch.setattr(
        Engine,
        "advance",
        lambda self, state, control, steps: calls.append(control.shape) or advance(self, state, control, steps),
    )
    latents = jax.tree.map(lambda x: jnp.stack([x] * 3), latent)
    jax.block_until_ready(jax.jit(jax.vmap(model.rollout))(latents, jnp.asarray(actions_for(model, 3, 4, 5))))
    assert calls == [(3, 4, 5, 1)]


def test_large_rollouts_never_wait_for_themselves():
    """A JAX array read inside a callback can wait for the thread the callback runs on (jax issue 24255)."""
    model = simulator(make(CARTPOLE))
    latent = model.start(make(CARTPOLE).reset(seed=0))

    @jax.jit
    def last(latent, actions):
        return jax.lax.fori_loop(
            0, 2, lambda _, total: total + model.rollout(latent, actions + 1e-6 * total)["state"].mean(), 0.0
        )

    actions = jnp.asarray(actions_for(model, 256, 20))
    results = [last(latent, actions) for _ in range(100)]  # 200 rollouts of 256 × 20, queued up
    assert len({float(result) for result in results}) == 1


def test_a_nan_stays_a_nan(cartpole):
    model, latent = cartpole
    actions = jnp.asarray(actions_for(model, 3, 6)).at[1, 2].set(jnp.nan)
    finite = jnp.isfinite(model.rollout(latent, actions)["state"]).all(-1)
    assert finite[0].all() and finite[2].all() and not finite[1, 1:].any()


def test_a_divergence_that_mujoco_resets_is_a_nan(cartpole):
    model, latent = cartpole
    thrown = latent | {"state": latent["state"].at[-1].set(1e12)}
    finite = jnp.isfinite(model.trajectory(thrown, jnp.zeros((6, 1)))["state"]).all(-1)
    assert not finite[1:].any()


def test_a_plan_that_diverges_ranks_last_though_its_cost_looks_elsewhere(cartpole):
    model, latent = cartpole
    problem = simulator_problem(model, mpc.effort(), horizon=6)
    thrown = latent | {"state": latent["state"].at[-1].set(1e12)}
    actions = jnp.zeros((6, 1))
    assert np.isnan(problem.score(thrown, actions, jnp.zeros((6, 0)))[0])
    assert np.isfinite(problem.score(latent, actions, jnp.zeros((6, 0)))[0])


def test_kinematics_of_every_kind_of_joint():
    model = mujoco.MjModel.from_xml_string("""<mujoco><worldbody><body pos="1 2 3" quat=".5 .5 .1 .2"><freejoint/><geom size=".1"/>
      <body pos=".1 .2 .3"><joint type="ball" pos=".1 0 .2"/><geom size=".2" pos=".1 0 0"/><site name="tip" pos="0 .1 .2"/>
      <body pos="0 .4 0"><geom size=".1"/><body euler="10 20 30"><joint type="hinge" axis="1 1 0" ref="20" pos="0 .1 .1"/>
      <joint type="slide" axis="0 1 1"/><geom size=".1" pos=".3 .1 0"/></body></body></body></body></worldbody>
      <sensor><subtreelinvel body="world"/></sensor></mujoco>""")
    data = mujoco.MjData(model)
    random = np.random.default_rng(0)
    data.qvel[:] = random.normal(size=model.nv)
    mujoco.mj_integratePos(model, data.qpos, random.normal(size=model.nv), 1.0)
    mujoco.mj_forward(model, data)
    frames = kinematics.frames(model, jnp.asarray(data.qpos))
    np.testing.assert_allclose(frames.position, data.xpos, atol=1e-5)
    np.testing.assert_allclose(frames.rotation.reshape(-1, 9), data.xmat, atol=1e-5)
    np.testing.assert_allclose(kinematics.centres(model, frames), data.xipos, atol=1e-5)
    np.testing.assert_allclose(kinematics.attached(frames, model.site_bodyid, model.site_pos), data.site_xpos, atol=1e-5)
    velocity = kinematics.subtree_velocity(model, 0, jnp.asarray(data.qpos), jnp.asarray(data.qvel))
    np.testing.assert_allclose(velocity, data.sensordata, atol=1e-5)


def test_what_does_not_fit_is_refused(cartpole):
    model, latent = cartpole
    plain = mpc.environment.make(CARTPOLE)
    with pytest.raises(SpecError, match="privileged=True"):
        simulator(plain)
    with pytest.raises(SpecError, match="steps=0"):
        Engine(model.engine.model, 0)
    with pytest.raises(SpecError, match="'target' beside the state"):
        PhysicalState(model.engine, latent).observed("target")
    with pytest.raises(SpecError, match="sensor 'touch'"):
        PhysicalState(model.engine, latent).sensor("touch")
    with pytest.raises(mpc.environment.UnsupportedEnvironmentError, match="MuJoCo"):
        simulator(mpc.environment.make("CartPole-v1"))


def swingup_problem(model, **options):
    return simulator_problem(model, costs.cost(tasks.lookup("cartpole.swingup")), horizon=6, **options)


def cart_beyond(latent, action, step):
    return jnp.abs(latent["state"][1:2]) - 0.01


def ends_when_far(latent, action):
    return (jnp.abs(latent["state"][1]) < 0.02).astype(jnp.float32)


def test_constraints_termination_and_futures_count_as_in_any_problem(cartpole):
    model, latent = cartpole
    parts = swingup_problem(model)
    shared = {
        "dynamics": parts.dynamics,
        "cost": parts.cost,
        "actions": parts.actions,
        "terminal_cost": parts.terminal_cost,
        "continues": ends_when_far,
        "constraints": cart_beyond,
        "discount": 0.9,
        "noise": jnp.zeros((3, 6, 0)),
    }
    together = SimulatorProblem(**shared, trajectory=model.trajectory)
    stepwise = planners.Problem(**shared)
    actions = jnp.asarray(actions_for(model, 5, 6))
    rollout = jax.jit(lambda problem: problem.rollout(latent, actions, problem.futures(6)))
    ours, theirs = rollout(together), rollout(stepwise)
    assert float(theirs.violation.max()) > 0
    np.testing.assert_allclose(ours.cost, theirs.cost, rtol=1e-5)
    np.testing.assert_allclose(ours.violation, theirs.violation, atol=1e-6)
    np.testing.assert_allclose(together.score(latent, actions[0], jnp.zeros((6, 0)))[0], ours.cost[0, 0], rtol=1e-5)


def test_gradient_planners_refuse_it(cartpole):
    model, _ = cartpole
    problem = swingup_problem(model)
    assert not problem.differentiable
    with pytest.raises(planners.PlannerError):
        planners.Gradient(horizon=6).init(problem)


@pytest.mark.slow
def test_plans_alike_for_one_environment_and_for_many(cartpole):
    model, latent = cartpole
    problem = swingup_problem(model)
    planner = planners.CEM(horizon=6, samples=16, iterations=3, elites=4)
    state = planner.init(problem)
    plan, _ = planners.plan(planner, problem, latent, state, key=jax.random.key(0))
    nothing = problem.rollout(latent, jnp.zeros((1, 6, 1)), problem.futures(6)).cost[0, 0]
    assert float(plan.cost) < float(nothing)
    np.testing.assert_allclose(plan.latents["state"], model.trajectory(latent, plan.actions)["state"], atol=1e-6)

    many = jax.vmap(lambda latent, key: planners.plan(planner, problem, latent, state, key=key)[0].cost)
    both = many(jax.tree.map(lambda x: jnp.stack([x, x]), latent), jnp.stack([jax.random.key(0), jax.random.key(0)]))
    np.testing.assert_allclose(both, float(plan.cost), rtol=1e-4)
