"""Where the bodies of a MuJoCo model are and how fast they move, in JAX, from joint positions and velocities alone.

The recursion is MuJoCo's `mj_kinematics` (documentation, "Computation: Kinematics"), over the bodies of one model.
Velocities are the directional derivative of positions, by `jax.jvp`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

FREE, BALL, SLIDE, HINGE = (int(getattr(mujoco.mjtJoint, f"mjJNT_{name}")) for name in ("FREE", "BALL", "SLIDE", "HINGE"))
WELD = -1


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
    """Frame of every body at joint positions `qpos` (metres, radians, quaternions). Motion-capture bodies stay where the model puts them.

    A loop over joints, because unrolled it takes XLA half a minute to compile for a walker.
    """
    links, last = _links(model)
    qpos, rest = (jnp.pad(jnp.asarray(values, float), (0, 7)) for values in (qpos, model.qpos0))

    def follow(carry, link):
        position, quaternion, index = carry
        here = position[link.parent] + rotate(quaternion[link.parent], link.offset)
        turn = multiply(quaternion[link.parent], link.turn)
        given = jax.lax.dynamic_slice(qpos, (link.address,), (7,))
        moved = given[0] - rest[link.address]
        half = jnp.where(link.kind == HINGE, moved, 0) / 2
        local = jnp.concatenate([jnp.cos(half)[None], jnp.sin(half) * link.axis])
        local = jnp.where(link.kind == BALL, given[:4], local)
        anchor = here + rotate(turn, link.anchor)
        turned = multiply(turn, local)
        here = jnp.where(link.kind == SLIDE, here + moved * rotate(turn, link.axis), anchor - rotate(turned, link.anchor))
        here = jnp.where(link.kind == FREE, given[:3], here)
        turn = jnp.where(link.kind == FREE, given[3:], turned)
        turn = turn / jnp.linalg.norm(turn)
        return (position.at[index].set(here), quaternion.at[index].set(turn), index + 1), None

    count = len(links.parent)
    start = (jnp.zeros((count + 1, 3)), jnp.zeros((count + 1, 4)).at[:, 0].set(1), 1)
    (position, quaternion, _), _ = jax.lax.scan(follow, start, links)
    rotation = jax.vmap(lambda q: jax.vmap(rotate, in_axes=(None, 1), out_axes=1)(q, jnp.eye(3)))(quaternion[last])
    return Frames(position[last], rotation)


def centres(model: mujoco.MjModel, frames: Frames) -> Float[Array, "B 3"]:
    """Centre of mass of every body."""
    return attached(frames, np.arange(model.nbody), model.body_ipos)


def attached(frames: Frames, body: np.ndarray, offset: np.ndarray) -> Float[Array, "N 3"]:
    """World positions of N points fixed to bodies [N] at offsets [N, 3]: sites, geoms, centres of mass."""
    return frames.position[body] + jnp.einsum("nij,nj->ni", frames.rotation[body], _constant(offset))


def subtree_velocity(
    model: mujoco.MjModel, root: int, qpos: Float[Array, " Q"], qvel: Float[Array, " V"]
) -> Float[Array, " 3"]:
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


class _Link(NamedTuple):
    """One joint, or one body without joints, as arrays over all of them; the world is number 0, the first link number 1."""

    parent: np.ndarray
    offset: np.ndarray  # of the body in its parent's frame; zero for its second joint and on
    turn: np.ndarray
    kind: np.ndarray
    address: np.ndarray
    axis: np.ndarray
    anchor: np.ndarray


def _links(model: mujoco.MjModel) -> tuple[_Link, np.ndarray]:
    """All links in order, and the number of each body's last one."""
    rows, last = [], [0]
    nowhere, straight = np.zeros(3), np.array([1.0, 0, 0, 0])
    for body in range(1, model.nbody):
        joints = range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body])
        parent, offset, turn = last[model.body_parentid[body]], model.body_pos[body], model.body_quat[body]
        for joint in joints:
            axis, anchor = model.jnt_axis[joint], model.jnt_pos[joint]
            rows.append((parent, offset, turn, model.jnt_type[joint], model.jnt_qposadr[joint], axis, anchor))
            parent, offset, turn = len(rows), nowhere, straight
        if not joints:
            rows.append((parent, offset, turn, WELD, 0, nowhere, nowhere))
        last.append(len(rows))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return _Link(*(x.astype(np.int32 if x.dtype.kind in "iu" else np.float32) for x in columns)), np.array(last)


def _constant(values: np.ndarray) -> Array:
    return jnp.asarray(values, float)
