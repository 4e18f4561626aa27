"""Ball on a string and a cup that moves (dm_control `ball_in_cup`): catch the ball.

Reads `position`: cup x and z, ball x and z, in metres from where the model puts them.
"""

import jax.numpy as jnp

from mpc.tasks.reading import read

REST = (0.0, 0.35)  # from ball to the cup's opening, both at rest
HALF_WIDTH = 0.05 - 0.025  # the opening's half-width less the ball's radius


def quantities(physics):
    """As the environment observes."""
    return {"position": physics.qpos, "velocity": physics.qvel}


def catch(readout, action, step):
    """The ball is inside the cup, or nothing."""
    position = read(readout, "position")
    ball_to_target = jnp.asarray(REST) + position[:2] - position[2:]
    return -jnp.all(jnp.abs(ball_to_target) < HALF_WIDTH).astype(jnp.float32)
