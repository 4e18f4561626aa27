"""How many steps it takes from one state to another, learned from data without rewards: a critic for every goal.

Quasimetric reinforcement learning (Wang, Torralba, Isola & Zhang 2023, section 4): push any two states as far apart as they will go,
while one step of the data never costs more than one. What holds is the shortest path through what the data show, stitched together from
episodes that never made the whole way. The distance obeys the triangle inequality by its form, and is not symmetric.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from mpc.errors import CostError
from mpc.goals import Seeking
from planners import pytree, static
from planners.errors import require_positive
from worldmodels.data.episode import Episode
from worldmodels.networks import MLP
from worldmodels.normaliser import Normaliser

HEADS = 8
CHUNK = 250  # updates in one compiled call


class TemporalDistance(nnx.Module):
    """Steps from features to features: the mean over heads of max_i (φ_i(x) − φ_i(y))⁺.

    A maximum of differences can be any quasimetric (the asymmetric part of Liu et al. 2023, equation 5), a mean of quasimetrics is one.
    """

    def __init__(self, features: int, *, hidden: int = 256, components: int = 16, seed: int = 0):
        self.features, self.hidden, self.components = features, hidden, components
        self.normaliser = Normaliser(features)
        self.network = MLP(features, (hidden, hidden), HEADS * components, rngs=nnx.Rngs(seed))

    @property
    def sizes(self) -> dict[str, int]:
        """What builds another of the same shapes."""
        return {"features": self.features, "hidden": self.hidden, "components": self.components}

    def embed(self, features: Float[Array, "*B F"]) -> Float[Array, "*B K C"]:
        embedded = self.network(self.normaliser(features))
        return embedded.reshape(*features.shape[:-1], HEADS, -1)

    def __call__(self, features: Float[Array, "*B F"], goal: Float[Array, "*B F"]) -> Float[Array, "*B"]:
        return apart(self.embed(features), self.embed(goal))


def apart(one: Float[Array, "*B K C"], other: Float[Array, "*B K C"]) -> Float[Array, "*B"]:
    """The quasimetric on embeddings."""
    return jax.nn.relu(one - other).max(-1).mean(-1)


@dataclass(frozen=True)
class DistanceSettings:
    """How to learn it. Static under `jit`.

    Attributes:
      updates, batch, learning_rate: of Adam, falling linearly to a tenth.
      far: distances well beyond this many steps are pushed no further.
      slack: root mean square of what a step may cost too much.
    """

    updates: int = 4_000
    batch: int = 512
    learning_rate: float = 1e-3
    far: float = 200.0
    slack: float = 0.1
    hidden: int = 256

    def __post_init__(self):
        require_positive(updates=self.updates, batch=self.batch, hidden=self.hidden, far=self.far)
        if not 0 < self.slack < 1:
            raise CostError(f"slack={self.slack}: expected a share of one step, between 0 and 1.")


class DistanceProgress(NamedTuple):
    """One report: what one step of the data costs on average, how far two states of the data are apart, and the price of a step."""

    updates: int
    total: int
    step: float
    apart: float
    price: float


def learn_distance(
    model: Any,
    episodes: Sequence[Episode],
    settings: DistanceSettings | None = None,
    *,
    seed: int = 0,
    progress: Callable[[DistanceProgress], None] | None = None,
) -> TemporalDistance:
    """The distance between features of the frozen `model`, in decisions of the episodes, which are of the same environment.

    Raises `CostError` for a model with a memory, for no episodes, or for such as do not show what the model observes.
    """
    settings = settings or DistanceSettings()
    if not len(episodes):
        raise CostError("there is no episode to learn a distance from: collect some first.")
    if getattr(model, "memory", None) is not None:
        raise CostError("the model has a memory, and a distance is learned from single observations: expected memory='none'.")
    for name, shape in model.spec.observation:
        shown = {each: values.shape[1:] for each, values in episodes[0].observations.items()}
        if shown.get(name) != shape:
            raise CostError(
                f"the episodes show {shown}, the model observes {dict(model.spec.observation)}: learn from such episodes."
            )
    seen = {name: np.concatenate([episode.observations[name] for episode in episodes]) for name in model.spec.names}
    features = jax.jit(jax.vmap(lambda observation: model.features(model.start(observation))))(seen)
    last = np.cumsum([len(episode) + 1 for episode in episodes]) - 1
    starts = np.setdiff1d(np.arange(len(features)), last)
    critic = TemporalDistance(features.shape[-1], hidden=settings.hidden, seed=seed)
    critic.normaliser.fit(np.asarray(features))
    graph, params, rest = nnx.split(critic, nnx.Param, ...)
    trained = params, jnp.full((), 0.3)
    carry = trained, _optimizer(settings).init(trained)
    for done in range(0, settings.updates, CHUNK):
        count = min(CHUNK, settings.updates - done)
        key = jax.random.fold_in(jax.random.key(seed), done)
        carry, figures = _advance(carry, (graph, rest), features, jnp.asarray(starts), key, settings=settings, count=count)
        if not np.isfinite(float(figures[1])):
            raise CostError("the distance became infinite in training: lower learning_rate.")
        if progress is not None:
            progress(DistanceProgress(done + count, settings.updates, *(float(x) for x in figures)))
    return nnx.merge(graph, carry[0][0], rest)


def _optimizer(settings: DistanceSettings) -> optax.GradientTransformation:
    schedule = optax.linear_schedule(settings.learning_rate, 0.1 * settings.learning_rate, settings.updates)
    return optax.adam(schedule)


@partial(jax.jit, static_argnames=("settings", "count"))
def _advance(carry: Any, parts: Any, features: Array, starts: Array, key: Array, *, settings: DistanceSettings, count: int):
    """`count` updates of network and price, and the last one's figures."""
    graph, rest = parts

    def loss(trained: Any, key: Array):
        params, price = trained
        critic = nnx.merge(graph, params, rest)
        first, other = jax.random.split(key)
        chosen = starts[jax.random.randint(first, (settings.batch,), 0, len(starts))]
        goals = jax.random.randint(other, (settings.batch,), 0, len(features))
        here, after, there = (critic.embed(features[rows]) for rows in (chosen, chosen + 1, goals))
        step, distance = apart(here, after), apart(here, there)
        too_much = (jax.nn.relu(step - 1) ** 2).mean() - settings.slack**2
        # The price of a step climbs while steps cost too much: gradient ascent on a Lagrange multiplier.
        rising = jnp.exp(10 * price)
        constraint = jax.lax.stop_gradient(rising) * too_much - rising * jax.lax.stop_gradient(too_much)
        near = settings.far * jax.nn.softplus(5 * (1 - distance / settings.far)) / 5
        return near.mean() + constraint, (step.mean(), distance.mean(), rising)

    def update(carry, key):
        trained, optimizer = carry
        gradients, figures = jax.grad(loss, has_aux=True)(trained, key)
        changes, optimizer = _optimizer(settings).update(gradients, optimizer)
        return (optax.apply_updates(trained, changes), optimizer), figures

    carry, figures = jax.lax.scan(update, carry, jax.random.split(key, count))
    return carry, jax.tree.map(lambda x: x[-1], figures)


@pytree
class TimeToGoal(Seeking):
    """Steps to what `goal` shows, as the critic knows them: a task cost, paid at every step and at the end of the plan."""

    critic: TemporalDistance
    goal: dict[str, Array]

    def running(self, model, latent, action, step):
        return {"steps to goal": self.terminal(model, latent, step)}

    def terminal(self, model, latent, step):
        return self.critic(model.features(latent), model.features(model.start(self.goal)))


@pytree
class Leaps:
    """Steps that one prediction covers beyond the `steps` it may take, as the critic knows them: a cost on abstract plans.

    A level that predicts far may predict through a wall; the critic knows the way round. Beside a task, keeps subgoals reachable:

        mpc.combine(task=(1.0, mpc.TimeToGoal(critic, goal)), leaps=(8.0, mpc.Leaps(critic, above.stride)))

    Attributes:
      critic: learned on the level that pays.
      steps: as the critic counts them, in decisions: the level's stride, times all strides below it.
    """

    critic: TemporalDistance
    steps: int = static()

    def running(self, model, latent, action, step):
        following = model.predict(latent, action, model.draw_noise(1, 1, key=jax.random.key(0))[0, 0])
        covered = self.critic(model.features(latent), model.features(following))
        return {"leap": jax.nn.relu(covered - self.steps)}

    def terminal(self, model, latent, step):
        return jnp.zeros(())
