"""Two-link arm in the plane (dm_control `reacher`): put the finger, of radius 1 cm, on a target.

Reads `to_target` (metres). The target is drawn anew every episode, so a simulator must observe it (`target`) beside the state.
"""

import jax.numpy as jnp

from mpc.tasks.reading import read
from mpc.tasks.tolerance import tolerance

FINGER_RADIUS = 0.01


def quantities(physics):
    """As the environment observes, from the joints and the episode's target."""
    to_target = physics.observed("target")[:2] - physics.geom("finger")[:2]
    return {"position": physics.qpos, "to_target": to_target, "velocity": physics.qvel}


def easy(readout, action, step):
    """Touching a target of 5 cm radius, or nothing."""
    return _touching(readout, 0.05)


def hard(readout, action, step):
    """Touching a target of 1.5 cm radius, or nothing."""
    return _touching(readout, 0.015)


def _touching(readout, radius):
    return -tolerance(jnp.linalg.norm(read(readout, "to_target")), (0, radius + FINGER_RADIUS))
