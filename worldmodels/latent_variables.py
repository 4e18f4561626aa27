"""z, for what cannot be known: of limited information, because it may only be one of a few draws from what it is before anything is seen.

Inference is minimisation (LeCun 2022, section 4.1): of `CANDIDATES` draws, the one under which the prediction comes closest to what
happened. Telling which of K draws it was takes at most ln K nats (Havasi, Peharz & Hernández-Lobato 2019, section 3), so z
cannot explain everything, whatever its kind; drawn anew, without looking, it gives the futures to plan in.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

CANDIDATES = 8
DENSITY = 0.25  # of the components of a sparse z that are not zero


class LatentVariable(Protocol):
    """Static. Its `size` is that of one z."""

    size: int

    @property
    def candidates(self) -> int:
        """How many draws it is chosen from."""
        ...

    def draw(self, shape: tuple[int, ...], *, key: Array) -> Float[Array, "*S Z"]:
        """z before anything is seen."""
        ...

    def choices(self, *, key: Array) -> Float[Array, "K Z"]:
        """The draws to choose from."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Low-dimensional noise: standard normal components."""

    size: int

    @property
    def candidates(self) -> int:
        return CANDIDATES

    def draw(self, shape, *, key):
        return jax.random.normal(key, (*shape, self.size))

    def choices(self, *, key):
        return self.draw((self.candidates,), key=key)


@dataclass(frozen=True)
class Sparse:
    """Mostly zeros: a component is drawn from a Laplace distribution of variance 1 / `DENSITY` with that probability, else 0."""

    size: int

    @property
    def candidates(self) -> int:
        return CANDIDATES

    def draw(self, shape, *, key):
        which, how_much = jax.random.split(key)
        active = jax.random.bernoulli(which, DENSITY, (*shape, self.size))
        return jnp.where(active, jax.random.laplace(how_much, (*shape, self.size)) / math.sqrt(2 * DENSITY), 0.0)

    def choices(self, *, key):
        return self.draw((self.candidates,), key=key)


@dataclass(frozen=True)
class Quantised:
    """One of `size` codes, one-hot; all of them are tried, so inference is exact."""

    size: int

    @property
    def candidates(self) -> int:
        return self.size

    def draw(self, shape, *, key):
        return jax.nn.one_hot(jax.random.randint(key, shape, 0, self.size), self.size)

    def choices(self, *, key):
        return jnp.eye(self.size)


LATENT_VARIABLES = {"gaussian": Gaussian, "sparse": Sparse, "quantised": Quantised}


def information(energies: Float[Array, "K *B"]) -> Float[Array, ""]:
    """Nats that z carries on average: ln K less the entropy of a posterior over K candidates, exp(−E / T).

    T is the mean least energy, twice the error's variance that z leaves. 0 where all candidates do as well, ln K where one stands out.
    """
    temperature = energies.min(0).mean() + 1e-9
    log_posterior = jax.nn.log_softmax(-energies / temperature, axis=0)
    return math.log(len(energies)) + (jnp.exp(log_posterior) * log_posterior).sum(0).mean()
