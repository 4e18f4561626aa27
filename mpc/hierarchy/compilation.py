"""Mode-2 compiled into Mode-1, level by level: the policies that propose abstract plans."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from mpc.distillation import DistillationSettings, compiled
from mpc.errors import HierarchyError
from mpc.hierarchy.agent import HierarchicalAgent, UpperModel
from mpc.policy import Policy
from worldmodels.data.episode import Episode, Episodes


def compile_levels(
    agent: HierarchicalAgent, episodes: Sequence[Episode], settings: DistillationSettings | None = None, *, seed: int = 0
) -> tuple[Policy, ...]:
    """A policy for each model of `agent.upper`, from what the levels from there up would choose in the states of recorded episodes.

    For `HierarchicalAgent(policies=...)`; the lowest level is compiled as any agent, by `mpc.distil`. Every model of `upper` has to
    tell the action between two of its latents, as `worldmodels.Abstraction.infer_action` does. Raises `HierarchyError` where no episode
    is as long as a step of a level.
    """
    found = []
    for level, model in enumerate(agent.upper, 1):
        episodes = seen_from(model, episodes)
        found.append(compiled(agent.above(level), episodes, settings, seed=seed))
    return tuple(found)


def seen_from(model: UpperModel, episodes: Sequence[Episode]) -> Episodes:
    """Episodes of the level below as `model` lives them: every `stride`-th observation, and the action that says best how it went on."""
    seen = []
    for episode in episodes:
        observations = {name: values[:: model.stride] for name, values in episode.observations.items()}
        steps = len(episode) // model.stride
        if steps:
            codes = np.asarray(_acted(model, {name: observations[name] for name in model.spec.names}))
            ended = episode.terminated and len(episode) == steps * model.stride
            seen.append(Episode(observations, codes, None, ended, not ended, episode.seed))
    if not seen:
        raise HierarchyError(f"no episode has the {model.stride} steps that one step of a level takes: record longer ones.")
    return Episodes(model.spec, tuple(seen))


@jax.jit
def _acted(model: Any, observations: dict[str, Array]) -> Array:
    """[T], the action between each of T+1 observations and the next."""
    latents = jax.vmap(model.start)(observations)
    return jax.vmap(model.infer_action)(latents[:-1], latents[1:])
