"""Cart and pole (dm_control `cartpole`): hold the pole up, near the middle, slowly and with little force.

Reads `position` (cart in metres, cosine and sine of the pole's angle from upright) and `velocity` (metres, radians per second).
"""

import math

import jax.numpy as jnp

from mpc.tasks.reading import read
from mpc.tasks.tolerance import tolerance


def quantities(physics):
    """As the environment observes."""
    pole = physics.rotation("pole_1")
    return {"position": jnp.stack([physics.qpos[0], pole[2, 2], pole[0, 2]]), "velocity": physics.qvel}


def swingup(readout, action, step):
    """Upright, centred, slow and gentle: a product of four soft conditions."""
    cart, cosine, _ = read(readout, "position")
    upright = (cosine + 1) / 2
    centred = (1 + tolerance(cart, margin=2)) / 2
    gentle = (4 + tolerance(action[0], margin=1, value_at_margin=0, sigmoid="quadratic")) / 5
    slow = (1 + tolerance(read(readout, "velocity")[1], margin=5)) / 2
    return -upright * centred * gentle * slow


def swingup_sparse(readout, action, step):
    """Within 25 cm of the middle and six degrees of upright, or nothing; upright a model may read out more than 1."""
    cart, cosine, _ = read(readout, "position")
    return -tolerance(cart, (-0.25, 0.25)) * tolerance(cosine, (0.995, math.inf))


balance = swingup  # the same reward from another start
balance_sparse = swingup_sparse
