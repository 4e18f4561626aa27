"""Environments by id: Gymnasium's own, dm_control's through shimmy, mazes through gymnasium-robotics.

How physics steps, for those who reproduce an episode with `mujoco.rollout` from a privileged state. Measured on eight tasks of
both kinds, Euler, implicit and RK4:

- One frame is `n_sub_steps` (dm_control) or `frame_skip` (Gymnasium) plain `mj_step`s with the control held. dm_control splits
  them as mj_step2, mj_step …, mj_step1, which moves the same state. Without the solver's warm start, which the full physics state
  leaves out, the rollout strays by 1e-13 a decision, with it (`initial_warmstart`) by nothing; float32 costs 1e-7 to 2e-5.
- After a step dm_control's derived fields (`xpos`, sensors) belong to the new state, Gymnasium's lag one physics step behind. A
  cost on derived fields of a rolled-out state needs `mj_forward` for dm_control.
- What a task writes into the model at reset is not in the state: `target` (reacher, finger) is observed beside it, for the rest
  (finger's damping) take the model from `mujoco()` after `reset`.
"""

# MuJoCo is a compiled module without stubs.
# pyright: reportAttributeAccessIssue=false

from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np

from mpc.errors import EnvironmentFaultError, MPCError, RenderingError, UnsupportedEnvironmentError
from mpc.registry import frames_per_episode, instance, seconds_per_frame
from mpc.rendering import Camera, resized
from mpc.spaces import Field, action_spec, blocked, native_action, observation_fields
from planners.errors import SettingError, require_counts
from worldmodels.spec import Spec

PIXELS, SIZE = "pixels", 64
FULL_PHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS


class Transition(NamedTuple):
    """What one decision led to.

    Attributes:
      observation: name -> array, as `spec` names them.
      cost: negative reward, summed over the action repeat.
      terminated: the environment ended; there is no future.
      truncated: the clock ran out; the future goes on, unseen.
    """

    observation: dict[str, np.ndarray]
    cost: float
    terminated: bool
    truncated: bool


def make(
    id: str, *, action_repeat: int = 1, privileged: bool = False, observe: tuple[str, ...] = (), block: int = 1
) -> "Environment":
    """An environment by its Gymnasium id, or `dm_control/<domain>-<task>-v0` (extra `dmc`).

    Args:
      id: as registered with Gymnasium; `package.module:Name-v0` imports the module first.
      action_repeat: environment steps (frames) one decision lasts; an episode's end cuts it short.
      privileged: observe MuJoCo's full physics state as {"state": [S]}, what a planner on the true simulator sees; with it, for
        tasks that draw a "target" at reset (reacher, finger), {"target": [3]}, in metres.
      observe: the quantities to observe, of those the environment has and "pixels", the picture of `render` at 64 × 64;
        all but the picture if empty.
      block: actions in a decision, one after the other, side by side in one vector [block · A]; each is held for the repeat.

    Raises:
      UnknownEnvironmentError: nothing is registered under `id`; names near matches or the extra to install.
      UnsupportedEnvironmentError: spaces or action bounds that do not fit, `privileged` without MuJoCo, or a quantity to observe
        that is not there.
    """
    require_counts(action_repeat=action_repeat, block=block)
    return Environment(id, action_repeat=action_repeat, privileged=privileged, observe=tuple(observe), block=block)


def make_for(spec: Spec) -> "Environment":
    """The environment that `spec` was taken from, observed and acted on in the same way."""
    observed = make(spec.environment).spec.names
    return make(
        spec.environment,
        action_repeat=spec.action_repeat // spec.action_block,
        observe=() if spec.names == observed else spec.names,
        block=spec.action_block,
    )


class Environment:
    """One instance of an environment behind its `spec`. `copy()` gives another one with the same settings."""

    def __init__(self, id: str, *, action_repeat: int, privileged: bool, observe: tuple[str, ...], block: int):
        self._env = instance(id)
        self._settings = {
            "id": id,
            "action_repeat": action_repeat,
            "privileged": privileged,
            "observe": observe,
            "block": block,
        }
        self._privileged = privileged
        self._camera: Camera | None = None
        self._step: int | None = None  # decisions since reset; None outside an episode
        self._repeat, self._block = action_repeat, block
        fields = self._privileged_fields() if privileged else observation_fields(self._env.observation_space, id)
        self._fields = self._chosen(fields, observe) if observe else fields
        self.spec = Spec(
            environment=id,
            observation=tuple((field.name, tuple(int(n) for n in field.shape)) for field in self._fields),
            action=blocked(action_spec(self._env.action_space, id), block, id),
            action_repeat=action_repeat * block,
            seconds_per_step=seconds_per_frame(self._env) * action_repeat * block,
            units=tuple((field.name, "") for field in self._fields),
            action_block=block,
        )

    @property
    def decisions_per_episode(self) -> int | None:
        """Decisions until the time limit; None where there is none."""
        frames = frames_per_episode(self._env)
        return None if frames is None else -(-frames // self.spec.action_repeat)

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """The first observation of the episode that `seed` (0 … 2³²−1) determines."""
        if not 0 <= seed < 2**32:
            raise SettingError(f"seed={seed}: expected an integer from 0 to 2³²−1.")
        self._step = None
        try:
            raw, _ = self._env.reset(seed=int(seed))
        except Exception as error:  # whatever somebody's simulator raises
            raise EnvironmentFaultError(f"{self.spec.environment}: reset({seed}) raised {error!r}.") from error
        self._step = 0
        return self._observe(raw)

    def step(self, action: Any) -> Transition:
        """Hold one action [A], in environment units (or an integer), for the action repeat.

        Raises `SpecError` for an action that does not fit, `EnvironmentFaultError` outside an episode or for a NaN.
        """
        if self._step is None:
            raise EnvironmentFaultError(f"{self.spec.environment}: step outside an episode. Call reset(seed) first.")
        self.spec.check_action(action)
        parts = [action] if self._block == 1 else np.split(np.asarray(action), self._block)
        natives = [native_action(self._env.action_space, part) for part in parts]
        self._step += 1
        total = 0.0
        raw, terminated, truncated = None, False, False
        for frame in range(self.spec.action_repeat):
            raw, reward, terminated, truncated = self._frame(natives[frame // self._repeat])
            total += reward
            if terminated or truncated:
                break
        if not abs(total) <= float(np.finfo(np.float32).max):
            raise EnvironmentFaultError(
                f"{self.spec.environment}: reward is {total} at step {self._step}. Is the physics stable?"
            )
        observation = self._observe(raw)
        if terminated or truncated:
            self._step = None
        return Transition(observation, -total, terminated, truncated)

    def _frame(self, native: Any) -> tuple[Any, float, bool, bool]:
        """One frame; whatever somebody's simulator raises becomes an `EnvironmentFaultError`, and ends the episode."""
        try:
            raw, reward, terminated, truncated, _ = self._env.step(native)
            return raw, float(reward), bool(terminated), bool(truncated)
        except Exception as error:
            step, self._step = self._step, None
            raise EnvironmentFaultError(f"{self.spec.environment}: step {step} raised {error!r}.") from error

    def render(self, width: int = 320, height: int = 240, behind: np.ndarray | None = None) -> np.ndarray:
        """The present moment as uint8 [height, width, 3]; `RenderingError` where nothing can be drawn.

        Args:
          behind: uint8 [height, width, 3], seen in the place of the sky and of all planes. MuJoCo's environments alone can do that.
        """
        if behind is not None and (behind.shape != (height, width, 3) or behind.dtype != np.uint8):
            raise RenderingError(
                f"behind={behind.dtype} {behind.shape}: expected a picture as large as the frame, uint8 ({height}, {width}, 3)."
            )
        physics = self.mujoco()
        if physics is None:
            if behind is not None:
                raise RenderingError(f"{self.spec.environment} does not run on MuJoCo: leave out behind.")
            return self._render_without_mujoco(width, height)
        if self._camera is None or not self._camera.fits(physics[0], width, height):
            if self._camera is not None:
                self._camera.close()
            self._camera = Camera(physics[0], width, height)
        return self._camera.take(physics[1], behind)

    def mujoco(self) -> tuple[mujoco.MjModel, mujoco.MjData] | None:
        """The live model and data (ask again after each reset), or None for an environment without MuJoCo."""
        env: Any = self._env.unwrapped
        physics = getattr(env, "physics", None)
        if physics is not None:
            return physics.model.ptr, physics.data.ptr
        for holder in (env, getattr(env, "point_env", None), getattr(env, "ant_env", None)):
            model, data = getattr(holder, "model", None), getattr(holder, "data", None)
            if isinstance(model, mujoco.MjModel) and isinstance(data, mujoco.MjData):
                return model, data
        return None

    def angles(self) -> tuple[int, ...]:
        """Places in the flattened observation where the angle of a joint stands that turns without end, radians.

        Found where such a joint's position is observed as it is after three resets; one that always begins at zero is not found.
        Empty without MuJoCo. Leaves this instance as it is.
        """
        if self.mujoco() is None:
            return ()
        looked_at, places = self.copy(), set(range(self.spec.size))
        for seed in range(3):
            seen, physics = np.asarray(self.spec.flatten(looked_at.reset(seed))), looked_at.mujoco()
            assert physics is not None
            model, data = physics
            endless = (model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE) & (model.jnt_limited == 0)
            positions = data.qpos[model.jnt_qposadr[endless]].astype(np.float32)
            places &= {int(place) for place in np.flatnonzero(np.isin(seen, positions[positions != 0]))}
        looked_at.close()
        return tuple(sorted(places))

    def copy(self) -> "Environment":
        """A fresh instance with the same settings, outside any episode."""
        return Environment(**self._settings)

    def close(self) -> None:
        """Release the simulator and the renderer."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
        self._step = None
        self._env.close()

    def _observe(self, raw: Any) -> dict[str, np.ndarray]:
        try:
            observation = {field.name: field.read(raw) for field in self._fields}
        except MPCError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            step, self._step = self._step, None
            raise EnvironmentFaultError(
                f"{self.spec.environment}: what it shows at step {step} is not of its space ({error!r})."
            ) from error
        for field in self._fields:
            value = observation[field.name]
            if value.shape != field.shape:
                raise EnvironmentFaultError(
                    f"{self.spec.environment}: observation[{field.name!r}] has shape {value.shape} at step {self._step}, "
                    f"expected {field.shape} as its space says."
                )
            if value.dtype != np.uint8 and not np.isfinite(value).all():
                raise EnvironmentFaultError(
                    f"{self.spec.environment}: observation[{field.name!r}] is not finite at step {self._step}: {value}. "
                    "Is the physics stable?"
                )
        return observation

    def _chosen(self, fields: tuple[Field, ...], names: tuple[str, ...]) -> tuple[Field, ...]:
        """Those of `fields` that are named, in their order, and the picture."""
        known = [field.name for field in fields]
        unknown = sorted(set(names) - {*known, PIXELS})
        if unknown:
            raise UnsupportedEnvironmentError(
                f"{self._settings['id']}: there is no {', '.join(unknown)} to observe. Expected some of {', '.join([*known, PIXELS])}."
            )
        picture = Field(PIXELS, (), (SIZE, SIZE, 3), lambda _: self.render(SIZE, SIZE))
        return tuple(field for field in (*fields, picture) if field.name in names)

    def _privileged_fields(self) -> tuple[Field, ...]:
        physics = self.mujoco()
        if physics is None:
            raise UnsupportedEnvironmentError(
                f"{self._settings['id']}: privileged=True needs MuJoCo, which this environment does not run on. "
                "Choose a dm_control or Gymnasium MuJoCo task, or leave it False."
            )
        state = Field("state", (), (mujoco.mj_stateSize(physics[0], FULL_PHYSICS.value),), self._physics_state)
        if _fixed_target(physics[0]) is None:
            return (state,)
        return (state, Field("target", (), (3,), self._target))

    def _target(self, _: Any) -> np.ndarray:
        physics = self.mujoco()
        assert physics is not None
        return np.asarray(_fixed_target(physics[0]), np.float32)

    def _physics_state(self, _: Any) -> np.ndarray:
        physics = self.mujoco()
        assert physics is not None
        model, data = physics
        state = np.empty(mujoco.mj_stateSize(model, FULL_PHYSICS.value))
        mujoco.mj_getState(model, data, state, FULL_PHYSICS.value)
        return state.astype(np.float32)

    def _render_without_mujoco(self, width: int, height: int) -> np.ndarray:
        if self._env.render_mode != "rgb_array":
            raise RenderingError(
                f"{self.spec.environment} draws no frames (render modes {self._env.metadata.get('render_modes')})."
            )
        try:
            frame: Any = self._env.render()
        except gymnasium.error.DependencyNotInstalled as error:
            raise RenderingError(f"{self.spec.environment} cannot draw: {error}") from error
        return resized(np.asarray(frame, np.uint8), width, height)


def _fixed_target(model: mujoco.MjModel) -> np.ndarray | None:
    """Where a geom or site named "target" stands in the world, which tasks draw anew at reset; None if there is none, or it moves."""
    for kind, of in ((mujoco.mjtObj.mjOBJ_GEOM, model.geom), (mujoco.mjtObj.mjOBJ_SITE, model.site)):
        if mujoco.mj_name2id(model, kind, "target") >= 0 and of("target").bodyid[0] == 0:
            return of("target").pos
    return None
