"""A world that branches: a boat that a river carries through a strait, where a gust blows from a side that nobody knows before.

The physics is MuJoCo's: two slide joints, the stream's speed along one, a rudder's force and the water's drag across. In the decision
in which the boat passes x = 0, the gust pushes it to the left or to the right. Whoever sails down the middle is thrown onto one of
two rocks; who keeps aside of it by half a metre passes between them, or outside, whichever way the gust blows. The average of both
gusts is none.
"""

# MuJoCo is a compiled module without stubs.
# pyright: reportAttributeAccessIssue=false

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

import worldmodels
from planners import pytree, static

ID = f"{__name__}:Strait-v0"
DECISIONS, SUBSTEPS = 25, 10  # in an episode, of 0.1 s; MuJoCo steps in each
STREAM = 1.0  # m/s
GUST = 28.0  # N, for the length of a decision
RUDDER, DRAG, STEP = 2.5, 4.0, 0.01  # N at most, N s/m, seconds of a MuJoCo step
AHEAD = STREAM * SUBSTEPS * STEP  # metres downstream in a decision
ROCKS, SIZE = (0.4, 0.5), 0.2  # metres downstream, and to both sides; from a rock's middle to where it is touched
XML = f"""
<mujoco model="strait">
  <option timestep="{STEP}" gravity="0 0 0" integrator="implicitfast"/>
  <worldbody>
    <light pos="0 0 4"/>
    <geom name="left" type="sphere" size="{SIZE}" pos="{ROCKS[0]} {ROCKS[1]} 0" contype="0" conaffinity="0"/>
    <geom name="right" type="sphere" size="{SIZE}" pos="{ROCKS[0]} {-ROCKS[1]} 0" contype="0" conaffinity="0"/>
    <body name="boat">
      <joint name="along" type="slide" axis="1 0 0"/>
      <joint name="across" type="slide" axis="0 1 0" damping="{DRAG}"/>
      <geom type="ellipsoid" size="0.1 0.05 0.05" mass="1" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <actuator><motor joint="across" gear="{RUDDER}" ctrllimited="true" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


class Strait(gymnasium.Env):
    """Observes `position` [2], metres downstream and to the left, and `drift` [1], m/s to the left. Acts by the rudder, in [-1, 1]."""

    observation_space = gymnasium.spaces.Dict(
        {
            "position": gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32),
            "drift": gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32),
        }
    )
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    dt = SUBSTEPS * STEP

    def __init__(self):
        self.model = mujoco.MjModel.from_xml_string(XML)
        self.data = mujoco.MjData(self.model)

    def reset(self, *, seed: int | None = None, options: Any = None):
        super().reset(seed=seed)
        x = -0.1 * self.np_random.integers(8, 13) - 0.05  # so that x = 0 is passed in the middle of a decision
        return self.place(x, self.np_random.uniform(-0.3, 0.3), 0.0), {}

    def place(self, x: float, y: float, drift: float) -> dict[str, np.ndarray]:
        """Put the boat there, and see."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = (x, y), (STREAM, drift)
        return self._seen()

    def step(self, action: Any):
        return self.sail(action, self.np_random.choice([-1.0, 1.0]))

    def sail(self, action: Any, side: float):
        """One step, in which a gust, if it blows, blows to `side`."""
        x = self.data.qpos[0]
        self.data.ctrl[:] = action
        self.data.xfrc_applied[1, 1] = side * GUST if x < 0 < x + AHEAD else 0.0
        mujoco.mj_step(self.model, self.data, nstep=SUBSTEPS)
        seen = self._seen()
        return seen, -float(cost(seen, action, 0)), False, False, {}

    def _seen(self) -> dict[str, np.ndarray]:
        return {"position": self.data.qpos.astype(np.float32), "drift": self.data.qvel[1:].astype(np.float32)}


@pytree
class World:
    """The strait itself as a `WorldModel`: the best that a learned one could be. Latents are [3], the position and the drift.

    Its noise [1] is the side to which a gust blows. The integration is MuJoCo's implicitfast, written out for a mass of 1 kg.
    """

    spec: worldmodels.Spec = static()

    def start(self, observation: dict[str, Any]) -> Float[Array, "3"]:
        return jnp.concatenate([observation["position"], observation["drift"]])

    def observe(self, latent: Array, previous_action: Array, observation: dict[str, Any]) -> Float[Array, "3"]:
        return self.start(observation)

    def predict(self, latent: Float[Array, "3"], action: Float[Array, "1"], noise: Float[Array, "1"]) -> Float[Array, "3"]:
        x, y, drift = latent
        blown = jnp.where((x < 0) & (x + AHEAD > 0), noise[0] * GUST, 0.0)
        for _ in range(SUBSTEPS):
            drift = (drift + STEP * (RUDDER * action[0] + blown)) / (1 + STEP * DRAG)
            y = y + STEP * drift
        return jnp.stack([x + AHEAD, y, drift])

    def draw_noise(self, futures: int, horizon: int, *, key: Array) -> Float[Array, "M H 1"]:
        return jax.random.rademacher(key, (futures, horizon, 1), float)

    def infer_noise(self, latent: Array, action: Array, next_observation: dict[str, Any]) -> Float[Array, "1"]:
        expected = self.predict(latent, action, jnp.zeros(1))
        return jnp.sign(next_observation["drift"] - expected[2:])

    def features(self, latent: Array) -> Float[Array, "3"]:
        return latent

    def readout(self, latent: Array) -> dict[str, Array]:
        return {"position": latent[:2], "drift": latent[2:]}


def distance(position: Any) -> Any:
    """Metres [*B] from positions [*B, 2], of numpy or JAX, to the middle of the nearer rock."""
    here = position.__array_namespace__()
    return here.hypot(position[..., 0] - ROCKS[0], abs(position[..., 1]) - ROCKS[1])


def cost(readout: dict[str, Any], action: Any, step: Any) -> Any:
    """Squared metres from the middle of the river, and ten times how near a rock is: 1 at its middle, 0.37 where it is touched."""
    position = readout["position"]
    near = position.__array_namespace__().exp(-((distance(position) / SIZE) ** 2))
    return position[..., 1] ** 2 + 10 * near


gymnasium.register("Strait-v0", f"{__name__}:Strait", max_episode_steps=DECISIONS)
