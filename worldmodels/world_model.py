"""The protocol every world model follows."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float, PyTree

from worldmodels.spec import Spec

Latent = PyTree[Array]
Observation = dict[str, Array]


@runtime_checkable
class WorldModel(Protocol):
    """Perception and prediction. A pytree; every method is written for one environment, `jax.vmap` batches it.

    Actions are normalised to [-1, 1] (integers where discrete). Latents are whatever pytree the model likes.
    """

    @property
    def spec(self) -> Spec:
        """Static: spaces, names and units of readouts, seconds per step."""
        ...

    def start(self, observation: Observation) -> Latent:
        """The latent after one observation, with what memory the model carries."""
        ...

    def observe(self, latent: Latent, previous_action: Array, observation: Observation) -> Latent:
        """The latent after acting and observing once more."""
        ...

    def predict(self, latent: Latent, action: Array, noise: Array) -> Latent:
        """The latent one model step ahead; `noise` has shape [0] where the model is deterministic."""
        ...

    def draw_noise(self, futures: int, horizon: int, *, key: Array) -> Float[Array, "M H Z"]:
        """What is not known, drawn for M futures of a plan; [1, H, 0] where the model is deterministic."""
        ...

    def infer_noise(self, latent: Latent, action: Array, next_observation: Observation) -> Array:
        """The z of least energy: the noise under which the model would have predicted what happened."""
        ...

    def features(self, latent: Latent) -> Float[Array, " D"]:
        """What objectives, goals and critics compare."""
        ...

    def readout(self, latent: Latent) -> dict[str, Array]:
        """Observed quantities in physical units; a diagnostic, it sends no gradient into the model."""
        ...
