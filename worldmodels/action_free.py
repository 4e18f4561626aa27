"""Learn first by watching, then, from a few steps with their actions, what actions do.

Watching, z stands for the action that nobody recorded: what has to be known beside the state to say what comes next (after
Edwards et al. 2019, section 3, and Schmidt & Jiang 2024). Then a translator learns which z an action amounts to, through the
predictor that watching made; the encoder stays as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import jax

from worldmodels.data.episode import Episode
from worldmodels.errors import SpecError
from worldmodels.jepa import JEPA
from worldmodels.training import Progress, TrainingSettings, train

SEES = ("eyes", "memory", "encoder")
KEPT = (*SEES, "normaliser", "predictor", "expander")


def learn_actions(
    watched: JEPA,
    episodes: Sequence[Episode],
    settings: TrainingSettings | None = None,
    *,
    updates: int = 4_000,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    watch: Callable[[JEPA, int], None] | None = None,
) -> JEPA:
    """A model to plan with, from one trained with `actions="latent"` and episodes with actions (and costs, where it shall know them).

    Raises `SpecError` for a model that was not trained so, and for episodes that observe something else; their actions are their own.
    """
    if watched.settings.actions != "latent":
        raise SpecError(f"a model with actions={watched.settings.actions!r}: expected one trained with actions='latent'.")
    if watched.settings.memory != "none":
        raise SpecError(f"a model with memory={watched.settings.memory!r} that saw no actions: expected memory='none'.")
    spec = getattr(episodes, "spec", watched.spec)
    if spec.observation != watched.spec.observation:
        raise SpecError(f"the model watched {watched.spec.observation}, the episodes with actions show {spec.observation}.")
    model = JEPA(spec, seed=seed, **asdict(replace(watched.settings, actions="translated")))
    for name in KEPT:
        setattr(model, name, jax.tree.map(lambda leaf: leaf, getattr(watched, name)))
    parts = tuple(name for name in SEES if jax.tree.leaves(getattr(model, name)))
    settings = replace(settings or TrainingSettings(), frozen=parts)
    return train(model, episodes, settings, updates=updates, seed=seed, progress=progress, watch=watch)
