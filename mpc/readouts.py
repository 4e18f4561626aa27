"""What costs read: a model's readouts by name."""

import difflib
from typing import Any

import jax

from mpc.errors import CostError


@jax.tree_util.register_pytree_node_class
class Readouts(dict[str, Any]):
    """A model's readouts; a name that is none of them is a `CostError` with near matches, also while a cost is traced."""

    def __missing__(self, name: Any) -> Any:
        near = difflib.get_close_matches(str(name), list(self), n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise CostError(f"the cost reads {name!r} but the model's readouts are {sorted(self)}.{hint}")

    def tree_flatten(self):
        names = tuple(sorted(self))
        return [self[name] for name in names], names

    @classmethod
    def tree_unflatten(cls, names, values):
        return cls(zip(names, values, strict=True))
