"""What an agent answers."""

from typing import Any, NamedTuple

from jaxtyping import Array


class Decision(NamedTuple):
    """One decision; whatever an agent does not have is None.

    Attributes:
      action: [A] in the environment's own units, or an integer.
      plan: the whole `planners.Plan`, for agents that plan.
      cost: what the agent expects to pay from here on.
      status: a `planners.Status` as a number.
    """

    action: Array
    plan: Any = None
    cost: Array | None = None
    status: Array | None = None
