"""What an episode cost by a cost that the environment does not know: from what was observed, not from what a model believes."""

from typing import Any

import jax
import numpy as np

from mpc.costs import OnModel, TaskCost
from planners import pytree
from worldmodels.data.episode import Episode


@pytree
class Observed:
    """A world as it is seen: its latents are observations, its readouts the observations themselves."""

    model: Any

    @property
    def spec(self):
        return self.model.spec

    def start(self, observation):
        return observation

    def features(self, latent):
        return self.model.features(self.model.start(latent))

    def readout(self, latent):
        return latent


@jax.jit
def _costs(world: Observed, cost: TaskCost, observations: Any, actions: Any) -> Any:
    priced = OnModel(world, cost)
    return jax.vmap(lambda latent, action: priced(latent, action, 0))(observations, actions)


def return_under(cost: TaskCost, model: Any, episode: Episode) -> float:
    """Minus the cost of what each action led to, summed over the frames of the episode, so that it compares with a reward's return.

    The states between the decisions of an action repeat are not observed: the one at its end counts for all of them.
    """
    seen = {name: value[1:] for name, value in episode.observations.items()}
    actions = np.asarray(model.spec.action.normalise(episode.actions))
    return -float(np.sum(_costs(Observed(model), cost, seen, actions))) * model.spec.action_repeat
