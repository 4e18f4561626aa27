"""What an objective is: named terms over one batch of windows, their weights, and what it trains beside the model."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from worldmodels.errors import SpecError

SPREAD, RANK = "spread", "rank"
Kind = TypeVar("Kind", bound="Objective")


class Views(NamedTuple):
    """One batch of B windows as a model sees them: what was encoded, and what was predicted open loop from its first moment.

    Attributes:
      model: a `JEPA`; its expander is the objective's to use.
      heads: what the objective trains beside the model, by name.
      latents: [B, K+1, D], encoded.
      predicted: [B, K, D], of the moments after the first.
      slow: [B, K+1, D], encoded by the teacher, or by the model itself where there is none; no gradient.
      observations: [B, K+1, O], normalised.
      frames: images by name, [B, K+1, height, width, channels], uint8.
      actions: [B, K, A] normalised, or integers [B, K].
      information_z: nats a step in the latent variable, 0 for a deterministic model.
      key: for terms that draw something anew in every update.
    """

    model: Any
    heads: Mapping[str, Any]
    latents: Float[Array, "B K+1 D"]
    predicted: Float[Array, "B K D"]
    slow: Float[Array, "B K+1 D"]
    observations: Float[Array, "B K+1 O"]
    frames: Mapping[str, Array]
    actions: Array
    information_z: Float[Array, ""]
    key: Array

    @property
    def targets(self) -> Float[Array, "B K D"]:
        """Encodings of what was predicted; they move with the encoder."""
        return self.latents[:, 1:]


@runtime_checkable
class Objective(Protocol):
    """Static under `jit`. A loss is Σ weights[name] · terms[name]."""

    @property
    def momentum(self) -> float | None:
        """Of the slow copy of the model that `Views.slow` comes from: the share it keeps at each update. None for no copy."""
        ...

    @property
    def guards(self) -> Mapping[str, str]:
        """The weight to raise where the latents lose their `SPREAD` or their `RANK`."""
        ...

    @property
    def weights(self) -> dict[str, float]: ...

    def heads(self, model: Any, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        """What is trained beside the model and dropped after training."""
        ...

    def terms(self, views: Views) -> dict[str, Float[Array, ""]]:
        """Every term unweighted, by the name of its weight."""
        ...


class Weighted(Objective):
    """An `Objective` whose weights are the fields of a frozen dataclass, without teacher or heads unless it says so."""

    momentum: ClassVar[float | None] = None
    guards: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self):
        for name, value in self.weights.items():
            if not (np.isfinite(value) and value >= 0):
                raise SpecError(f"{type(self).__name__} weight {name}={value}: expected a finite number of at least 0.")

    @property
    def weights(self) -> dict[str, float]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def heads(self, model: Any, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        return {}


@dataclass(frozen=True)
class Mixture(Objective):
    """Several objectives at once: their terms side by side."""

    parts: tuple[Objective, ...]

    def __post_init__(self):
        names = [name for part in self.parts for name in part.weights]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SpecError(f"the weights {twice} occur in two parts of the mixture: expected every name once.")

    @property
    def momentum(self) -> float | None:
        return next((part.momentum for part in self.parts if part.momentum is not None), None)

    @property
    def guards(self) -> dict[str, str]:
        return {loss: name for part in reversed(self.parts) for loss, name in part.guards.items()}

    @property
    def weights(self) -> dict[str, float]:
        return {name: value for part in self.parts for name, value in part.weights.items()}

    def heads(self, model: Any, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        return {name: head for part in self.parts for name, head in part.heads(model, rngs).items()}

    def terms(self, views: Views) -> dict[str, Float[Array, ""]]:
        return {name: term for part in self.parts for name, term in part.terms(views).items()}


def reweighted(objective: Kind, weights: Mapping[str, float]) -> Kind:
    """`objective` with other weights; `SpecError` names one that it does not have."""
    unknown = sorted(set(weights) - set(objective.weights))
    if unknown:
        raise SpecError(f"{unknown} are no weights of this objective: it has {sorted(objective.weights)}.")
    parts = objective.parts if isinstance(objective, Mixture) else (objective,)
    changed = tuple(replace(part, **{n: w for n, w in weights.items() if n in part.weights}) for part in parts)  # type: ignore[type-var]
    return Mixture(changed) if isinstance(objective, Mixture) else changed[0]  # type: ignore[return-value]


def squared_error(predicted: Float[Array, "*B D"], target: Float[Array, "*B D"]) -> Float[Array, ""]:
    """Mean over all entries. Two representations of one point have none: alone it makes them collapse."""
    return ((predicted - target) ** 2).mean()


def relative_error(predicted: Float[Array, "*B D"], target: Float[Array, "*B D"]) -> Float[Array, ""]:
    """Squared error over the variance of the target: the share left unexplained. Shrinking the representation does not lower it."""
    flat = target.reshape(-1, target.shape[-1])
    return squared_error(predicted, target) / (flat.var(0).mean() + 1e-6)


def standardised(x: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """Each component with mean 0 and variance 1 over the batch."""
    return (x - x.mean(0)) * jax.lax.rsqrt(x.var(0) + 1e-4)


def flattened(x: Float[Array, "B K D"]) -> Float[Array, "N D"]:
    """A batch of windows as one batch of moments."""
    return jnp.reshape(x, (-1, x.shape[-1]))
