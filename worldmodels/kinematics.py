"""Where the bodies of a MuJoCo model are and how fast they move, in JAX, from joint positions and velocities alone.

The recursion is MuJoCo's `mj_kinematics` (documentation, "Computation: Kinematics"), unrolled over the bodies of one model.
Velocities are the directional derivative of positions, by `jax.jvp`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

FREE, BALL, SLIDE, HINGE = (int(getattr(mujoco.mjtJoint, f"mjJNT_{name}")) for name in ("FREE", "BALL", "SLIDE", "HINGE"))


class Frames(NamedTuple):
    """One frame per body, the world first."""

    position: Float[Array, "B 3"]  # metres, of the body's own frame
    rotation: Float[Array, "B 3 3"]  # columns are the body's axes in the world


def multiply(a: Array, b: Array) -> Array:
    """Product of two quaternions (w, x, y, z)."""
    w, v = a[0] * b[0] - a[1:] @ b[1:], a[0] * b[1:] + b[0] * a[1:] + jnp.cross(a[1:], b[1:])
    return jnp.concatenate([w[None], v])


def rotate(quaternion: Array, vector: Array) -> Array:
    """`vector` turned by a unit quaternion."""
    twice = 2 * jnp.cross(quaternion[1:], vector)
    return vector + quaternion[0] * twice + jnp.cross(quaternion[1:], twice)


def frames(model: mujoco.MjModel, qpos: Float[Array, " Q"]) -> Frames:
    """Frame of every body at joint positions `qpos` (metres, radians, quaternions). Motion-capture bodies stay where the model puts them."""
    position, quaternion = [jnp.zeros(3)], [jnp.array([1.0, 0, 0, 0])]
    for body in range(1, model.nbody):
        parent = model.body_parentid[body]
        here = position[parent] + rotate(quaternion[parent], _constant(model.body_pos[body]))
        turn = multiply(quaternion[parent], _constant(model.body_quat[body]))
        first = model.body_jntadr[body]
        for joint in range(first, first + model.body_jntnum[body]):
            here, turn = _move(model, joint, qpos, here, turn)
        position.append(here)
        quaternion.append(turn / jnp.linalg.norm(turn))
    rotation = jax.vmap(lambda q: jax.vmap(rotate, in_axes=(None, 1), out_axes=1)(q, jnp.eye(3)))(jnp.stack(quaternion))
    return Frames(jnp.stack(position), rotation)


def centres(model: mujoco.MjModel, frames: Frames) -> Float[Array, "B 3"]:
    """Centre of mass of every body."""
    return attached(frames, np.arange(model.nbody), model.body_ipos)


def attached(frames: Frames, body: np.ndarray, offset: np.ndarray) -> Float[Array, "N 3"]:
    """World positions of N points fixed to bodies [N] at offsets [N, 3]: sites, geoms, centres of mass."""
    return frames.position[body] + jnp.einsum("nij,nj->ni", frames.rotation[body], _constant(offset))


def subtree_velocity(model: mujoco.MjModel, root: int, qpos: Float[Array, " Q"], qvel: Float[Array, " V"]) -> Float[Array, " 3"]:
    """Velocity of the centre of mass of `root` and all bodies below it, metres per second: MuJoCo's `subtreelinvel` sensor."""
    below = np.zeros(model.nbody, bool)
    for body in range(root, model.nbody):
        below[body] = body == root or below[model.body_parentid[body]]
    weights = _constant(np.where(below, model.body_mass, 0) / model.body_mass[below].sum())

    def centre(qpos):
        return weights @ centres(model, frames(model, qpos))

    return jax.jvp(centre, (qpos,), (rate_of_change(model, qpos, qvel),))[1]


def rate_of_change(model: mujoco.MjModel, qpos: Float[Array, " Q"], qvel: Float[Array, " V"]) -> Float[Array, " Q"]:
    """d qpos / dt. Differs from `qvel` where a joint is a quaternion turning at an angular velocity."""
    parts = []
    for kind, q, v in zip(model.jnt_type, model.jnt_qposadr, model.jnt_dofadr, strict=True):
        if kind in (SLIDE, HINGE):
            parts.append(qvel[v : v + 1])
            continue
        if kind == FREE:
            parts.append(qvel[v : v + 3])
            q, v = q + 3, v + 3
        spin = jnp.concatenate([jnp.zeros(1), qvel[v : v + 3]])
        parts.append(multiply(qpos[q : q + 4], spin) / 2)
    return jnp.concatenate(parts)


def _move(model, joint, qpos, here, turn):
    """A body's frame after one of its joints."""
    kind, address = model.jnt_type[joint], model.jnt_qposadr[joint]
    if kind == FREE:
        return qpos[address : address + 3], qpos[address + 3 : address + 7]
    axis, offset = _constant(model.jnt_axis[joint]), _constant(model.jnt_pos[joint])
    if kind == SLIDE:
        return here + rotate(turn, axis) * (qpos[address] - float(model.qpos0[address])), turn
    if kind == HINGE:
        half = (qpos[address] - float(model.qpos0[address])) / 2
        local = jnp.concatenate([jnp.cos(half)[None], jnp.sin(half) * axis])
    else:
        local = qpos[address : address + 4]
    anchor = here + rotate(turn, offset)
    turn = multiply(turn, local)
    return anchor - rotate(turn, offset), turn


def _constant(values: np.ndarray) -> Array:
    return jnp.asarray(values, jnp.float32)
