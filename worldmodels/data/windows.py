"""Training data on the device: every episode in one buffer, and windows of it drawn inside jit."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from worldmodels.data.episode import Episode
from worldmodels.errors import DataError
from worldmodels.spec import ContinuousAction, Spec

SMALLEST = 1024
NAMED = 5  # of the episodes that are left out


class ShortEpisodeWarning(UserWarning):
    """Episodes that no window fits into, and that nothing is learned from."""


def warn_of_short(lengths: Sequence[int], needed: int) -> None:
    """Say once how many episodes of these `lengths` are shorter than a window of `needed` decisions, and which."""
    short = [index for index, decisions in enumerate(lengths) if decisions < needed]
    if short:
        named = ", ".join(map(str, short[:NAMED])) + (", …" if len(short) > NAMED else "")
        said = f"{len(short)} of {len(lengths)} episodes are shorter than a window of {needed} decisions and left out: {named}."
        warnings.warn(said, ShortEpisodeWarning, stacklevel=3)


class Window(NamedTuple):
    """A batch of B windows of L consecutive decisions, none across the border of an episode.

    Attributes:
      observations: [B, L+1, D], flattened as `spec.flatten` does, physical units.
      actions: [B, L, A] normalised to [-1, 1], or integers [B, L].
      costs: [B, L]; zeros where the data have none.
      continues: [B, L], 0 at the decision in which the environment ended, else 1.
      frames: images by name, [B, L+1, height, width, channels], uint8.
    """

    observations: Float[Array, "B L+1 D"]
    actions: Array
    costs: Float[Array, "B L"]
    continues: Float[Array, "B L"]
    frames: dict[str, Array] | None = None

    def after(self, steps: int) -> "Window":
        """The windows without their first `steps`."""
        return self if steps == 0 else jax.tree.map(lambda x: x[:, steps:], self)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["observations", "actions", "costs", "terminated", "starts", "count", "frames"],
    meta_fields=["length"],
)
@dataclass(frozen=True)
class Buffer:
    """Episodes one after the other in arrays of capacity C, a power of two, so that growing data rarely compile again.

    An episode of T decisions fills T+1 rows; in its last row only the observation counts.

    Attributes:
      observations: [C, D] flattened, physical units, float32.
      actions: [C, A] normalised to [-1, 1], or int32 [C].
      costs: [C].
      terminated: [C], true at the decision in which the environment ended.
      starts: [C], of which the first `count` are the rows a window may start in.
      count: how many windows there are, int32.
      length: decisions in the longest window that may be drawn.
      frames: images by name, [C, height, width, channels], uint8.
    """

    observations: Float[Array, "C D"]
    actions: Array
    costs: Float[Array, " C"]
    terminated: Bool[Array, " C"]
    starts: Int[Array, " C"]
    count: Int[Array, ""]
    length: int = field(metadata={"static": True})
    frames: dict[str, Array] = field(default_factory=dict)

    @classmethod
    def from_episodes(cls, episodes: Sequence[Episode], length: int, *, capacity: int = SMALLEST) -> "Buffer":
        """Put `Episodes` or a `Dataset` on the device, for windows of `length` decisions.

        Episodes shorter than a window are left out, with a `ShortEpisodeWarning`. `capacity` is the least number of rows (decisions plus one an episode);
        give what the data will grow to, and nothing compiles twice.

        Raises `DataError` without episodes, where none is long enough, where only some have costs, and for an episode that
        does not fit the spec.
        """
        spec: Spec = episodes.spec  # type: ignore[attr-defined]
        if length < 1:
            raise DataError(f"windows of {length} decisions: expected at least 1.")
        given = list(episodes)
        for index, episode in enumerate(given):
            episode.check(spec, f"episode {index}")
        if not given:
            raise DataError("there is no episode to train on. Collect some first (`sailplan collect`).")
        longest = max(len(episode) for episode in given)
        if longest < length:
            raise DataError(
                f"the longest of {len(given)} episodes has {longest} decisions, a window needs {length}. "
                "Collect longer episodes or train on shorter windows."
            )
        without = [index for index, episode in enumerate(given) if episode.costs is None]
        if 0 < len(without) < len(given):
            raise DataError(f"episode {without[0]} has no costs, others have. Expected costs in all of them or in none.")
        warn_of_short([len(episode) for episode in given], length)
        arrays = _filled([episode for episode in given if len(episode) >= length], spec, length, capacity)
        return cls(**jax.device_put(arrays), length=length)

    @property
    def capacity(self) -> int:
        """Rows there is room for."""
        return self.observations.shape[0]

    def sample(
        self,
        batch: int,
        length: int,
        *,
        newest: float | Float[Array, ""] = 1.0,
        weights: Float[Array, " C"] | None = None,
        key: Array,
    ) -> Window:
        """`batch` windows of `length` decisions. Pure: call it inside jit.

        Args:
          newest: the share of the data, from its end, that windows are drawn from.
          weights: how likely each start is beside the others, as `rarity` says for instance; all the same if not given.
        """
        if not 1 <= length <= self.length:
            raise DataError(
                f"windows of {length} decisions from a buffer for windows of {self.length}: expected 1 to {self.length}."
            )
        first = ((1 - newest) * self.count).astype(jnp.int32)
        if weights is None:
            chosen = jax.random.randint(key, (batch,), first, self.count)
        else:
            there = jnp.arange(self.capacity)
            total = jnp.cumsum(jnp.where((there >= first) & (there < self.count), weights, 0.0))
            drawn = jax.random.uniform(key, (batch,)) * total[-1]
            chosen = jnp.clip(jnp.searchsorted(total, drawn, side="right"), first, self.count - 1)
        rows = self.starts[chosen][:, None] + jnp.arange(length + 1)
        acted = rows[:, :-1]
        continues = 1.0 - self.terminated[acted].astype(jnp.float32)
        frames = {name: frames[rows] for name, frames in self.frames.items()}
        return Window(self.observations[rows], self.actions[acted], self.costs[acted], continues, frames)

    def rarity(self, length: int) -> Float[Array, " C"]:
        """Of every start: 1, and the largest distance of a cost in its window from the mean, in deviations.

        Drawn by these weights, costs met with a chance of p are about √p of what is learned from, and p where all are alike.
        """
        paid = self.costs[self.starts[:, None] + jnp.arange(length)]
        there = (jnp.arange(self.capacity) < self.count)[:, None]
        mean, deviation = paid.mean(where=there), paid.std(where=there)
        return 1 + (jnp.abs(paid - mean) / jnp.maximum(deviation, 1e-6)).max(1)


def _filled(episodes: list[Episode], spec: Spec, length: int, capacity: int) -> dict[str, np.ndarray]:
    rows = max(capacity, SMALLEST, sum(len(episode) + 1 for episode in episodes))
    capacity = 1 << (rows - 1).bit_length()
    kind = np.float32 if isinstance(spec.action, ContinuousAction) else np.int32
    arrays: dict[str, Any] = {
        "observations": np.zeros((capacity, spec.size), np.float32),
        "actions": np.zeros((capacity, *spec.action.shape), kind),
        "costs": np.zeros(capacity, np.float32),
        "terminated": np.zeros(capacity, bool),
        "starts": np.zeros(capacity, np.int32),
        "frames": {name: np.zeros((capacity, *dict(spec.observation)[name]), np.uint8) for name in spec.images},
    }
    row = count = 0
    for episode in episodes:
        steps, windows = len(episode), len(episode) - length + 1
        flat = [np.asarray(episode.observations[name]).reshape(steps + 1, -1) for name, _ in spec.vectors]
        if flat:
            arrays["observations"][row : row + steps + 1] = np.concatenate(flat, axis=1)
        for name in spec.images:
            arrays["frames"][name][row : row + steps + 1] = episode.observations[name]
        arrays["actions"][row : row + steps] = normalised(episode.actions, spec)
        if episode.costs is not None:
            arrays["costs"][row : row + steps] = episode.costs
        arrays["terminated"][row + steps - 1] = episode.terminated
        arrays["starts"][count : count + windows] = np.arange(row, row + windows)
        row, count = row + steps + 1, count + windows
    return {**arrays, "count": np.asarray(count, np.int32)}


def normalised(actions: np.ndarray, spec: Spec) -> np.ndarray:
    """Actions of an episode as models see them; what strays from the bounds by rounding is put back."""
    scaled = spec.action.normalise(actions)
    return np.clip(scaled, -1, 1) if isinstance(spec.action, ContinuousAction) else scaled
