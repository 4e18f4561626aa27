"""A joint-embedding predictive architecture: predict the representation of what comes next.

LeCun 2022, section 4.3-4.5: an encoder s = Enc(x), a predictor s' = Pred(s, a, z), trained so that the prediction
agrees with the encoding of what was observed, and kept from collapsing by regularisation.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PyTree

from worldmodels.data.windows import Window
from worldmodels.encoders import MEMORIES, Convolution
from worldmodels.encoders.memory import remember
from worldmodels.errors import SpecError
from worldmodels.latent_variables import LATENT_VARIABLES
from worldmodels.networks import MLP
from worldmodels.normaliser import Normaliser
from worldmodels.norms import NORMS, check_norm
from worldmodels.predictors import PREDICTORS, stacked
from worldmodels.spec import DiscreteAction, Spec
from worldmodels.uncertain import Uncertain

SIZES = ("latent", "hidden", "head", "expander", "history", "noise_size", "members")
ACTIONS = ("given", "latent", "translated")


@dataclass(frozen=True)
class JEPASettings:
    """Parts by name and their sizes, saved with the weights.

    Attributes:
      latent: size of the representation.
      hidden: width of the two hidden layers of encoder and predictor.
      head: width of the hidden layer of the readout and cost heads.
      expander: output size of the expander the regulariser looks through.
      direct: whether latents begin with the numbers that are seen, each in its deviations, to be predicted and read out as they are.
        Nothing of them is lost then, what does not matter least of all; prediction alone keeps what is easy to foresee. Where nothing
        else is seen, the rest of a predicted latent is what the encoder makes of the predicted numbers.
      norm: what latents are normalised by: none, layer or simplex (`worldmodels.norms`).
      predictor: residual, gated or transformer (`worldmodels.predictors`).
      memory: none, stack or recurrent (`worldmodels.encoders`), for worlds that one observation does not show whole.
      history: observations that a memory is made of, the newest among them.
      noise: none, gaussian, sparse or quantised (`worldmodels.latent_variables`): what stands for what cannot be known.
      noise_size: components of it, or codes where quantised.
      members: predictors in an ensemble, each trained on its share of every batch.
      periodic: places in the flattened observation that are seen with their sine and cosine beside, so that an angle in radians
        that turns without end looks the same every turn (`Environment.angles`); True for all of them.
      circles: pairs of places in the flattened observation that are the cosine and the sine of one angle (`worldmodels.circles`); in
        direct latents they are kept so.
      actions: given; latent, where z stands for them and none is looked at; or translated, where a network says which z an
        action amounts to (`worldmodels.action_free`).
    """

    latent: int = 64
    hidden: int = 128
    head: int = 128
    expander: int = 128
    direct: bool = False
    norm: str = "none"
    predictor: str = "residual"
    memory: str = "none"
    history: int = 4
    noise: str = "none"
    noise_size: int = 2
    members: int = 1
    periodic: bool | tuple[int, ...] = False
    circles: tuple[tuple[int, int], ...] = ()
    actions: str = "given"

    def __post_init__(self):
        if isinstance(self.periodic, list):  # as it is read from a manifest
            object.__setattr__(self, "periodic", tuple(self.periodic))
        pairs = self.circles if isinstance(self.circles, list | tuple) else (self.circles,)
        if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
            raise SpecError(f"JEPA setting circles={self.circles}: expected pairs of places in the flattened observation.")
        object.__setattr__(self, "circles", tuple(tuple(pair) for pair in pairs))
        check_norm(self.norm, self.latent)
        choices = (
            ("predictor", {*PREDICTORS}),
            ("memory", {"none", *MEMORIES}),
            ("noise", {"none", *LATENT_VARIABLES}),
            ("actions", ACTIONS),
        )
        for name, known in choices:
            if getattr(self, name) not in known:
                raise SpecError(f"JEPA setting {name}={getattr(self, name)!r}: expected one of {', '.join(sorted(known))}.")
        if self.direct and (self.norm != "none" or self.memory != "none"):
            raise SpecError(
                f"JEPA setting direct=True with norm={self.norm!r}, memory={self.memory!r}: expected none of both, "
                "since latents begin with what is seen at one moment, as it is."
            )
        if self.circles and not self.direct:
            raise SpecError(
                f"JEPA setting circles={self.circles}: expected direct=True, since latents hold no numbers without."
            )
        if self.actions != "given" and self.noise == "none":
            raise SpecError(
                f"JEPA setting actions={self.actions!r} with noise='none': expected a noise that stands for actions."
            )
        for name in SIZES:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SpecError(f"JEPA setting {name}={value!r}: expected an integer of at least 1.")


class Remembered(NamedTuple):
    """The latent of a model with a memory. Imagination moves the state alone; observing updates both."""

    state: Float[Array, "*B D"]
    memory: PyTree


class First(nnx.Module):
    """The first components as they are."""

    def __init__(self, size: int):
        self.size = size

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B N"]:
        return x[..., : self.size]


class JEPA(Uncertain, nnx.Module):
    """Encoder, latent predictor, and heads that read the latent without shaping it.

    A `WorldModel`; the latent is an array [D], or `Remembered` with a memory. Vectors are encoded side by side, each image
    through a convolution beside them. Its noise is [Z], the latent variable and behind it, in an ensemble, the member's number;
    [0] where it is deterministic.
    """

    kind = "jepa"

    def __init__(self, spec: Spec, *, seed: int = 0, **settings: Any):
        self.spec = spec
        self.settings = JEPASettings(**settings)
        s, rngs = self.settings, nnx.Rngs(seed)
        actions = self.action_size
        self.normaliser = Normaliser(spec.size)
        self.cost_normaliser = Normaliser(1)
        shapes = dict(spec.observation)
        self.eyes = nnx.Dict({name: Convolution(shapes[name], s.hidden, name=name, rngs=rngs) for name in spec.images})
        if not set(self.turning) <= set(range(spec.size)):
            raise SpecError(
                f"JEPA setting periodic={s.periodic}: expected places in the flattened observation, from 0 to {spec.size - 1}."
            )
        paired = [place for pair in s.circles for place in pair]
        if not set(paired) <= set(range(spec.size)) or len(set(paired)) < len(paired):
            raise SpecError(
                f"JEPA setting circles={s.circles}: expected pairs of places in the flattened observation, from 0 to "
                f"{spec.size - 1}, none of them twice."
            )
        seen = spec.size + 2 * len(self.turning) + s.hidden * len(spec.images)
        remembers = s.memory != "none"
        self.memory = MEMORIES[s.memory](seen, actions, s.hidden, s.history, rngs=rngs) if remembers else None
        looked_at = seen if self.memory is None else self.memory.size
        if self.numbers >= s.latent:
            raise SpecError(
                f"JEPA setting latent={s.latent} with direct=True: expected more than the {self.numbers} numbers that are seen."
            )
        self.encoder = MLP(looked_at, (s.hidden, s.hidden), s.latent - self.numbers, rngs=rngs)
        scale = 0.1 if self.residual else 1.0
        inputs = s.noise_size if s.actions != "given" else actions + (s.noise_size if s.noise != "none" else 0)
        members = [PREDICTORS[s.predictor](s.latent, inputs, s.hidden, output_scale=scale, rngs=rngs) for _ in range(s.members)]
        self.predictor = members[0] if s.members == 1 else stacked(members)
        self.expander = MLP(s.latent, (s.expander,), s.expander, rngs=rngs)
        says = max(spec.size, 1)  # of a model of images alone it says nothing
        self.readout_head = First(says) if s.direct else MLP(s.latent, (s.head,), says, rngs=rngs)
        self.cost_head = MLP(s.latent + actions, (s.head,), 1, output_scale=0.1, rngs=rngs)
        translated = s.actions == "translated"
        self.translator = MLP(s.latent + actions, (s.head,), s.noise_size, rngs=rngs) if translated else None
        coded = s.noise == "quantised" and s.actions == "given"
        self.prior = MLP(s.latent + actions, (s.head,), s.noise_size, output_scale=0.1, rngs=rngs) if coded else None

    @property
    def turning(self) -> tuple[int, ...]:
        """Places in the flattened observation that are seen with their sine and cosine."""
        periodic = self.settings.periodic
        return tuple(range(self.spec.size if periodic else 0)) if isinstance(periodic, bool) else periodic

    @property
    def numbers(self) -> int:
        """Components that latents begin with which are seen as they are."""
        return self.spec.size + 2 * len(self.turning) if self.settings.direct else 0

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
        return 0 if self.memory is None else self.settings.history - 1

    def start(self, observation: dict[str, Array]) -> Any:
        seen = self._see(self.spec.flatten(observation), {name: observation[name] for name in self.spec.images})
        return self._encoded(seen) if self.memory is None else self._remembered(self.memory.begin(seen))

    def observe(self, latent: Any, previous_action: Array, observation: dict[str, Array]) -> Any:
        if self.memory is None:
            return self.start(observation)
        seen = self._see(self.spec.flatten(observation), {name: observation[name] for name in self.spec.images})
        return self._remembered(self.memory.update(latent.memory, self.action_vector(previous_action), seen))

    def predict(self, latent: Any, action: Array, noise: Array) -> Any:
        if noise.shape[-1:] != (self.noise_size,):
            raise SpecError(f"noise of shape {noise.shape}: expected [{self.noise_size}]. Draw it with model.draw_noise(...).")
        ensemble = self.settings.members > 1
        z, member = (noise[..., :-1], noise[..., -1].astype(jnp.int32)) if ensemble else (noise, None)
        state, variable = self.features(latent), self.latent_variable
        if variable is not None:
            z = variable.of(z, self.log_prior(state, action, variable.size))
        following = self.following(state, action, z, member)
        return latent._replace(state=following) if isinstance(latent, Remembered) else following

    def following(
        self, state: Float[Array, "*B D"], action: Array, z: Float[Array, "*B Z"], member: Any
    ) -> Float[Array, "*B D"]:
        """The next state, under z and by one member of the ensemble (a scalar; None where there is but one)."""
        return self.settled(self.foreseen(state, action, z, member))

    def foreseen(
        self, state: Float[Array, "*B D"], action: Array, z: Float[Array, "*B Z"], member: Any
    ) -> Float[Array, "*B D"]:
        """The next state as the predictor has it: of a direct model the encoding is foreseen beside the numbers."""
        predictor = self.predictor if member is None else jax.tree.map(lambda x: x[member], self.predictor)
        if self.translator is not None:
            inputs = self.translator(self._with_action(state, action))
        else:
            z = jnp.broadcast_to(z, (*state.shape[:-1], z.shape[-1]))
            inputs = z if self.settings.actions == "latent" else jnp.concatenate([self.action_vector(action), z], -1)
        change = predictor(jnp.concatenate([state, inputs], -1))
        return self._possible(NORMS[self.settings.norm](state + change if self.residual else change))

    def settled(self, foreseen: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """The state to go on from: where the numbers say all, them and what the encoder makes of them, which does not drift off."""
        known = self.numbers and not self.spec.images
        return self._encoded(foreseen[..., : self.numbers]) if known else foreseen

    def log_prior(self, state: Float[Array, "*B D"], action: Array, candidates: int) -> Float[Array, "*B K"]:
        """How likely each of the candidates for z is, before what follows is seen: by the prior where z is a code, otherwise alike."""
        if self.prior is None:
            return jnp.full((*state.shape[:-1], candidates), -math.log(candidates))
        return jax.nn.log_softmax(self.prior(self._with_action(state, action)))

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
        seen = self._see(flat, {})
        return self._encoded(seen) if self.memory is None else self._remembered(self.memory.begin(seen)).state

    def perceive(self, window: Window) -> Float[Array, "B L+1 D"]:
        """Latents of windows, as `start` and `observe` would make them if each were an episode."""
        seen = self._see(window.observations, window.frames or {})
        if self.memory is None:
            return self._encoded(seen)
        return self._encoded(remember(self.memory, seen, self.action_vector(window.actions)))

    def action_vector(self, action: Array) -> Float[Array, "*B A"]:
        """A normalised action as networks see it; nothing where it is latent."""
        if self.settings.actions == "latent":
            return jnp.zeros((*action.shape[: action.ndim - len(self.spec.action.shape)], self.action_size))
        return jax.nn.one_hot(action, self.spec.action.n) if isinstance(self.spec.action, DiscreteAction) else action

    def _see(self, flat: Float[Array, "*B O"], frames: dict[str, Array]) -> Float[Array, "*B S"]:
        return jnp.concatenate([self._numbers(flat), *(eye(frames[name]) for name, eye in self.eyes.items())], -1)

    def _numbers(self, flat: Float[Array, "*B O"]) -> Float[Array, "*B N"]:
        """What is seen but pictures."""
        turning = flat[..., np.array(self.turning, int)]
        return jnp.concatenate([self.normaliser(flat), jnp.sin(turning), jnp.cos(turning)], -1)

    def _possible(self, state: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """With the numbers it begins with held to the range that the data showed: nothing else keeps a long imagination within."""
        if not self.numbers:
            return state
        turns = jnp.ones(2 * len(self.turning))
        low, high = self.normaliser(self.normaliser.low[...]), self.normaliser(self.normaliser.high[...])
        numbers = jnp.clip(state[..., : self.numbers], jnp.concatenate([low, -turns]), jnp.concatenate([high, turns]))
        return jnp.concatenate([self._on_circles(numbers), state[..., self.numbers :]], -1)

    def _on_circles(self, numbers: Float[Array, "*B N"]) -> Float[Array, "*B N"]:
        """With pairs that are the cosine and the sine of one angle at radius 1: foreseen each by itself, they leave it step by step."""
        if not self.settings.circles:
            return numbers
        pairs, seen = np.array(self.settings.circles), self.normaliser.inverse(numbers[..., : self.spec.size])
        on = seen[..., pairs]
        squared = jnp.maximum((on**2).sum(-1, keepdims=True), 0.01)  # in the middle any angle would do, and slopes are steep
        seen = seen.at[..., pairs].set(on / jnp.sqrt(squared))
        return jnp.concatenate([self.normaliser(seen), numbers[..., self.spec.size :]], -1)

    def _encoded(self, looked_at: Float[Array, "*B R"]) -> Float[Array, "*B D"]:
        encoded = NORMS[self.settings.norm](self.encoder(looked_at))
        return jnp.concatenate([looked_at[..., : self.numbers], encoded], -1)

    def _remembered(self, memory: PyTree) -> Remembered:
        assert self.memory is not None
        return Remembered(self._encoded(self.memory.read(memory)), memory)

    def _with_action(self, state: Float[Array, "*B D"], action: Array) -> Float[Array, "*B I"]:
        return jnp.concatenate([state, self.action_vector(action)], axis=-1)
