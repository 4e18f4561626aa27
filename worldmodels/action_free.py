"""Learn first by watching, then, from a few steps with their actions, what actions do.

Watching, z stands for the action that nobody recorded: what has to be known beside the state to say what comes next (after
Edwards et al. 2019, section 3, and Schmidt & Jiang 2024). From the steps with actions an inverse model learns which action leads from
one latent to the next, and says so of all that was watched (Baker et al. 2022, section 3); a translator then learns which z an action
amounts to, through the predictor that watching made. The encoder stays as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from worldmodels.data.episode import Episode, Episodes
from worldmodels.data.windows import warn_of_short
from worldmodels.errors import DataError, SpecError
from worldmodels.jepa import JEPA
from worldmodels.networks import MLP
from worldmodels.spec import DiscreteAction
from worldmodels.training import SEES, Progress, TrainingSettings, train

PARTS = (*SEES, "predictor", "expander", "readout_head", "cost_head", "translator")
KEPT = (*SEES, "normaliser", "predictor", "expander", "readout_head")
BATCH, DECAY = 128, 0.3  # of the inverse model's training: few steps have to do, so its weights are held small


def learn_actions(
    watched: JEPA,
    episodes: Sequence[Episode],
    settings: TrainingSettings | None = None,
    *,
    seen: Sequence[Episode] = (),
    updates: int = 4_000,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    watch: Callable[[JEPA, int], None] | None = None,
) -> JEPA:
    """A model to plan with, from one trained with `actions="latent"` and episodes with actions (and costs, where it shall know them).

    Args:
      seen: episodes whose actions are not looked at, such as those that were watched: they are learned from too, by the actions that
        `infer_actions` finds in them.

    Raises what `check_labelled` does.
    """
    settings = settings or TrainingSettings()
    check_labelled(watched, episodes, settings)
    spec = getattr(episodes, "spec", watched.spec)
    model = JEPA(spec, seed=seed, **asdict(replace(watched.settings, actions="translated")))
    for name in KEPT:
        setattr(model, name, jax.tree.map(lambda leaf: leaf, getattr(watched, name)))
    held = SEES if len(seen) else (*SEES, "predictor", "readout_head")  # few steps would only spoil what many have taught
    settings = replace(settings, frozen=_there(model, held))
    taught: dict[str, Any] = {"updates": updates, "seed": seed, "progress": progress, "watch": watch}
    if not len(seen):
        return train(model, episodes, settings, **taught)
    every = (*episodes, *infer_actions(watched, episodes, seen, seed=seed))
    paid = [episode.costs is not None for episode in every]
    if all(paid) or not any(paid):
        return train(model, Episodes(spec, every), settings, **taught)
    unpaid = Episodes(spec, tuple(replace(episode, costs=None) for episode in every))
    known = tuple(episode for episode in every if episode.costs is not None)
    if all(len(episode) < settings.length for episode in known):
        warn_of_short([len(episode) for episode in known], settings.length)
        return train(model, unpaid, settings, **taught)
    model = train(model, unpaid, settings, **{**taught, "watch": None})  # none to keep before it knows costs
    others = _there(model, tuple(name for name in PARTS if name != "cost_head"))
    return train(model, Episodes(spec, known), replace(settings, frozen=others), **taught)


def check_labelled(watched: JEPA, episodes: Sequence[Episode], settings: TrainingSettings) -> None:
    """Raise where actions cannot be learned from `episodes`; `watched` need not have watched anything yet.

    `SpecError` for a model that is not made to watch, or remembers, and for episodes that observe something else; their actions are
    their own. `DataError` where none is as long as a window.
    """
    if watched.settings.actions != "latent":
        raise SpecError(f"a model with actions={watched.settings.actions!r}: expected one trained with actions='latent'.")
    if watched.settings.memory != "none":
        raise SpecError(f"a model with memory={watched.settings.memory!r} that saw no actions: expected memory='none'.")
    spec = getattr(episodes, "spec", watched.spec)
    if spec.observation != watched.spec.observation:
        raise SpecError(f"the model watched {watched.spec.observation}, the episodes with actions show {spec.observation}.")
    if spec.seconds_per_step != watched.spec.seconds_per_step:
        raise SpecError(
            f"the model watched steps of {watched.spec.seconds_per_step} s, the episodes with actions have steps of "
            f"{spec.seconds_per_step} s. Expected the same."
        )
    longest = max((len(episode) for episode in episodes), default=0)
    if longest < settings.length:
        raise DataError(
            f"the longest of {len(episodes)} episodes with actions has {longest} decisions, a window needs {settings.length}. "
            "Give longer ones."
        )


def _there(model: JEPA, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the parts that the model has."""
    return tuple(name for name in names if jax.tree.leaves(getattr(model, name)))


def infer_actions(
    model: JEPA, labelled: Sequence[Episode], seen: Sequence[Episode], *, updates: int = 2_000, seed: int = 0
) -> list[Episode]:
    """`seen` with the actions that lead from each latent of `model` to the next, as the `labelled` episodes tell.

    An inverse model of latents and their changes, each in units of its spread; the likeliest action where actions are discrete.
    """
    spec = getattr(labelled, "spec", model.spec)
    space: Any = spec.action
    discrete = isinstance(space, DiscreteAction)

    @jax.jit
    def encode(model: JEPA, observations: dict[str, Array]) -> Float[Array, "T D"]:
        return jax.vmap(lambda seen: model.features(model.start(seen)))(observations)

    def steps(episode: Episode) -> np.ndarray:
        latents = np.asarray(encode(model, {name: episode.observations[name] for name in model.spec.names}))
        return np.concatenate([latents[:-1], np.diff(latents, axis=0)], -1)

    given = np.concatenate([steps(episode) for episode in labelled])
    actions = np.concatenate([np.asarray(spec.action.normalise(episode.actions)) for episode in labelled])
    centre, spread = given.mean(0), given.std(0) + 1e-6
    outputs = space.n if discrete else space.shape[0]
    network = MLP(given.shape[1], (model.settings.hidden,) * 2, outputs, rngs=nnx.Rngs(seed))
    inverse = _fitted(network, (given - centre) / spread, actions, jax.random.key(seed), discrete=discrete, updates=updates)
    found = []
    for episode in seen:
        said = np.asarray(inverse((steps(episode) - centre) / spread))
        chosen = said.argmax(-1) if discrete else spec.action.denormalise(np.clip(said, -1.0, 1.0))
        found.append(replace(episode, actions=np.asarray(chosen, np.int32 if discrete else np.float32)))
    return found


@partial(jax.jit, static_argnames=("discrete", "updates"))
def _fitted(network: MLP, inputs: Array, actions: Array, key: Array, *, discrete: bool, updates: int) -> MLP:
    """`network`, once it says the actions."""
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    optimizer = optax.adamw(optax.linear_schedule(1e-3, 1e-4, updates), weight_decay=DECAY)

    def loss(params: Any, rows: Array):
        said = nnx.merge(graph, params, rest)(inputs[rows])
        if discrete:
            return optax.softmax_cross_entropy_with_integer_labels(said, actions[rows]).mean()
        return ((said - actions[rows]) ** 2).mean()

    def update(carry, key):
        params, state = carry
        gradients = jax.grad(loss)(params, jax.random.randint(key, (BATCH,), 0, len(inputs)))
        step, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, step), state), None

    (params, _), _ = jax.lax.scan(update, (params, optimizer.init(params)), jax.random.split(key, updates))
    return nnx.merge(graph, params, rest)
