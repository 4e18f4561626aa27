"""Agents as flat lists of arrays: flattening an nnx module takes longer than a small policy's whole decision."""

from typing import Any

import jax
from jax.core import Tracer

from worldmodels.networks import frozen


class Structure:
    """A pytree's structure that hashes once. Static under `jit`; equal structures share a compiled program."""

    def __init__(self, treedef: Any):
        self.treedef = treedef
        self._hash = hash(treedef)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Structure) and self._hash == other._hash and self.treedef == other.treedef)


def pack(agent: Any) -> tuple[list[Any], Structure]:
    """Leaves and structure of a frozen agent, flattened at its first decision and kept with it, its networks made ready.

    An agent therefore acts by the weights it had then: after training build a new one, which compiles nothing.
    """
    kept = agent.__dict__.get("_packed")
    if kept is None:
        leaves, treedef = jax.tree.flatten(frozen(agent))
        kept = leaves, Structure(treedef)
        if not any(isinstance(leaf, Tracer) for leaf in leaves):
            object.__setattr__(agent, "_packed", kept)
    return kept


def unpack(leaves: list[Any], structure: Structure) -> Any:
    """The agent again."""
    return jax.tree.unflatten(structure.treedef, leaves)
