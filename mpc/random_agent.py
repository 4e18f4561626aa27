"""Agents that look at nothing: the data before there is a model, and the row every other agent is compared with."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mpc.decision import Decision
from planners import pytree, static
from planners.errors import SettingError, require_counts
from planners.noise import coloured_noise
from worldmodels.spec import DiscreteAction, Spec


def random_action(action: Any, key: Array) -> Array:
    """A normalised action, uniform over the box, or over the integers."""
    if isinstance(action, DiscreteAction):
        return jax.random.randint(key, (), 0, action.n)
    return jax.random.uniform(key, action.shape, minval=-1.0, maxval=1.0)


@pytree
class RandomAgent:
    """Every action uniform over the box or the integers, independent of the last."""

    spec: Spec = static()

    def reset(self, observation: dict[str, Any]) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def act(self, state: tuple[()], observation: dict[str, Any], *, elapsed: Any = 1.0, explore: bool = False, key: Array):
        """A `Decision` with the action alone, and the empty state."""
        return Decision(self.spec.action.denormalise(random_action(self.spec.action, key))), state


@pytree
class PinkState:
    """Noise drawn ahead, and how much of it is used up."""

    noise: Float[Array, "L A"]
    position: Int[Array, ""]


@pytree
class PinkAgent:
    """Uniform actions again, but each resembles the ones before it, so that the environment is pushed further.

    Coloured noise of one frequency law (Eberhard et al. 2023, "Pink noise is all you need") goes through the normal
    distribution function, which leaves every action uniform; integers are the largest of n such noises.

    Attributes:
      exponent: of the power law; 0 is `RandomAgent`, 1 pink, 2 brown.
      length: decisions drawn at once; correlation reaches no further.
    """

    spec: Spec = static()
    exponent: float = static(default=1.0)
    length: int = static(default=256)

    def __post_init__(self):
        require_counts(length=self.length)
        if not 0 <= self.exponent <= 4:
            raise SettingError(f"exponent={self.exponent}: expected a number from 0 (white) to 4.")

    @property
    def _channels(self) -> int:
        action = self.spec.action
        return action.n if isinstance(action, DiscreteAction) else action.shape[0]

    def reset(self, observation: dict[str, Any]) -> PinkState:
        """A state whose noise is used up: the first decision draws it."""
        return PinkState(jnp.zeros((self.length, self._channels), jnp.float32), jnp.asarray(self.length, jnp.int32))

    def act(self, state: PinkState, observation: dict[str, Any], *, elapsed: Any = 1.0, explore: bool = False, key: Array):
        """The next of the noise as a `Decision`, and the state one further on."""
        noise, position = jax.lax.cond(
            state.position >= self.length,
            lambda: (coloured_noise(1, self.length, self._channels, self.exponent, key=key)[0], jnp.zeros_like(state.position)),
            lambda: (state.noise, state.position),
        )
        now, action = noise[position], self.spec.action
        if isinstance(action, DiscreteAction):
            chosen = jnp.argmax(now).astype(jnp.int32)
        else:
            chosen = action.denormalise(jax.scipy.special.erf(now / jnp.sqrt(2.0)))
        return Decision(chosen), PinkState(noise, position + 1)
