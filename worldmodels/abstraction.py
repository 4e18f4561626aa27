"""A world model on the latents of another, at a longer stride: level 2 of an H-JEPA (LeCun 2022, section 4.6).

It is a `JEPA` like any other, that observes what the model below makes of the world, every `stride` steps of it, and sees no
actions. What it must know beside its state to say where the world is a stride later is z, one of a few codes: the code under which
the prediction comes closest to what happened (LeCun 2022, section 4.1). Such a code is this level's action: "the world becomes so".

Codes, because they need no second network and bound an action thrice: it carries at most ln(codes) nats, so that it cannot simply
spell out the next state; which one happened is found exactly, by trying all; and every one of them leads where data have led.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from worldmodels import checkpoint
from worldmodels.data.episode import Episode, Episodes
from worldmodels.errors import DataError, SpecError
from worldmodels.jepa import JEPA
from worldmodels.spec import ContinuousAction, DiscreteAction, Spec
from worldmodels.training import Progress, TrainingSettings, train
from worldmodels.world_model import WorldModel

BELOW = "below"  # name of what it observes


@partial(jax.tree_util.register_dataclass, data_fields=["lower", "model"], meta_fields=["stride"])
@dataclass(frozen=True)
class Abstraction:
    """A `WorldModel` of the same observations as the one below, with abstract actions. Latents are arrays [D].

    Attributes:
      lower: the model below, whose latents are arrays [L]; a `JEPA` without memory, or another `Abstraction`.
      model: a `JEPA` of these latents, with `actions="latent"` and `noise="quantised"`. Save and load it as any other.
      stride: steps of `lower` in one step.
    """

    lower: WorldModel
    model: JEPA
    stride: int

    def check(self) -> None:
        """Raise `SpecError` unless `model` was trained on these weights of `lower` at this stride; silent inside `jit`."""
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(self)):
            return
        expected = spec_above(self.lower, self.stride)
        if self.model.spec != expected:
            raise SpecError(
                f"a model of {_seen(self.model.spec)} on one that shows {_seen(expected)}: expected the one that it was trained on, "
                "at the stride that it was trained with. Make both by worldmodels.abstract, or load them by mpc.load_hierarchy."
            )

    @property
    def spec(self) -> Spec:
        below = self.lower.spec
        seconds = below.seconds_per_step * self.stride
        return replace(below, action=DiscreteAction(self.codes), seconds_per_step=seconds, action_block=1)

    @property
    def cost_normaliser(self) -> Any:
        return self.model.cost_normaliser

    @property
    def codes(self) -> int:
        """How many abstract actions there are."""
        return self.model.settings.noise_size

    def lift(self, latent: Float[Array, " L"]) -> Float[Array, " D"]:
        """This level's latent, of one of the level below."""
        return self.model.start({BELOW: self.lower.features(latent)})

    def start(self, observation: dict[str, Array]) -> Float[Array, " D"]:
        return self.lift(self.lower.start(observation))

    def observe(self, latent: Array, previous_action: Array, observation: dict[str, Array]) -> Float[Array, " D"]:
        return self.start(observation)

    def predict(self, latent: Float[Array, " D"], action: Int[Array, ""], noise: Array) -> Float[Array, " D"]:
        member = noise[-1].astype(jnp.int32) if self.model.settings.members > 1 else None
        code = jax.nn.one_hot(action, self.codes)
        return self.model.following(latent, code, code, member)

    @property
    def futures(self) -> int:
        """As of the model: one in each member of the ensemble."""
        return self.model.futures

    def draw_noise(self, futures: int, horizon: int, *, key: Array) -> Float[Array, "M H Z"]:
        """Members of the ensemble; deterministic without one."""
        if self.model.settings.members == 1:
            return jnp.zeros((1, horizon, 0))
        return self.model.draw_noise(futures, horizon, key=key)[..., -1:]

    def infer_noise(self, latent: Array, action: Array, next_observation: dict[str, Array]) -> Array:
        members = self.model.settings.members
        if members == 1:
            return jnp.zeros((0,))
        choices = jnp.arange(members, dtype=jnp.float32)[:, None]
        return choices[jnp.argmin(self._energies(latent, jnp.full(members, action), choices, self.start(next_observation)))]

    def infer_action(self, latent: Float[Array, " D"], following: Float[Array, " D"]) -> Int[Array, ""]:
        """The code that says best how `following` came of `latent`, one step later; by the first member of an ensemble."""
        codes = jnp.arange(self.codes)
        noise = jnp.zeros((self.codes, 1 if self.model.settings.members > 1 else 0))
        return jnp.argmin(self._energies(latent, codes, noise, following)).astype(jnp.int32)

    def features(self, latent: Float[Array, " D"]) -> Float[Array, " D"]:
        return latent

    def readout(self, latent: Float[Array, " D"]) -> dict[str, Array]:
        """What the model below reads out of the latent that this one stands for."""
        return self.lower.readout(self.model.readout(latent)[BELOW])

    def cost(self, latent: Float[Array, " D"], action: Array) -> Float[Array, ""]:
        """The learned task cost of one step in this latent, in the data's units (summed over the stride)."""
        return self.model.cost(latent, jnp.zeros((0,)))

    def _energies(self, latent: Array, actions: Array, noise: Array, target: Array) -> Float[Array, " N"]:
        predicted = jax.vmap(self.predict, in_axes=(None, 0, 0))(latent, actions, noise)
        return ((predicted - target) ** 2).mean(-1)


def abstract(
    lower: Any,
    episodes: Episodes | Any,
    stride: int,
    settings: TrainingSettings | None = None,
    *,
    codes: int = 16,
    latent: int = 16,
    updates: int = 4_000,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    **sizes: Any,
) -> Abstraction:
    """Train a level on top of `lower`, which stays as it is, from the same episodes; its objective is that of `settings`.

    Args:
      stride: steps of `lower` in one of the new level.
      codes: abstract actions.
      latent: size of the representation, less than that of `lower`.
      sizes: further `JEPASettings`, such as `hidden`, `members` or `norm`.

    Raises `SpecError` for a model with a memory or a representation no narrower than what it observes, `DataError` for episodes that
    are too short.
    """
    below = _size(lower)
    if not isinstance(stride, int) or stride < 1:
        raise SpecError(f"stride={stride!r}: expected an integer of at least 1.")
    if latent >= below:
        raise SpecError(f"latent={latent} above a model whose latents have {below} components: expected fewer.")
    seen = abstract_episodes(lower, episodes, stride)
    made = JEPA(seen.spec, seed=seed, latent=latent, noise="quantised", noise_size=codes, actions="latent", **sizes)
    return Abstraction(lower, train(made, seen, settings, updates=updates, seed=seed, progress=progress), stride)


def abstract_episodes(lower: Any, episodes: Episodes | Any, stride: int) -> Episodes:
    """What a level on top of `lower` sees of recorded episodes: latents every `stride` of its steps, from each step on in turn.

    Costs are summed over the stride.
    """
    given: Spec = episodes.spec
    if given.observation != lower.spec.observation:
        raise DataError(f"the episodes show {given.observation}, the model below observes {lower.spec.observation}.")
    every = stride * lower.spec.seconds_per_step / given.seconds_per_step
    if round(every) < 1 or abs(every - round(every)) > 1e-3:
        raise DataError(
            f"the episodes have {given.seconds_per_step:g} s a decision, the model below {lower.spec.seconds_per_step:g} s: expected "
            f"decisions of which {stride} of its steps are a whole number."
        )
    spec, every = spec_above(lower, stride), round(every)
    look = jax.jit(lambda lower, observations: jax.vmap(lambda seen: lower.features(lower.start(seen)))(observations))
    pieces = [
        piece for episode in episodes for piece in _strided(episode, np.asarray(look(lower, dict(episode.observations))), every)
    ]
    if not pieces:
        raise DataError(f"no episode of {len(episodes)} is as long as one step of {every} decisions: collect longer ones.")
    return Episodes(spec, tuple(pieces))


def spec_above(lower: Any, stride: int) -> Spec:
    """What a model sees that stands on `lower`; the environment's name ends in a fingerprint of its weights."""
    below: Spec = lower.spec
    return Spec(
        f"{below.environment}/every-{stride} of {checkpoint.digest(lower)[:8]}",
        ((BELOW, (_size(lower),)),),
        ContinuousAction((), ()),
        below.action_repeat * below.action_block * stride,
        below.seconds_per_step * stride,
    )


def _strided(episode: Episode, latents: np.ndarray, every: int) -> Iterator[Episode]:
    """The `every` interleaved courses [S+1, L] of an episode, those of at least one step."""
    for first in range(every):
        seen = latents[first::every]
        steps = len(seen) - 1
        if steps < 1:
            return
        paid = None if episode.costs is None else episode.costs[first : first + steps * every].reshape(steps, every).sum(1)
        ends = episode.terminated and first + steps * every == len(episode)
        yield Episode({BELOW: seen}, np.zeros((steps, 0), np.float32), paid, ends, not ends, episode.seed)


def _seen(spec: Spec) -> str:
    return f"{spec.environment} ({dict(spec.observation).get(BELOW)}, {spec.seconds_per_step:g} s a step)"


def _size(lower: Any) -> int:
    """Components of the latents of `lower`; `SpecError` unless they are arrays, as those of models without a memory are."""
    latent = jax.eval_shape(lower.start, lower.spec.blank)
    if not hasattr(latent, "shape") or len(latent.shape) != 1:
        raise SpecError(f"{type(lower).__name__} has latents {latent}: expected arrays [L], of a model with memory='none'.")
    return latent.shape[0]
