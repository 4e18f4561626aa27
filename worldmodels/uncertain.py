"""What a model with a latent variable or an ensemble can say of what it does not know."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from worldmodels.errors import SpecError
from worldmodels.latent_variables import LATENT_VARIABLES, LatentVariable


class Uncertain:
    """The part of a `JEPA` that draws, infers and measures its noise [Z]: z, and behind it, in an ensemble, a member's number."""

    settings: Any
    features: Any
    observe: Any
    predict: Any
    foreseen: Any

    @property
    def latent_variable(self) -> LatentVariable | None:
        """z; None where the model is deterministic, or an action says which z it is."""
        s = self.settings
        known = s.noise == "none" or s.actions == "translated"
        return None if known else LATENT_VARIABLES[s.noise](s.noise_size)

    @property
    def futures(self) -> int:
        """That a plan is weighed in unless it says otherwise: one in each member of an ensemble."""
        return self.settings.members

    @property
    def noise_size(self) -> int:
        """Components of the noise that `predict` takes."""
        return (0 if self.latent_variable is None else self.latent_variable.size) + (self.settings.members > 1)

    def draw_noise(self, futures: int, horizon: int, *, key: Array) -> Float[Array, "M H Z"]:
        """Noise for that many futures, the members of an ensemble in turn; one future where the model is deterministic."""
        if self.noise_size == 0:
            return jnp.zeros((1, horizon, 0))
        variable, members = self.latent_variable, self.settings.members
        z_key, member_key = jax.random.split(key)
        z = jnp.zeros((futures, horizon, 0)) if variable is None else variable.draw((futures, horizon), key=z_key)
        if members == 1:
            return z
        turn = (jnp.arange(futures) + jax.random.randint(member_key, (), 0, members)) % members
        return jnp.concatenate([z, jnp.broadcast_to(turn[:, None, None], (futures, horizon, 1)).astype(z.dtype)], -1)

    def energies(self, latent: Any, action: Array, next_observation: dict[str, Array]) -> tuple[Float[Array, " K"], Array]:
        """Mean squared distance of what happened to each of K predictions, and the noise [K, Z] of each: every choice of z by every member."""
        target = self.features(self.observe(latent, action, next_observation))
        variable, members = self.latent_variable, self.settings.members
        z = jnp.zeros((1, 0)) if variable is None else variable.choices(key=jax.random.key(0))
        if members > 1:
            z = jnp.concatenate(
                [jnp.tile(z, (members, 1)), jnp.repeat(jnp.arange(members), len(z))[:, None].astype(z.dtype)], -1
            )
        predicted = jax.vmap(lambda noise: self.features(self.predict(latent, action, noise)))(z)
        return ((predicted - target) ** 2).mean(-1), z

    def energy(self, latent: Any, action: Array, next_observation: dict[str, Array]) -> Float[Array, ""]:
        """F(x, a, y) = min_z E: how ill what happened fits what could have been expected (LeCun 2022, section 4.1)."""
        return self.energies(latent, action, next_observation)[0].min()

    def infer_noise(self, latent: Any, action: Array, next_observation: dict[str, Array]) -> Float[Array, " Z"]:
        energies, noise = self.energies(latent, action, next_observation)
        return noise[jnp.argmin(energies)]

    def disagreement(self, latent: Any, action: Array) -> Float[Array, ""]:
        """Mean variance over what the members foresee, under one z: what is not known for lack of data (Pathak et al. 2019)."""
        variable, members = self.latent_variable, self.settings.members
        if members == 1:
            raise SpecError(
                "disagreement of a model with one predictor: expected an ensemble. Train with members=5, for instance."
            )
        z = jnp.zeros(0) if variable is None else variable.choices(key=jax.random.key(0))[0]
        state = self.features(latent)
        predicted = jax.vmap(lambda member: self.foreseen(state, action, z, member))(jnp.arange(members))
        return predicted.var(0).mean()
