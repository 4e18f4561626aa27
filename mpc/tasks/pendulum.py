"""Pendulum (dm_control `pendulum`), too weak to be lifted in one go.

Reads `orientation` (cosine and sine of the angle from upright).
"""

import math

import jax.numpy as jnp

from mpc.tasks.reading import read
from mpc.tasks.tolerance import tolerance


def quantities(physics):
    """As the environment observes."""
    pole = physics.rotation("pole")
    return {"orientation": jnp.stack([pole[2, 2], pole[0, 2]]), "velocity": physics.qvel}


def swingup(readout, action, step):
    """Within eight degrees of upright, or nothing; upright a model may read out more than 1."""
    return -tolerance(read(readout, "orientation")[0], (math.cos(math.radians(8)), math.inf))
