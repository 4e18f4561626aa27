"""MuJoCo's own physics as a world model: the ceiling for planning on learned ones.

It observes the privileged `{"state": mjSTATE_FULLPHYSICS}` and predicts by `mujoco.rollout`, in float64 on all cores, however
many environments, candidates and steps are asked for at once. Readouts are computed in JAX from joint positions and
velocities, so a latent needs no more than the state.
"""

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import mujoco
import mujoco.rollout
import numpy as np
from jaxtyping import Array, Float

from worldmodels import kinematics
from worldmodels.errors import SpecError
from worldmodels.spec import Spec

FULL_PHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS.value


class Engine:
    """An `MjModel`, how many physics steps a decision lasts, and threads to run it. Static under `jit`.

    Equal where the model's bytes are equal, so two engines of one environment share compiled programs. Never copied.
    """

    def __init__(self, model: mujoco.MjModel, steps: int):
        if steps < 1:
            raise SpecError(f"steps={steps}: expected at least one physics step per decision.")
        self.model, self.steps = model, int(steps)
        image = np.empty(mujoco.mj_sizeModel(model), np.uint8)
        mujoco.mj_saveModel(model, None, image)
        self._identity = (hashlib.sha256(image.tobytes()).hexdigest(), self.steps)
        self._lock = threading.Lock()
        self.state_size = mujoco.mj_stateSize(model, FULL_PHYSICS)
        late = np.nonzero(model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC)[0]
        spans = [range(model.sensor_adr[i], model.sensor_adr[i] + model.sensor_dim[i]) for i in late]
        self.sensors = {model.sensor(i).name: len(span) for i, span in zip(late, spans, strict=True)}
        self._columns = np.array([column for span in spans for column in span], int)

    def __eq__(self, other):
        return isinstance(other, Engine) and self._identity == other._identity

    def __hash__(self):
        return hash(self._identity)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __repr__(self):
        return f"Engine(steps={self.steps}, nq={self.model.nq}, nv={self.model.nv}, nu={self.model.nu})"

    @property
    def sensor_size(self) -> int:
        """Values of the sensors that MuJoCo reads while it computes accelerations (touch, force, accelerometer)."""
        return len(self._columns)

    @cached_property
    def _pool(self) -> tuple[mujoco.rollout.Rollout, list[mujoco.MjData]]:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return mujoco.rollout.Rollout(nthread=threads), [mujoco.MjData(self.model) for _ in range(threads)]

    def advance(self, state: np.ndarray, control: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """States [..., H, S] and sensors [..., H, K] after each of H controls [..., H, U], held for `steps`, from states [..., S].

        Leading axes broadcast. Where an input is not finite, or the physics diverges and MuJoCo resets it, the rest is NaN.
        """
        batch = np.broadcast_shapes(state.shape[:-1], control.shape[:-2])
        horizon = control.shape[-2]
        start = np.broadcast_to(state, (*batch, state.shape[-1])).reshape(-1, state.shape[-1]).astype(np.float64)
        control = np.broadcast_to(control, (*batch, *control.shape[-2:])).reshape(-1, *control.shape[-2:]).astype(np.float64)
        held = np.repeat(control, steps, axis=1)
        broken = ~(np.isfinite(start).all(-1) & np.isfinite(held).all((-1, -2)))
        start[broken], held[broken] = 0.0, 0.0
        with self._lock:
            pool, data = self._pool
            states, sensors = pool.rollout(self.model, data, start, held)
        states, sensors = states[:, steps - 1 :: steps], sensors[:, steps - 1 :: steps, self._columns]
        seconds = self.model.opt.timestep * steps * np.arange(1, horizon + 1)
        clock = start[:, :1] + seconds  # starts anew where MuJoCo resets
        lost = np.logical_or(np.abs(states[..., 0] - clock) > self.model.opt.timestep / 2, np.expand_dims(broken, 1))
        lost = np.logical_or.accumulate(lost, axis=1)
        states[lost], sensors[lost] = np.nan, np.nan
        shape = (*batch, horizon)
        return states.astype(np.float32).reshape(*shape, -1), sensors.astype(np.float32).reshape(*shape, self.sensor_size)


@dataclass(frozen=True)
class PhysicalState:
    """One simulator latent by name, for readouts. Metres, radians, seconds; everything here is JAX and computed when used."""

    engine: Engine
    latent: dict[str, Array]

    @property
    def time(self) -> Float[Array, ""]:
        return self.latent["state"][0]

    @property
    def qpos(self) -> Float[Array, " Q"]:
        return self.latent["state"][1 : 1 + self.engine.model.nq]

    @property
    def qvel(self) -> Float[Array, " V"]:
        first = 1 + self.engine.model.nq
        return self.latent["state"][first : first + self.engine.model.nv]

    @cached_property
    def frames(self) -> kinematics.Frames:
        """Position [B, 3] and rotation [B, 3, 3] of every body."""
        return kinematics.frames(self.engine.model, self.qpos)

    def body(self, name: str) -> Float[Array, " 3"]:
        """Position of a body's frame."""
        return self.frames.position[self.engine.model.body(name).id]

    def rotation(self, name: str) -> Float[Array, "3 3"]:
        """A body's axes, as columns."""
        return self.frames.rotation[self.engine.model.body(name).id]

    def centre(self, name: str) -> Float[Array, " 3"]:
        """Centre of mass of a body."""
        return kinematics.centres(self.engine.model, self.frames)[self.engine.model.body(name).id]

    def site(self, name: str) -> Float[Array, " 3"]:
        site = self.engine.model.site(name)
        return kinematics.attached(self.frames, site.bodyid, site.pos[None])[0]

    def geom(self, name: str) -> Float[Array, " 3"]:
        geom = self.engine.model.geom(name)
        return kinematics.attached(self.frames, geom.bodyid, geom.pos[None])[0]

    def subtree_velocity(self, name: str) -> Float[Array, " 3"]:
        """Velocity of the centre of mass of a body and all below it."""
        return kinematics.subtree_velocity(self.engine.model, self.engine.model.body(name).id, self.qpos, self.qvel)

    def observed(self, name: str) -> Array:
        """What the environment observed beside the state, such as an episode's own target."""
        if name not in self.latent:
            raise SpecError(
                f"the readout needs {name!r} beside the state, but the spec observes only {sorted(set(self.latent) - {'sensor'})}."
            )
        return self.latent[name]

    def sensor(self, name: str) -> Array:
        """A touch, force or acceleration sensor, as MuJoCo read it in the physics step that led here."""
        first = 0
        for other, size in self.engine.sensors.items():
            if other == name:
                return self.latent["sensor"][first : first + size]
            first += size
        raise SpecError(f"sensor {name!r}: the model's sensors of this kind are {list(self.engine.sensors)}.")


def joints(physics: PhysicalState) -> dict[str, Array]:
    """The readout of any MuJoCo model: joint positions and velocities."""
    return {"qpos": physics.qpos, "qvel": physics.qvel}


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["spec", "engine", "quantities"])
@dataclass(frozen=True)
class Simulator:
    """A `WorldModel` that is never wrong. `jax.vmap` of any method runs the whole batch in one call to MuJoCo.

    A latent is `{"state", "sensor"}` and whatever else the spec observes (an episode's own target, say), held constant.
    Predictions are not differentiable; readouts are.

    Attributes:
      spec: of the environment, observing `state` [S].
      engine: the compiled model with its physics steps per decision.
      quantities: (PhysicalState) -> {name: array}, what `readout` says.
    """

    spec: Spec
    engine: Engine
    quantities: Callable[[PhysicalState], dict[str, Array]] = joints

    def __post_init__(self):
        shapes = dict(self.spec.observation)
        if shapes.get("state") != (self.engine.state_size,):
            raise SpecError(
                f"the spec of {self.spec.environment} observes {shapes}: expected state of shape ({self.engine.state_size},). "
                "Make the environment with privileged=True."
            )
        if self.spec.action.shape != (self.engine.model.nu,):
            raise SpecError(f"{self.spec.action}: expected {self.engine.model.nu} actions, one per actuator.")

    def start(self, observation):
        """The latent at an observed state; sensors as they read without control, which is how an episode starts."""
        latent = self._observed(observation)
        if self.engine.sensor_size == 0:
            return latent
        return latent | {"sensor": self._advance(latent["state"], jnp.zeros((1, self.engine.model.nu)), steps=1)[1][0]}

    def observe(self, latent, previous_action, observation):
        """The latent at an observed state; sensors as the last action made them."""
        if self.engine.sensor_size == 0:
            return self._observed(observation)
        return self._observed(observation) | {"sensor": self.predict(latent, previous_action, jnp.zeros(0))["sensor"]}

    def predict(self, latent, action, noise):
        """The latent one decision later, the action held throughout."""
        return jax.tree.map(lambda x: x[1], self.trajectory(latent, action[None]))

    def trajectory(self, latent, actions: Float[Array, "H A"]):
        """The latents [H+1, ...] of one sequence of normalised actions."""
        states, sensors = self._advance(latent["state"], self.spec.action.denormalise(actions), self.engine.steps)
        held = jax.tree.map(lambda x: jnp.broadcast_to(x, (actions.shape[0] + 1, *x.shape)), latent)
        moving = {"state": states, "sensor": sensors}
        return held | {name: jnp.concatenate([latent[name][None], following]) for name, following in moving.items()}

    def rollout(self, latent, actions: Float[Array, "N H A"]):
        """The latents [N, H+1, ...] of N sequences from one latent, in one call to MuJoCo."""
        return jax.vmap(self.trajectory, in_axes=(None, 0))(latent, actions)

    def draw_noise(self, futures, horizon, *, key):
        """Nothing is left to chance: shape [1, H, 0]."""
        return jnp.zeros((1, horizon, 0))

    def infer_noise(self, latent, action, next_observation):
        """Nothing is left unexplained: shape [0]."""
        return jnp.zeros(0)

    def features(self, latent):
        """Joint positions and velocities, side by side."""
        physics = PhysicalState(self.engine, latent)
        return jnp.concatenate([physics.qpos, physics.qvel])

    def readout(self, latent):
        return self.quantities(PhysicalState(self.engine, latent))

    def _observed(self, observation) -> dict[str, Array]:
        given = {name: jnp.asarray(observation[name], jnp.float32) for name in self.spec.names}
        return given | {"sensor": jnp.zeros(self.engine.sensor_size)}

    def _advance(self, state: Array, control: Array, steps: int) -> tuple[Array, Array]:
        sizes = (state.shape[0], self.engine.sensor_size)
        shapes = tuple(jax.ShapeDtypeStruct((control.shape[0], size), jnp.float32) for size in sizes)
        return jax.pure_callback(partial(_call, self.engine, steps), shapes, state, control, vmap_method="expand_dims")


def _call(engine: Engine, steps: int, state, control):
    """On the host. Only numpy from here on: JAX inside a callback can wait for the very thread it runs on."""
    return engine.advance(np.asarray(state), np.asarray(control), steps)
