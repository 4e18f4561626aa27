"""Planar hopper (dm_control `hopper`): stand on one leg, hop.

Reads `height` (of torso over foot, metres) and `speed` (horizontal velocity of the centre of mass, metres per second), which the
environment does not observe; where they are missing they are computed from `position` and `velocity` and the body's masses.
"""

import jax.numpy as jnp

from mpc.tasks.reading import read, suite_model
from mpc.tasks.tolerance import tolerance
from worldmodels import kinematics

STAND_HEIGHT = 0.6
HOP_SPEED = 2.0


def quantities(physics):
    """As the environment observes, with `height` and `speed`."""
    touch = jnp.concatenate([physics.sensor("touch_toe"), physics.sensor("touch_heel")])
    return {
        "position": physics.qpos[1:],
        "velocity": physics.qvel,
        "touch": jnp.log1p(touch),
        "height": physics.centre("torso")[2] - physics.centre("foot")[2],
        "speed": physics.subtree_velocity("torso")[0],
    }


def height(readout):
    """Of the torso's centre of mass over the foot's, metres."""
    if "height" in readout:
        return readout["height"]
    model = suite_model("hopper")
    centres = kinematics.centres(model, kinematics.frames(model, _joints(readout)))
    return centres[model.body("torso").id, 2] - centres[model.body("foot").id, 2]


def speed(readout):
    """Horizontal velocity of the centre of mass, metres per second."""
    if "speed" in readout:
        return readout["speed"]
    return kinematics.subtree_velocity(suite_model("hopper"), 1, _joints(readout), read(readout, "velocity"))[0]


def stand(readout, action, step):
    """Torso high over the foot, with little force."""
    gentle = tolerance(action, margin=1, value_at_margin=0, sigmoid="quadratic").mean()
    return -_standing(readout) * (gentle + 4) / 5


def hop(readout, action, step):
    """Torso high over the foot, and moving at two metres per second or more."""
    bounds = (HOP_SPEED, float("inf"))
    return -_standing(readout) * tolerance(speed(readout), bounds, margin=HOP_SPEED / 2, value_at_margin=0.5, sigmoid="linear")


def _standing(readout):
    return tolerance(height(readout), (STAND_HEIGHT, 2))


def _joints(readout):
    return jnp.concatenate([jnp.zeros(1), read(readout, "position")])
