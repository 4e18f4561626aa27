"""Care in imagination: what the model does not know is charged for, in units of the cost's own deviation.

A policy goes otherwise where the model errs in its favour (Yu et al. 2020, "MOPO: Model-based offline policy optimization",
section 4.2; here what is not known is the ensemble's disagreement).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from mpc.costs import OnModel, TaskCost, disagreement
from mpc.intrinsic import combine
from mpc.random_agent import random_action

SAMPLES = 2_000  # latents that are looked at


def cautious(model: Any, cost: TaskCost, latents: PyTree, caution: float, *, key: Array) -> TaskCost:
    """`cost`, and beside it the ensemble's disagreement, so weighted that on average in `latents` it costs `caution` deviations of `cost`.

    `cost` as it is where the model is no ensemble.
    """
    if caution == 0 or getattr(model, "futures", 1) == 1:
        return cost
    number = min(SAMPLES, jax.tree.leaves(latents)[0].shape[0])
    deviation, unknown = _measured(model, cost, latents, key, number=number)
    weight = caution * float(deviation) / max(float(unknown), 1e-12)
    return combine(task=(1.0, cost), unknown=(weight, disagreement()))


@partial(jax.jit, static_argnames="number")
def _measured(model: Any, cost: TaskCost, latents: PyTree, key: Array, *, number: int) -> tuple[Float[Array, ""], Array]:
    """The deviation of the cost, where it is a number, and the mean disagreement, at random actions."""
    which, key = jax.random.split(key)
    at = jax.random.permutation(which, jax.tree.leaves(latents)[0].shape[0])[:number]
    actions = jax.vmap(partial(random_action, model.spec.action))(jax.random.split(key, number))
    picked = jax.tree.map(lambda x: x[at], latents)
    paid = jax.vmap(OnModel(model, cost), in_axes=(0, 0, None))(picked, actions, jnp.zeros((), jnp.int32))
    return jnp.nanstd(jnp.where(jnp.isfinite(paid), paid, jnp.nan)), jax.vmap(model.disagreement)(picked, actions).mean()
