"""Planar walker (dm_control `walker`): stand, walk, run, and run backwards, which dm_control does not ask for.

Reads `height` (of the torso, metres) and `orientations` (cosine and sine of the pitch of every body, the torso first). To walk
and run also `horizontal_velocity` (of the centre of mass, metres per second), which the environment does not observe; where it
is missing it is computed from these, `velocity` and the body's masses.
"""

import jax.numpy as jnp

from mpc.tasks.reading import read, suite_model
from mpc.tasks.tolerance import tolerance
from worldmodels.kinematics import subtree_velocity

STAND_HEIGHT = 1.2
WALK_SPEED = 1.0
RUN_SPEED = 8.0
TORSO_HEIGHT = 1.3  # where the model puts the torso at joint position zero


def quantities(physics):
    """As the environment observes, and `horizontal_velocity`."""
    rotations = physics.frames.rotation[1:]
    return {
        "orientations": rotations[:, 0, jnp.array([0, 2])].reshape(-1),
        "height": physics.body("torso")[2],
        "velocity": physics.qvel,
        "horizontal_velocity": physics.subtree_velocity("torso")[0],
    }


def horizontal_velocity(readout):
    """Of the centre of mass, metres per second."""
    if "horizontal_velocity" in readout:
        return readout["horizontal_velocity"]
    cosine, sine = read(readout, "orientations").reshape(-1, 2).T
    torso, thigh, leg, foot, left_thigh, left_leg, left_foot = jnp.arctan2(sine, cosine)
    joints = [torso - thigh, thigh - leg, leg - foot, torso - left_thigh, left_thigh - left_leg, left_leg - left_foot]
    height = jnp.reshape(read(readout, "height"), ())
    qpos = jnp.stack([height - TORSO_HEIGHT, jnp.zeros(()), torso, *joints])
    return subtree_velocity(suite_model("walker"), 1, qpos, read(readout, "velocity"))[0]


def stand(readout, action, step):
    """Torso high and upright."""
    return -_standing(readout)


def walk(readout, action, step):
    """Standing, and moving at one metre per second or more."""
    return -_standing(readout) * _moving(readout, WALK_SPEED)


def run(readout, action, step):
    """Standing, and moving at eight metres per second or more."""
    return -_standing(readout) * _moving(readout, RUN_SPEED)


def run_backwards(readout, action, step):
    """Standing, and moving backwards at eight metres per second or more."""
    return -_standing(readout) * _moving(readout, RUN_SPEED, forwards=-1)


def _standing(readout):
    height = jnp.reshape(read(readout, "height"), ())
    high = tolerance(height, (STAND_HEIGHT, float("inf")), margin=STAND_HEIGHT / 2)
    upright = (1 + read(readout, "orientations")[0]) / 2
    return (3 * high + upright) / 4


def _moving(readout, speed, forwards=1):
    bounds = (speed, float("inf"))
    velocity = forwards * horizontal_velocity(readout)
    moving = tolerance(velocity, bounds, margin=speed / 2, value_at_margin=0.5, sigmoid="linear")
    return (5 * moving + 1) / 6
