"""The level above, where a door is open by chance: rooms, counted from what was watched, and how far they are from the goal.

What the robot can bring about and what it cannot are kept apart. The choice is the neighbouring room to go to, one of four, possible where
the data ever went that way with as much known of the door. The chance is what is seen of the door on arrival, as often as it was
seen there in the data. Codes as `worldmodels.abstract` learns them would mix the two: "the door was open" would be one to choose.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from planners import pytree, static
from worldmodels import DiscreteAction, Spec
from worldmodels.data.episode import Episode

SIDES = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])  # metres to the next room
KNOWN = 3  # of the door: closed, nothing, open
SEEN = 3  # times that the data went a way before it counts as one
FAR = 60.0  # moves from where there is no way


@pytree
class Rooms:
    """A `WorldModel` on top of another. Latents are [3]: the place in metres, and -1, 0 or 1 for what is known of the door.

    Attributes:
      lower: the model below.
      middles: [R, 2], of the rooms, metres.
      beside: [R, 4], which room lies on each side.
      ways: [R, 3, 4], whether one can go there, by what is known of the door.
      odds: [R, 3, 4, 3], how likely what is known on arrival is.
      stride: steps of `lower` from one room to the next.
    """

    lower: Any
    middles: Float[Array, "R 2"]
    beside: Int[Array, "R 4"]
    ways: Bool[Array, "R 3 4"]
    odds: Float[Array, "R 3 4 3"]
    stride: int = static()

    @property
    def spec(self) -> Spec:
        seconds = self.lower.spec.seconds_per_step * self.stride
        return replace(self.lower.spec, action=DiscreteAction(len(SIDES)), seconds_per_step=seconds, action_block=1)

    def lift(self, latent: Array) -> Float[Array, " 3"]:
        read = self.lower.readout(latent)
        return jnp.concatenate([read["observation"][:2], jnp.clip(jnp.round(read["door"]), -1, 1)])

    def start(self, observation: dict[str, Array]) -> Float[Array, " 3"]:
        return self.lift(self.lower.start(observation))

    def observe(self, latent: Array, previous_action: Array, observation: dict[str, Array]) -> Float[Array, " 3"]:
        return self.start(observation)

    def predict(self, latent: Float[Array, " 3"], action: Int[Array, ""], noise: Float[Array, " 1"]) -> Float[Array, " 3"]:
        """In the middle of the room it goes to, or of its own where there is no way; `noise` is uniform in [0, 1)."""
        room, known = self.at(latent)
        seen = (noise[0] >= jnp.cumsum(self.odds[room, known, action])[:-1]).sum()
        there = jnp.concatenate([self.middles[self.beside[room, action]], (seen - 1.0)[None]])
        here = jnp.concatenate([self.middles[room], (known - 1.0)[None]])
        return jnp.where(self.ways[room, known, action], there, here)

    def draw_noise(self, futures: int, horizon: int, *, key: Array) -> Float[Array, "M H 1"]:
        """Each step's chances evenly over the futures, in an order of its own."""
        spread = (jnp.arange(futures) + 0.5) / futures
        return jax.vmap(lambda key: jax.random.permutation(key, spread), out_axes=1)(jax.random.split(key, horizon))[..., None]

    def infer_noise(
        self, latent: Float[Array, " 3"], action: Int[Array, ""], next_observation: dict[str, Array]
    ) -> Float[Array, " 1"]:
        """The middle of what leads to seeing what was seen."""
        odds = self.odds[*self.at(latent), action]
        seen = self.at(self.start(next_observation))[1]
        return (jnp.cumsum(odds) - odds / 2)[seen][None]

    def features(self, latent: Array) -> Float[Array, " 3"]:
        return latent

    def readout(self, latent: Float[Array, " 3"]) -> dict[str, Array]:
        return {"observation": jnp.concatenate([latent[:2], jnp.zeros(2)]), "door": latent[2:]}

    def at(self, latent: Float[Array, " 3"]) -> tuple[Int[Array, ""], Int[Array, ""]]:
        """The room, and what is known of the door as 0, 1 or 2."""
        return nearest(self.middles, latent[:2]), jnp.round(latent[2] + 1).astype(jnp.int32)


def nearest(middles: Any, place: Any) -> Any:
    """Which room [...] a place [..., 2] is in."""
    return ((place[..., None, :] - middles) ** 2).sum(-1).argmin(-1)


@pytree
class Metres:
    """From place to place: how far a subgoal is missed, between latents of `Rooms`."""

    def __call__(self, reached: Float[Array, " 3"], aimed: Float[Array, " 3"]) -> Float[Array, ""]:
        return jnp.sqrt(((reached - aimed)[:2] ** 2).sum() + 1e-6)


def count_rooms(lower: Any, episodes: Sequence[Episode], middles: np.ndarray, stride: int) -> Rooms:
    """Rooms with these `middles` [R, 2], and how the robot went from one to the next in `episodes`."""
    beside = nearest(middles, middles[:, None] + SIDES)
    counts = np.zeros((len(middles), KNOWN, len(SIDES), KNOWN))
    for episode in episodes:
        rooms = nearest(middles, episode.observations["observation"][:, :2])
        known = np.round(episode.observations["door"][:, 0] + 1).astype(int)
        for moment in np.flatnonzero(np.diff(rooms)):
            (side,) = np.nonzero(beside[rooms[moment]] == rooms[moment + 1])
            if len(side):
                counts[rooms[moment], known[moment], side[0], known[moment + 1]] += 1
    times = counts.sum(-1)
    odds = counts / np.maximum(times, 1)[..., None]
    return Rooms(lower, jnp.asarray(middles), jnp.asarray(beside), jnp.asarray(times >= SEEN), jnp.asarray(odds), stride)


def likeliest(rooms: Rooms) -> Rooms:
    """The same, for somebody who takes the likeliest thing to see for certain."""
    return replace(rooms, odds=jax.nn.one_hot(jnp.argmax(rooms.odds, -1), KNOWN))


def moves_to(rooms: Rooms, goal: int) -> np.ndarray:
    """[R, 3], expected moves to the room `goal` by the best way, by dynamic programming over what these rooms say."""
    beside, ways, odds = (np.asarray(x) for x in (rooms.beside, rooms.ways, rooms.odds))
    moves = np.full(ways.shape[:2], FAR)
    for _ in range(10 * len(moves)):
        after = 1 + np.einsum("rkaj,raj->rka", odds, moves[beside])
        moves = np.minimum(np.where(ways, after, FAR).min(-1), FAR)
        moves[goal] = 0
    return moves


@pytree
class MovesToGoal:
    """A move for each step outside the room `goal`, and behind the horizon as many as are expected: a task cost on `Rooms`."""

    goal: Int[Array, ""]
    moves: Float[Array, "R 3"]

    def running(self, model, latent, action, step):
        return {"move": (model.at(latent)[0] != self.goal).astype(jnp.float32)}

    def terminal(self, model, latent, step):
        return self.moves[model.at(latent)]


@pytree
class TimeWhateverTheDoor:
    """Steps to the nearest of several goal observations, stacked, as the critic of one level knows them: a task cost."""

    critic: Any
    goals: dict[str, Array]

    def running(self, model, latent, action, step):
        return {"steps to goal": self.terminal(model, latent, step)}

    def terminal(self, model, latent, step):
        aimed = jax.vmap(lambda goal: model.features(model.start(goal)))(self.goals)
        return self.critic(model.features(latent), aimed).min()
