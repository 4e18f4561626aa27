"""Training a JEPA: one compiled update, data on the device, windows drawn inside jit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from worldmodels.data.episode import Episode, Episodes
from worldmodels.data.windows import Buffer, Window
from worldmodels.diagnostics import effective_rank
from worldmodels.errors import DataError, SpecError
from worldmodels.jepa import JEPA
from worldmodels.objectives import VICReg

RANK_FLOOR = 0.1  # of the standard deviation 1 that the regulariser asks for
CAPACITY = 16_384  # rows of data that fit without compiling again


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. Static under `jit`.

    Attributes:
      batch: windows an update.
      length: model steps predicted open loop in each window.
      learning_rate: peak of Adam's step size, reached after `warmup` updates.
      final_rate: share of it that is left at the end of each `advance`, falling linearly.
      cost_gradient: weight of the cost head's gradient into encoder and predictor; 0 keeps the model reward-free.
      objective: the terms that shape the representation and their weights.
    """

    batch: int = 256
    length: int = 5
    learning_rate: float = 1e-3
    final_rate: float = 0.1
    warmup: int = 100
    weight_decay: float = 1e-4
    cost_gradient: float = 0.0
    objective: VICReg = VICReg()

    def __post_init__(self):
        for name in ("batch", "length", "warmup"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name}={getattr(self, name)}: expected at least 1.")
        if not self.learning_rate > 0:
            raise SpecError(f"learning_rate={self.learning_rate}: expected a positive number.")

    def optimizer(self) -> optax.GradientTransformation:
        schedule = optax.linear_schedule(0.0, self.learning_rate, self.warmup)
        return optax.chain(optax.clip_by_global_norm(10.0), optax.adamw(schedule, weight_decay=self.weight_decay))


class TrainingState(NamedTuple):
    """What training carries on: pass it back to `advance` with more data to go on where it stopped."""

    model: JEPA
    optimizer: Any
    updates: Array


class Progress(NamedTuple):
    """One report: figures averaged over the last chunk of updates."""

    updates: int
    total: int
    losses: dict[str, float]
    effective_rank: float


def losses(model: JEPA, settings: TrainingSettings, window: Window) -> dict[str, Array]:
    """Every loss by name, unweighted, on a batch of windows [B, L+1, ...]."""
    latents = model.encode(window.observations)
    targets = latents[:, 1:]
    no_noise = jnp.zeros((0,))

    def step(latent, action):
        following = model.predict(latent, action, no_noise)
        return following, following

    actions = jnp.moveaxis(window.actions, 1, 0)
    predicted = jnp.moveaxis(jax.lax.scan(step, latents[:, 0], actions)[1], 0, 1)
    terms = settings.objective.terms(targets, predicted, model.expander(targets), model.expander(predicted))

    seen = jax.lax.stop_gradient(jnp.concatenate([latents, predicted], 1))
    truth = model.normaliser(jnp.concatenate([window.observations, window.observations[:, 1:]], 1))
    terms["readout"] = ((model.readout_head(seen) - truth) ** 2).mean()

    before = jnp.concatenate([latents[:, :-1], latents[:, :1], predicted[:, :-1]], 1)
    weight = settings.cost_gradient
    before = weight * before + (1 - weight) * jax.lax.stop_gradient(before)
    cost = model.cost_head(model._with_action(before, jnp.concatenate([window.actions, window.actions], 1)))
    paid = model.cost_normaliser(jnp.concatenate([window.costs, window.costs], 1)[..., None])
    terms["cost"] = ((cost - paid) ** 2).mean()
    return terms


def start(model: JEPA, settings: TrainingSettings) -> TrainingState:
    """A fresh optimiser around `model`."""
    _, params, _ = nnx.split(model, nnx.Param, ...)
    return TrainingState(model, settings.optimizer().init(params), jnp.zeros((), jnp.int32))


@partial(jax.jit, static_argnames=("settings", "count"))
def _advance(
    state: TrainingState, buffer: Buffer, rate: tuple[Array, Array], key: Array, *, settings: TrainingSettings, count: int
):
    graph, params, rest = nnx.split(state.model, nnx.Param, ...)
    weights = {**vars(settings.objective), "readout": 1.0, "cost": 1.0}

    def loss(params, window):
        terms = losses(nnx.merge(graph, params, rest), settings, window)
        return sum(weights[name] * value for name, value in terms.items()), terms

    def update(carry, inputs):
        params, optimizer = carry
        key, scale = inputs
        window = buffer.sample(settings.batch, settings.length, key=key)
        gradients, terms = jax.grad(loss, has_aux=True)(params, window)
        step, optimizer = settings.optimizer().update(gradients, optimizer, params)
        step = jax.tree.map(lambda update: scale * update, step)
        return (optax.apply_updates(params, step), optimizer), terms

    inputs = jax.random.split(key, count), jnp.linspace(*rate, count)
    (params, optimizer), terms = jax.lax.scan(update, (params, state.optimizer), inputs)
    model = nnx.merge(graph, params, rest)
    probe = buffer.sample(512, settings.length, key=key)
    rank = effective_rank(model.encode(probe.observations[:, 0]), floor=RANK_FLOOR)
    state = TrainingState(model, optimizer, state.updates + count)
    return state, jax.tree.map(jnp.mean, terms), rank


def advance(
    state: TrainingState,
    episodes: Sequence[Episode],
    settings: TrainingSettings,
    *,
    updates: int,
    key: Array,
    chunk: int = 100,
    progress: Callable[[Progress], None] | None = None,
) -> TrainingState:
    """Train for at least `updates` more updates on `episodes`, `chunk` of them in each compiled call."""
    spec = state.model.spec
    given = getattr(episodes, "spec", spec)
    if given != spec:
        raise DataError(f"the episodes are of {given}, the model is for {spec}: train a model made from the data's own spec.")
    if not len(episodes):
        raise DataError("there is no episode to train on: collect some first (`sailplan collect`).")
    buffer = Buffer.from_episodes(Episodes(spec, tuple(episodes)), settings.length, capacity=CAPACITY)
    state = state._replace(model=_with_normalisers(state.model, episodes))
    chunks = -(-updates // chunk)
    rates = np.linspace(1.0, settings.final_rate, chunks + 1, dtype=np.float32)
    for index, subkey in enumerate(jax.random.split(key, chunks)):
        rate = rates[index], rates[index + 1]
        state, terms, rank = _advance(state, buffer, rate, subkey, settings=settings, count=chunk)
        if progress is not None:
            figures = {name: float(value) for name, value in terms.items()}
            progress(Progress((index + 1) * chunk, chunks * chunk, figures, float(rank)))
    return state


def train(
    model: JEPA,
    episodes: Sequence[Episode],
    settings: TrainingSettings | None = None,
    *,
    updates: int = 4_000,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> JEPA:
    """A trained copy of `model`; `episodes` may be `Episodes` in memory or a `Dataset` on disk.

    Raises `DataError` where the data are empty, too short for a window, or of another environment.
    """
    settings = settings or TrainingSettings()
    state = start(model, settings)
    return advance(state, episodes, settings, updates=updates, key=jax.random.key(seed), progress=progress).model


def _with_normalisers(model: JEPA, episodes: Sequence[Episode]) -> JEPA:
    model = jax.tree.map(lambda leaf: leaf, model)
    model.normaliser.fit(np.concatenate([np.asarray(model.spec.flatten(episode.observations)) for episode in episodes]))
    costs = [episode.costs for episode in episodes if episode.costs is not None]
    if costs:
        model.cost_normaliser.fit(np.concatenate(costs)[:, None])
    return model
