"""A world model that also remembers the action sent last, for costs that speak of how actions change."""

from typing import Any

from jaxtyping import Array

from mpc.costs import no_action
from planners import pytree


@pytree
class RememberingAction:
    """`model`, its latents {"latent": as before, "previous": [A]}, and one readout more, `previous_action` in environment units.

    At the start of an episode the previous action is the middle of the action space.
    """

    model: Any

    @property
    def spec(self):
        return self.model.spec

    @property
    def normaliser(self):
        return self.model.normaliser

    @property
    def cost_normaliser(self):
        return self.model.cost_normaliser

    @property
    def futures(self):
        return getattr(self.model, "futures", 1)

    def start(self, observation):
        return {"latent": self.model.start(observation), "previous": no_action(self.model)}

    def observe(self, latent, previous_action, observation):
        return {"latent": self.model.observe(latent["latent"], previous_action, observation), "previous": previous_action}

    def predict(self, latent, action, noise):
        return {"latent": self.model.predict(latent["latent"], action, noise), "previous": action}

    def draw_noise(self, futures, horizon, *, key):
        return self.model.draw_noise(futures, horizon, key=key)

    def disagreement(self, latent, action) -> Array:
        """That of the model inside."""
        return self.model.disagreement(latent["latent"], action)

    def infer_noise(self, latent, action, next_observation):
        return self.model.infer_noise(latent["latent"], action, next_observation)

    def features(self, latent) -> Array:
        return self.model.features(latent["latent"])

    def readout(self, latent) -> dict[str, Array]:
        return {**self.model.readout(latent["latent"]), "previous_action": self.spec.action.denormalise(latent["previous"])}

    def cost(self, latent, action) -> Array:
        """The learned task cost of the model inside."""
        return self.model.cost(latent["latent"], action)
