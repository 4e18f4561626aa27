"""z, for what cannot be known: of limited information, because it may only be one of a few draws from what it is before anything is seen.

Inference is minimisation (LeCun 2022, section 4.1): of `CANDIDATES` draws, the one under which the prediction comes closest to what
happened. Telling which of K draws it was takes at most ln K nats (Havasi, Peharz & Hernández-Lobato 2019, section 3), so z
cannot explain everything, whatever its kind; drawn anew, without looking, it gives the futures to plan in.

Of codes a prior, trained beside the predictor, says how likely each is in a state: where nothing is open, one is left to be drawn.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

CANDIDATES = 8
DENSITY = 0.25  # of the components of a sparse z that are not zero
CERTAIN = 1e3  # nats, more than any prior speaks against a code


class LatentVariable(Protocol):
    """Static. Its `size` is that of one z, and of the noise that one is made of."""

    size: int

    @property
    def candidates(self) -> int:
        """How many draws it is chosen from."""
        ...

    def draw(self, shape: tuple[int, ...], *, key: Array) -> Float[Array, "*S Z"]:
        """Noise for z before anything is seen."""
        ...

    def choices(self, *, key: Array) -> Float[Array, "K Z"]:
        """The z to choose from."""
        ...

    def of(self, noise: Float[Array, "*B Z"], log_prior: Float[Array, "*B K"]) -> Float[Array, "*B Z"]:
        """z of a noise, under the prior over the candidates; any of the choices is a noise that z is sure to be."""
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

    def of(self, noise, log_prior):
        return noise


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

    def of(self, noise, log_prior):
        return noise


@dataclass(frozen=True)
class Quantised:
    """One of `size` codes, one-hot; all of them are tried, so inference is exact. Its noise chooses among them by Gumbel's trick."""

    size: int

    @property
    def candidates(self) -> int:
        return self.size

    def draw(self, shape, *, key):
        return jax.random.gumbel(key, (*shape, self.size)) / CERTAIN

    def choices(self, *, key):
        return jnp.eye(self.size)

    def of(self, noise, log_prior):
        return jax.nn.one_hot(jnp.argmax(CERTAIN * noise + log_prior, axis=-1), self.size)


LATENT_VARIABLES = {"gaussian": Gaussian, "sparse": Sparse, "quantised": Quantised}


def posterior(energies: Float[Array, "K *B"], log_prior: Float[Array, "K *B"]) -> Float[Array, "K *B"]:
    """Logarithms of p(z) exp(−E / T), normalised over K candidates.

    T is the mean least energy, twice the error's variance that z leaves.
    """
    temperature = energies.min(0).mean() + 1e-9
    return jax.nn.log_softmax(log_prior - energies / temperature, axis=0)


def information(log_posterior: Float[Array, "K *B"], log_prior: Float[Array, "K *B"]) -> Float[Array, ""]:
    """Nats that z carries on average, the divergence of posterior and prior; its gradient goes to the prior alone.

    0 where what happened changes nothing, at most ln K where the prior is even.
    """
    log_posterior = jax.lax.stop_gradient(log_posterior)
    return (jnp.exp(log_posterior) * (log_posterior - log_prior)).sum(0).mean()
