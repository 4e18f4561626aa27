"""A joint-embedding predictive architecture from state: predict the representation of what comes next.

LeCun 2022, section 4.3-4.5: an encoder s = Enc(x), a predictor s' = Pred(s, a, z), trained so that the prediction
agrees with the encoding of what was observed, and kept from collapsing by regularisation.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from worldmodels.errors import SpecError
from worldmodels.networks import MLP
from worldmodels.normaliser import Normaliser
from worldmodels.norms import NORMS, check_norm
from worldmodels.spec import DiscreteAction, Spec


@dataclass(frozen=True)
class JEPASettings:
    """Sizes, saved with the weights.

    Attributes:
      latent: size of the representation.
      hidden: width of the two hidden layers of encoder and predictor.
      head: width of the hidden layer of the readout and cost heads.
      expander: output size of the expander the regulariser looks through.
      norm: what latents are normalised by: none, layer or simplex (`worldmodels.norms`).
    """

    latent: int = 64
    hidden: int = 128
    head: int = 128
    expander: int = 128
    norm: str = "none"

    def __post_init__(self):
        check_norm(self.norm, self.latent)
        for name in ("latent", "hidden", "head", "expander"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SpecError(f"JEPA setting {name}={value!r}: expected an integer of at least 1.")


class JEPA(nnx.Module):
    """State encoder, residual latent predictor, and heads that read the latent without shaping it.

    A `WorldModel`; the latent is an array [D]. Deterministic: its noise has shape [0].
    """

    kind = "jepa"

    def __init__(self, spec: Spec, *, seed: int = 0, **settings: Any):
        self.spec = spec
        self.settings = JEPASettings(**settings)
        s, rngs = self.settings, nnx.Rngs(seed)
        actions = self.action_size
        self.normaliser = Normaliser(spec.size)
        self.cost_normaliser = Normaliser(1)
        self.encoder = MLP(spec.size, (s.hidden, s.hidden), s.latent, rngs=rngs)
        scale = 0.1 if self.residual else 1.0
        self.predictor = MLP(s.latent + actions, (s.hidden, s.hidden), s.latent, output_scale=scale, rngs=rngs)
        self.expander = MLP(s.latent, (s.expander,), s.expander, rngs=rngs)
        self.readout_head = MLP(s.latent, (s.head,), spec.size, rngs=rngs)
        self.cost_head = MLP(s.latent + actions, (s.head,), 1, output_scale=0.1, rngs=rngs)

    @property
    def action_size(self) -> int:
        """Components of an action as networks see it, discrete ones one-hot."""
        return self.spec.action.n if isinstance(self.spec.action, DiscreteAction) else self.spec.action.shape[0]

    @property
    def residual(self) -> bool:
        """Whether the predictor adds to the latent; on a simplex it states the next one."""
        return self.settings.norm != "simplex"

    def start(self, observation: dict[str, Array]) -> Float[Array, " D"]:
        return self.encode(self.spec.flatten(observation))

    def observe(self, latent, previous_action, observation):
        return self.start(observation)

    def predict(self, latent: Float[Array, "*B D"], action: Array, noise: Array) -> Float[Array, "*B D"]:
        change = self.predictor(self._with_action(latent, action))
        return NORMS[self.settings.norm](latent + change if self.residual else change)

    def infer_noise(self, latent, action, next_observation):
        return jnp.zeros((0,))

    def features(self, latent: Float[Array, " D"]) -> Float[Array, " D"]:
        return latent

    def readout(self, latent: Float[Array, "*B D"]) -> dict[str, Array]:
        return self.spec.unflatten(self.normaliser.inverse(self.readout_head(latent)))

    def cost(self, latent: Float[Array, "*B D"], action: Array) -> Float[Array, "*B"]:
        """The learned task cost of acting once in this latent, in the data's units (summed over action repeat)."""
        return self.cost_normaliser.inverse(self.cost_head(self._with_action(latent, action)))[..., 0]

    def encode(self, flat: Float[Array, "*B O"]) -> Float[Array, "*B D"]:
        """Latents of flattened observations (`spec.flatten`)."""
        return NORMS[self.settings.norm](self.encoder(self.normaliser(flat)))

    def _with_action(self, latent, action):
        if isinstance(self.spec.action, DiscreteAction):
            action = jax.nn.one_hot(action, self.spec.action.n)
        return jnp.concatenate([latent, action], axis=-1)
