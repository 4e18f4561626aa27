"""A joint-embedding predictive architecture: predict the representation of what comes next.

LeCun 2022, section 4.3-4.5: an encoder s = Enc(x), a predictor s' = Pred(s, a, z), trained so that the prediction
agrees with the encoding of what was observed, and kept from collapsing by regularisation.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from worldmodels.data.windows import Window
from worldmodels.encoders import MEMORIES, Convolution
from worldmodels.encoders.memory import remember
from worldmodels.errors import SpecError
from worldmodels.networks import MLP
from worldmodels.normaliser import Normaliser
from worldmodels.norms import NORMS, check_norm
from worldmodels.predictors import PREDICTORS
from worldmodels.spec import DiscreteAction, Spec

SIZES = ("latent", "hidden", "head", "expander", "history")


@dataclass(frozen=True)
class JEPASettings:
    """Parts by name and their sizes, saved with the weights.

    Attributes:
      latent: size of the representation.
      hidden: width of the two hidden layers of encoder and predictor.
      head: width of the hidden layer of the readout and cost heads.
      expander: output size of the expander the regulariser looks through.
      norm: what latents are normalised by: none, layer or simplex (`worldmodels.norms`).
      predictor: residual, gated or transformer (`worldmodels.predictors`).
      memory: none, stack or recurrent (`worldmodels.encoders`), for worlds that one observation does not show whole.
      history: observations in a stack; training steps that a recurrent memory is given to settle.
    """

    latent: int = 64
    hidden: int = 128
    head: int = 128
    expander: int = 128
    norm: str = "none"
    predictor: str = "residual"
    memory: str = "none"
    history: int = 4

    def __post_init__(self):
        check_norm(self.norm, self.latent)
        for name, known in (("predictor", PREDICTORS), ("memory", {"none": None, **MEMORIES})):
            if getattr(self, name) not in known:
                raise SpecError(f"JEPA setting {name}={getattr(self, name)!r}: expected one of {', '.join(known)}.")
        for name in SIZES:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SpecError(f"JEPA setting {name}={value!r}: expected an integer of at least 1.")


class Remembered(NamedTuple):
    """The latent of a model with a memory. Imagination moves the state alone; observing updates both."""

    state: Float[Array, "*B D"]
    memory: PyTree


class JEPA(nnx.Module):
    """Encoder, latent predictor, and heads that read the latent without shaping it.

    A `WorldModel`; the latent is an array [D], or `Remembered` with a memory. Vectors are encoded side by side, each image
    through a convolution beside them. Deterministic: its noise has shape [0].
    """

    kind = "jepa"

    def __init__(self, spec: Spec, *, seed: int = 0, **settings: Any):
        self.spec = spec
        self.settings = JEPASettings(**settings)
        s, rngs = self.settings, nnx.Rngs(seed)
        actions = self.action_size
        self.normaliser = Normaliser(spec.size)
        self.cost_normaliser = Normaliser(1)
        self.eyes = nnx.Dict({name: Convolution(dict(spec.observation)[name], s.hidden, rngs=rngs) for name in spec.images})
        seen = spec.size + s.hidden * len(spec.images)
        remembers = s.memory != "none"
        self.memory = MEMORIES[s.memory](seen, actions, s.hidden, s.history, rngs=rngs) if remembers else None
        looked_at = seen if self.memory is None else self.memory.size
        self.encoder = MLP(looked_at, (s.hidden, s.hidden), s.latent, rngs=rngs)
        scale = 0.1 if self.residual else 1.0
        self.predictor = PREDICTORS[s.predictor](s.latent, actions, s.hidden, output_scale=scale, rngs=rngs)
        self.expander = MLP(s.latent, (s.expander,), s.expander, rngs=rngs)
        self.readout_head = MLP(s.latent, (s.head,), max(spec.size, 1), rngs=rngs)  # of a model of images alone it says nothing
        self.cost_head = MLP(s.latent + actions, (s.head,), 1, output_scale=0.1, rngs=rngs)

    @property
    def action_size(self) -> int:
        """Components of an action as networks see it, discrete ones one-hot."""
        return self.spec.action.n if isinstance(self.spec.action, DiscreteAction) else self.spec.action.shape[0]

    @property
    def residual(self) -> bool:
        """Whether the predictor adds to the latent; on a simplex it states the next one."""
        return self.settings.norm != "simplex"

    @property
    def context(self) -> int:
        """Steps of a window before its latents know what they would know in the middle of an episode."""
        return {"none": 0, "stack": self.settings.history - 1, "recurrent": self.settings.history}[self.settings.memory]

    def start(self, observation: dict[str, Array]) -> Any:
        seen = self._see(self.spec.flatten(observation), {name: observation[name] for name in self.spec.images})
        return self._encoded(seen) if self.memory is None else self._remembered(self.memory.begin(seen))

    def observe(self, latent: Any, previous_action: Array, observation: dict[str, Array]) -> Any:
        if self.memory is None:
            return self.start(observation)
        seen = self._see(self.spec.flatten(observation), {name: observation[name] for name in self.spec.images})
        return self._remembered(self.memory.update(latent.memory, self.action_vector(previous_action), seen))

    def predict(self, latent: Any, action: Array, noise: Array) -> Any:
        state = self.features(latent)
        change = self.predictor(self._with_action(state, action))
        following = NORMS[self.settings.norm](state + change if self.residual else change)
        return latent._replace(state=following) if isinstance(latent, Remembered) else following

    def infer_noise(self, latent, action, next_observation):
        return jnp.zeros((0,))

    def features(self, latent: Any) -> Float[Array, "*B D"]:
        return latent.state if isinstance(latent, Remembered) else latent

    def readout(self, latent: Any) -> dict[str, Array]:
        said = self.readout_head(self.features(latent))[..., : self.spec.size]
        return self.spec.unflatten(self.normaliser.inverse(said))

    def cost(self, latent: Any, action: Array) -> Float[Array, "*B"]:
        """The learned task cost of acting once in this latent, in the data's units (summed over action repeat)."""
        return self.cost_normaliser.inverse(self.cost_head(self._with_action(self.features(latent), action)))[..., 0]

    def encode(self, flat: Float[Array, "*B O"]) -> Float[Array, "*B D"]:
        """Latents of flattened observations (`spec.flatten`), each as the first of an episode. For models without images."""
        if self.spec.images:
            raise SpecError(
                f"encode(flat) of a model that looks at {self.spec.images}: use start(observation) or perceive(window)."
            )
        seen = self.normaliser(flat)
        return self._encoded(seen) if self.memory is None else self._remembered(self.memory.begin(seen)).state

    def perceive(self, window: Window) -> Float[Array, "B L+1 D"]:
        """Latents of windows, as `start` and `observe` would make them if each were an episode."""
        seen = self._see(window.observations, window.frames or {})
        if self.memory is None:
            return self._encoded(seen)
        return self._encoded(remember(self.memory, seen, self.action_vector(window.actions)))

    def action_vector(self, action: Array) -> Float[Array, "*B A"]:
        """A normalised action as networks see it."""
        return jax.nn.one_hot(action, self.spec.action.n) if isinstance(self.spec.action, DiscreteAction) else action

    def _see(self, flat: Float[Array, "*B O"], frames: dict[str, Array]) -> Float[Array, "*B S"]:
        return jnp.concatenate([self.normaliser(flat), *(eye(frames[name]) for name, eye in self.eyes.items())], -1)

    def _encoded(self, looked_at: Float[Array, "*B R"]) -> Float[Array, "*B D"]:
        return NORMS[self.settings.norm](self.encoder(looked_at))

    def _remembered(self, memory: PyTree) -> Remembered:
        assert self.memory is not None
        return Remembered(self._encoded(self.memory.read(memory)), memory)

    def _with_action(self, state: Float[Array, "*B D"], action: Array) -> Float[Array, "*B I"]:
        return jnp.concatenate([state, self.action_vector(action)], axis=-1)
