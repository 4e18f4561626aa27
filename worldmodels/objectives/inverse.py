"""Inverse dynamics: which action led from one latent to the next (Pathak et al. 2017, section 2.2)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from worldmodels.errors import SpecError
from worldmodels.networks import MLP
from worldmodels.objectives.objective import RANK, Views, Weighted
from worldmodels.spec import DiscreteAction


@dataclass(frozen=True)
class InverseDynamics(Weighted):
    """Keeps in the latents what actions change. Beside another objective.

    Attributes:
      inverse: squared error of the action read from two following latents, or its cross-entropy where discrete.
    """

    inverse: float = 0.5
    guards: ClassVar = {RANK: "inverse"}

    def heads(self, model: Any, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        s = model.settings
        if s.actions == "latent" or not model.action_size:
            raise SpecError(
                "inverse dynamics reads actions, which a model that watches does not look at: take another objective."
            )
        return {"inverse": MLP(2 * s.latent, (s.head,), model.action_size, rngs=rngs)}

    def terms(self, views: Views) -> dict[str, Float[Array, ""]]:
        said = views.heads["inverse"](jnp.concatenate([views.latents[:, :-1], views.latents[:, 1:]], -1))
        if isinstance(views.model.spec.action, DiscreteAction):
            return {"inverse": optax.softmax_cross_entropy_with_integer_labels(said, views.actions).mean()}
        return {"inverse": ((jax.nn.tanh(said) - views.actions) ** 2).mean()}
