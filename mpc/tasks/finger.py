"""Two-link finger and a body it can flick (dm_control `finger`): make the body spin.

Reads `velocity`: both finger joints and the spinner's hinge, in radians per second.
"""

import jax.numpy as jnp

from mpc.tasks.reading import read

SPIN_SPEED = 15.0  # radians per second, in the negative direction


def quantities(physics):
    """As the environment observes."""
    tip = physics.site("tip") - physics.body("spinner")
    touch = jnp.concatenate([physics.sensor("touchtop"), physics.sensor("touchbottom")])
    return {
        "position": jnp.concatenate([physics.qpos[:2], tip[jnp.array([0, 2])]]),
        "velocity": physics.qvel,
        "touch": jnp.log1p(touch),
    }


def spin(readout, action, step):
    """Spinning fast enough, or nothing."""
    return -(read(readout, "velocity")[2] <= -SPIN_SPEED).astype(jnp.float32)
