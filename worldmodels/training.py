"""Training a JEPA: one compiled update, data on the device, windows drawn inside jit."""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from worldmodels.data.episode import Episode, Episodes
from worldmodels.data.stream import Stream
from worldmodels.data.windows import Buffer
from worldmodels.errors import DataError, SpecError, WorldModelError
from worldmodels.jepa import JEPA
from worldmodels.losses import look, losses
from worldmodels.networks import trained
from worldmodels.objectives import Objective, VICReg
from worldmodels.recipe import OnCollapse, Recipe, collapsed, recipe, sound_alarm
from worldmodels.spec import Spec

PROBE = 512  # windows
SEES = ("eyes", "memory", "encoder")  # parts of a model that observations go through
STILL = 1e-3  # standard deviations: what changes by less from moment to moment counts as constant
ALARMING = 2  # reports in a row with a collapsed representation
CAPACITY = 16_384  # rows of data that fit without compiling again


class SkippedUpdateWarning(UserWarning):
    """Updates that would have made parameters that are not finite."""


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. Static under `jit`.

    Attributes:
      batch: windows an update; rounded up so that each member of an ensemble has as many.
      length: model steps predicted open loop in each window.
      learning_rate: peak of Adam's step size, reached after `warmup` updates.
      final_rate: share of it that is left at the end of each `advance`, falling linearly.
      cost_gradient: weight of the cost head's gradient into encoder and predictor; 0 keeps the model reward-free.
      objective: the terms that shape the representation and their weights: `worldmodels.preset(name).objective`, for one.
      frozen: parts of the model that do not learn, such as "encoder"; where what sees is among them (encoder, eyes, memory), the
        scaling of observations stays as it is.
      on_collapse: warn, stop or ignore, where the representation collapses.
    """

    batch: int = 256
    length: int = 5
    learning_rate: float = 1e-3
    final_rate: float = 0.1
    warmup: int = 100
    weight_decay: float = 1e-4
    cost_gradient: float = 0.0
    objective: Objective = VICReg()
    frozen: tuple[str, ...] = ()
    on_collapse: OnCollapse = "warn"

    def __post_init__(self):
        for name in ("batch", "length", "warmup"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name}={getattr(self, name)}: expected at least 1.")
        if not self.learning_rate > 0:
            raise SpecError(f"learning_rate={self.learning_rate}: expected a positive number.")
        if not isinstance(self.objective, Objective):
            raise SpecError(f"objective={self.objective!r}: expected one of worldmodels.objectives, such as VICReg().")
        if self.on_collapse not in get_args(OnCollapse):
            raise SpecError(f"on_collapse={self.on_collapse!r}: expected one of {', '.join(get_args(OnCollapse))}.")

    def optimizer(self) -> optax.GradientTransformation:
        schedule = optax.linear_schedule(0.0, self.learning_rate, self.warmup)
        return optax.chain(optax.clip_by_global_norm(10.0), optax.adamw(schedule, weight_decay=self.weight_decay))


class TrainingState(NamedTuple):
    """What training carries on: pass it back to `advance` with more data to go on where it stopped.

    Attributes:
      heads: what the objective trains beside the model.
      teacher: parameters of the model's slow copy; None for objectives without.
    """

    model: JEPA
    optimizer: Any
    updates: Array
    heads: dict[str, nnx.Module]
    teacher: Any


class Progress(NamedTuple):
    """One report: losses averaged over the last chunk of updates, and what a probe of the data shows after it."""

    updates: int
    total: int
    losses: dict[str, float]
    effective_rank: float
    recipe: dict[str, float]


def start(model: JEPA, settings: TrainingSettings, *, seed: int = 0) -> TrainingState:
    """A fresh optimiser around `model`, and fresh heads for the objective."""
    heads = settings.objective.heads(model, nnx.Rngs(seed))
    params = (trained(model), trained(heads))
    teacher = None if settings.objective.momentum is None else jax.tree.map(jnp.array, params[0])
    return TrainingState(model, settings.optimizer().init(params), jnp.zeros((), jnp.int32), heads, teacher)


@partial(jax.jit, static_argnames=("settings", "count"))
def _advance(
    state: TrainingState, buffer: Buffer, rate: tuple[Array, Array], key: Array, *, settings: TrainingSettings, count: int
) -> tuple[TrainingState, dict[str, Array], Recipe, Array]:
    """`count` updates with the step size going from one share of its peak to the other, the losses' means, a probe, and how many were skipped.

    An update whose gradient is not finite changes neither parameters nor the optimiser, and its losses are not counted.
    """
    graph, params, rest = nnx.split(state.model, nnx.Param, ...)
    head_graph, head_params, head_rest = nnx.split(state.heads, nnx.Param, ...)
    weights = {**settings.objective.weights, "readout": 1.0, "cost": 1.0, "prior": 1.0}
    momentum = settings.objective.momentum

    def slow_copy(teacher):
        return None if teacher is None else nnx.merge(graph, teacher, rest)

    def loss(params: Any, teacher, window, key):
        model, heads = nnx.merge(graph, params[0], rest), nnx.merge(head_graph, params[1], head_rest)
        terms = losses(model, settings, window, heads=heads, teacher=slow_copy(teacher), key=key)
        return sum(weights[name] * value for name, value in terms.items()), terms

    def update(carry, inputs):
        params, optimizer, teacher = carry
        key, scale = inputs
        window = buffer.sample(settings.batch, settings.length + state.model.context, key=key)
        gradients, terms = jax.grad(loss, has_aux=True)(params, teacher, window, jax.random.fold_in(key, 1))
        sound = jnp.isfinite(optax.tree.norm(gradients))
        step, stepped = settings.optimizer().update(gradients, optimizer, params)
        step: Any = jax.tree.map(lambda update: scale * update, step)
        for name in settings.frozen:
            step[0][name] = jax.tree.map(jnp.zeros_like, step[0][name])
        moved = optax.apply_updates(params, step), stepped
        params, optimizer = jax.tree.map(lambda new, old: jnp.where(sound, new, old), moved, (params, optimizer))
        if momentum is not None:
            teacher = optax.incremental_update(params[0], teacher, 1 - momentum)
        return (params, optimizer, teacher), (terms, sound)

    inputs = jax.random.split(key, count), jnp.linspace(*rate, count)
    carry = ((params, head_params), state.optimizer, state.teacher)
    ((params, head_params), optimizer, teacher), (terms, sound) = jax.lax.scan(update, carry, inputs)
    model, heads = nnx.merge(graph, params, rest), nnx.merge(head_graph, head_params, head_rest)
    windows, probe_key = PROBE // model.settings.members * model.settings.members, jax.random.fold_in(key, count)
    probe = buffer.sample(windows, settings.length + model.context, key=probe_key)
    found = recipe(look(model, probe, heads=heads, teacher=slow_copy(teacher)))
    state = TrainingState(model, optimizer, state.updates + count, heads, teacher)
    return state, jax.tree.map(partial(jnp.mean, where=sound), terms), found, count - sound.sum()


def advance(
    state: TrainingState,
    episodes: Sequence[Episode] | Stream,
    settings: TrainingSettings,
    *,
    updates: int,
    key: Array,
    chunk: int = 100,
    progress: Callable[[Progress], None] | None = None,
    watch: Callable[[JEPA, int], None] | None = None,
) -> TrainingState:
    """Train for at least `updates` more updates on `episodes`, `chunk` of them in each compiled call.

    Where the representation collapses, `settings.on_collapse` decides between a `CollapseWarning` and a `CollapseError`.
    Updates whose gradients are not finite are skipped, with a `SkippedUpdateWarning`; `WorldModelError` where a whole chunk is.
    """
    if updates < 1:
        raise SpecError(f"updates={updates}: expected at least 1.")
    spec, members = state.model.spec, state.model.settings.members
    given = getattr(episodes, "spec", spec)
    if given != spec:
        raise DataError(f"the episodes are of {given}, the model is for {spec}: train a model made from the data's own spec.")
    if state.model.settings.actions != "latent" and spec.action.shape == (0,):
        raise DataError(
            f"the episodes of {spec.environment} have no actions, which a model with actions={state.model.settings.actions!r} needs: "
            "give episodes with actions, or learn by watching (actions='latent', sailplan train --action-free DATA --then LABELLED)."
        )
    settings = replace(settings, batch=-(-settings.batch // members) * members)
    if not len(episodes):
        raise DataError("there is no episode to train on: collect some first (`sailplan collect`).")
    unknown = sorted(set(settings.frozen) - set(trained(state.model)))
    if unknown:
        raise SpecError(f"frozen={unknown}: no such parts. This model has {sorted(trained(state.model))}.")
    if not isinstance(episodes, Stream):
        episodes = Episodes(spec, tuple(episodes))  # a dataset reads and checks its files whenever it is asked
    known = not set(SEES).isdisjoint(settings.frozen)
    state = state._replace(model=_with_normalisers(state.model, episodes, known=known))
    chunks = -(-updates // chunk)
    rates = np.linspace(1.0, settings.final_rate, chunks + 1, dtype=np.float32)
    low = 0  # reports in a row that showed a collapse
    length = settings.length + state.model.context
    with _buffers(episodes, spec, settings.batch * chunk, length, jax.random.fold_in(key, chunks)) as buffers:
        for index, (subkey, buffer) in enumerate(zip(jax.random.split(key, chunks), buffers, strict=False)):
            if int(state.updates) == 0 and not known:
                state = state._replace(model=_having_looked(state.model, buffer, subkey))
            rate = rates[index], rates[index + 1]
            state, terms, found, skipped = _advance(state, buffer, rate, subkey, settings=settings, count=chunk)
            _warn_of_skipped(int(skipped), chunk, int(state.updates))
            low = low + 1 if collapsed(found, state.model.settings.norm) and "encoder" not in settings.frozen else 0
            if low == ALARMING:
                sound_alarm(found, settings.objective, state.model.settings.norm, int(state.updates), settings.on_collapse)
            if progress is not None:
                figures = {name: float(value) for name, value in terms.items()}
                shown = {name: float(value) for name, value in found._asdict().items()}
                progress(Progress((index + 1) * chunk, chunks * chunk, figures, shown["effective_rank"], shown))
            if watch is not None:
                watch(state.model, int(state.updates))
    return state


def _warn_of_skipped(skipped: int, count: int, updates: int) -> None:
    if not skipped:
        return
    said = f"{skipped} of the {count} updates before update {updates} were skipped: their gradients were not finite."
    if skipped == count:
        raise WorldModelError(f"{said} Look for huge numbers in the data (`sailplan data verify`), or lower the learning rate.")
    warnings.warn(said, SkippedUpdateWarning, stacklevel=3)


def train(
    model: JEPA,
    episodes: Sequence[Episode] | Stream,
    settings: TrainingSettings | None = None,
    *,
    updates: int = 4_000,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    watch: Callable[[JEPA, int], None] | None = None,
) -> JEPA:
    """A trained copy of `model`; `episodes` may be `Episodes` in memory, a `Dataset` on disk, or a `Stream` of one.

    `watch` sees the model, and after how many updates it is, along the way: `selection.Best` keeps the one to plan with.

    Raises `DataError` where the data are empty, too short for a window, or of another environment.
    """
    settings = settings or TrainingSettings()
    state = start(model, settings, seed=seed)
    return advance(state, episodes, settings, updates=updates, key=jax.random.key(seed), progress=progress, watch=watch).model


@contextlib.contextmanager
def _buffers(
    episodes: Sequence[Episode] | Stream, spec: Spec, fresh: int, length: int, key: Array
) -> Iterator[Iterator[Buffer]]:
    """A buffer for each chunk of updates: the same one of all the data, or, from a stream, one of at most `fresh` windows each time."""
    if isinstance(episodes, Stream):
        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
        with contextlib.closing(episodes.buffers(episodes.bounded(fresh, length), length, seed=seed)) as buffers:
            yield buffers
    else:
        yield itertools.repeat(Buffer.from_episodes(episodes, length, capacity=CAPACITY))


def _having_looked(model: JEPA, buffer: Buffer, key: Array) -> JEPA:
    """A copy that knows the mean picture and, where it has a memory, how much what it sees usually changes in a moment.

    Of pictures that is how they look before anything is learned, so it is found out once.
    """
    if model.memory is None and not model.eyes:
        return model
    model = jax.tree.map(lambda leaf: leaf, model)
    window = buffer.sample(PROBE, 1, key=key)
    frames = window.frames or {}
    for name, eye in model.eyes.items():
        eye.fit(jnp.reshape(frames[name], (-1, *frames[name].shape[2:])))
    if model.memory is not None:
        spread = jnp.diff(model._see(window.observations, frames), axis=1).std((0, 1))
        model.memory.pace[...] = jnp.where(spread < STILL, 1.0, spread)
    return model


def _with_normalisers(model: JEPA, episodes: Sequence[Episode] | Stream, *, known: bool) -> JEPA:
    """A copy that scales costs, and unless that is `known` observations, as these data do."""
    model = jax.tree.map(lambda leaf: leaf, model)
    if isinstance(episodes, Stream):
        observations, paid = episodes.rows()
        if model.spec.size and not known:
            model.normaliser.fit(observations)
        if episodes.has_costs:
            model.cost_normaliser.fit(paid[:, None])
        return model
    if model.spec.size and not known:
        model.normaliser.fit(np.concatenate([np.asarray(model.spec.flatten(episode.observations)) for episode in episodes]))
    costs = [episode.costs for episode in episodes if episode.costs is not None]
    if costs:
        model.cost_normaliser.fit(np.concatenate(costs)[:, None])
    return model
