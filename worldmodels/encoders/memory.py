"""What a model remembers of earlier observations, for worlds that one observation does not show whole.

A memory begins with one observation and is updated by an action and the next one; `read` is what the encoder looks at.

Both kinds look at what is seen now and at how it changed, in units of how it usually changes: `pace`. Side by side, observations a moment
apart are nearly the same numbers, and what a memory is for, such as a velocity, is their small difference.
"""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree


class Memory(Protocol):
    """Over seen vectors [S] and action vectors [A]; every method takes leading batch axes.

    Attributes:
      size: of what `read` returns.
      pace: [S], what is seen usually changes by so much from one moment to the next; not trained by gradients.
    """

    size: int
    pace: nnx.Variable

    def begin(self, seen: Float[Array, "*B S"]) -> PyTree: ...

    def update(self, memory: PyTree, action: Float[Array, "*B A"], seen: Float[Array, "*B S"]) -> PyTree: ...

    def read(self, memory: PyTree) -> Float[Array, "*B R"]: ...


class Past(NamedTuple):
    """The newest last."""

    seen: Float[Array, "*B K S"]
    actions: Float[Array, "*B K-1 A"]


class Stack(nnx.Module):
    """What is seen, how it changed in the last `history` - 1 moments, and the actions between (Mnih et al. 2015, frame stacking).

    An episode begins as if the first observation had been seen all along, without acting.
    """

    def __init__(self, seen: int, action: int, hidden: int, history: int, *, rngs: nnx.Rngs):
        self.history, self.action = history, action
        self.size = history * seen + (history - 1) * action
        self.pace = nnx.Variable(jnp.ones(seen))

    def begin(self, seen):
        repeated = jnp.repeat(seen[..., None, :], self.history, axis=-2)
        return Past(repeated, jnp.zeros((*seen.shape[:-1], self.history - 1, self.action)))

    def update(self, memory, action, seen):
        later = [
            jnp.concatenate([old, new[..., None, :]], -2)[..., 1:, :] for old, new in zip(memory, (seen, action), strict=True)
        ]
        return Past(*later)

    def read(self, memory):
        parts = (memory.seen[..., -1:, :], jnp.diff(memory.seen, axis=-2) / self.pace[...], memory.actions)
        return jnp.concatenate([part.reshape(*part.shape[:-2], -1) for part in parts], -1)


class Recurrent(Stack):
    """What is seen, and a gated recurrent unit (Cho et al. 2014) that reads the last `history` moments anew, beginning with nothing.

    A state carried on through a whole episode leaves the lengths it was trained at, and says less and less; read anew, it means the
    same at every moment, in training and in acting.
    """

    def __init__(self, seen: int, action: int, hidden: int, history: int, *, rngs: nnx.Rngs):
        super().__init__(seen, action, hidden, history, rngs=rngs)
        self.hidden, self.size = hidden, seen + hidden
        self.cell = nnx.GRUCell(2 * seen + action, hidden, rngs=rngs)

    def read(self, memory):
        def after_nothing(x):
            return jnp.concatenate([jnp.zeros((*x.shape[:-2], 1, x.shape[-1])), x], -2)

        changes = jnp.diff(memory.seen, axis=-2) / self.pace[...]
        moments = jnp.concatenate([memory.seen, after_nothing(changes), after_nothing(memory.actions)], -1)
        state = jnp.zeros((*moments.shape[:-2], self.hidden))
        for moment in range(self.history):
            state, _ = self.cell(state, moments[..., moment, :])
        return jnp.concatenate([memory.seen[..., -1, :], state], -1)


MEMORIES = {"stack": Stack, "recurrent": Recurrent}


def remember(memory: Memory, seen: Float[Array, "B T S"], actions: Float[Array, "B T-1 A"]) -> Float[Array, "B T R"]:
    """What is read at each moment of windows, as if they were episodes."""

    def step(state, inputs):
        state = memory.update(state, *inputs)
        return state, memory.read(state)

    first = memory.begin(seen[:, 0])
    later = jax.lax.scan(step, first, (jnp.moveaxis(actions, 1, 0), jnp.moveaxis(seen[:, 1:], 1, 0)))[1]
    return jnp.concatenate([memory.read(first)[:, None], jnp.moveaxis(later, 0, 1)], 1)
