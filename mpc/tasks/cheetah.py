"""Planar cheetah (dm_control `cheetah`): run, and what dm_control does not ask for: run backwards, flip.

Reads `speed` (horizontal velocity of the centre of mass, metres per second), which the environment does not observe; where it
is missing it is computed from `position` and `velocity`, which determine it, and the body's masses. To flip it
reads `velocity`, whose third number is the torso's rate of pitch, forwards (radians per second).
"""

import jax.numpy as jnp

from mpc.tasks.reading import read, suite_model
from mpc.tasks.tolerance import tolerance
from worldmodels.kinematics import subtree_velocity

RUN_SPEED = 10.0
FLIP_SPEED = 5.0


def quantities(physics):
    """As the environment observes, and `speed`."""
    return {"position": physics.qpos[1:], "velocity": physics.qvel, "speed": physics.subtree_velocity("torso")[0]}


def speed(readout):
    """Horizontal velocity of the centre of mass, metres per second."""
    if "speed" in readout:
        return readout["speed"]
    qpos = jnp.concatenate([jnp.zeros(1), read(readout, "position")])
    return subtree_velocity(suite_model("cheetah"), 1, qpos, read(readout, "velocity"))[0]


def run(readout, action, step):
    """In proportion to speed, up to ten metres per second."""
    return -_proportion(speed(readout), RUN_SPEED)


def run_backwards(readout, action, step):
    """In proportion to speed backwards, up to ten metres per second."""
    return -_proportion(-speed(readout), RUN_SPEED)


def flip(readout, action, step):
    """In proportion to how fast the torso turns over forwards, up to five radians per second.

    After the flip of the unsupervised RL benchmark (Laskin et al. 2021, URLB), which pays for angular momentum.
    """
    return -_proportion(read(readout, "velocity")[2], FLIP_SPEED)


def _proportion(value, enough):
    return tolerance(value, (enough, float("inf")), margin=enough, value_at_margin=0, sigmoid="linear")
