"""A critic and a policy for a new cost, learned in imagination alone: the model is frozen, no environment step is taken.

From states that the data show, the policy acts in the model for a while; the critic learns what that costs, the policy to cost
less, by the gradient of the cost along its own imagined future (Hafner et al. 2020, Dreamer, section 3; values of an ensemble as in
Hansen et al. 2024). The model never saw this cost.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from mpc.caution import cautious
from mpc.costs import OnModel, TaskCost, check
from mpc.critic import HIGHEST, Critic, two_hot
from mpc.encountered import encountered
from mpc.errors import CostError, LearningError
from mpc.goals import brought_near
from mpc.learning.losses import reaction_loss
from mpc.policy import Policy
from mpc.robustness import usual_errors
from mpc.rollouts import cheapest_first, continued, costs_to_go, drawn, rollouts
from planners.errors import require_counts
from worldmodels.data.episode import Episode
from worldmodels.errors import DataError
from worldmodels.spec import Spec

UNSOUND = 10  # updates in a row whose gradient is not finite, before one is let through and the loss tells


@dataclass(frozen=True)
class ImaginationSettings:
    """How to learn in imagination. Static under `jit`.

    Attributes:
      updates: of critic and policy, each on fresh imagined rollouts.
      batch: rollouts an update.
      length: steps of a rollout; beyond, the slow copy of the critic speaks.
      discount: per model step.
      trace: λ: how much further along the rollout is looked before the critic is believed; 1 is to its end.
      learning_rate: of Adam at first.
      final_rate: share of it at the end, to which it falls in a straight line: chaotic gradients at full step unlearn what was learned.
      target_rate: share of the critic that its slow copy takes over at each update.
      entropy: weight of the policy's entropy at first, where costs to go are in units of their spread.
      final_entropy: share of it at the end, to which it falls by the same factor each update: a noisy policy finds more and does not
        lean on what the model has wrong, a sure one costs less.
      max_scale: what deviations of actions from the policy's mean approach at most, normalised: the mean acts later, and where noise may
        fill the box it does the mean's work.
      caution: deviations of the cost that not knowing costs, where an ensemble disagrees as much as on average in the data's states;
        0 believes whatever the model says.
      errors: share of a usual error of the model, as it made them in the data, that is added to each step of a rollout, another in each
        rollout (`mpc.robustness`).
      hidden: width of critic and policy.
    """

    updates: int = 4_000
    batch: int = 64
    length: int = 16
    discount: float = 0.99
    trace: float = 0.95
    learning_rate: float = 1e-3
    final_rate: float = 0.05
    target_rate: float = 0.1
    entropy: float = 0.02
    final_entropy: float = 0.05
    max_scale: float = 0.37
    caution: float = 0.3
    errors: float = 0.5
    hidden: int = 128

    def __post_init__(self):
        require_counts(updates=self.updates, batch=self.batch, length=self.length, hidden=self.hidden)
        for name, right, expected in (
            ("discount", lambda x: 0 < x < 1, "a number between 0 and 1, since imagination never ends"),
            ("trace", lambda x: 0 <= x <= 1, "a number from 0, the critic alone, to 1, the rollout to its end"),
            ("learning_rate", lambda x: 0 < x < math.inf, "a finite number above 0"),
            ("final_rate", lambda x: 0 <= x <= 1, "a share of learning_rate, from 0 to 1"),
            ("target_rate", lambda x: 0 < x <= 1, "a share of the critic, above 0 and up to 1"),
            ("entropy", lambda x: 0 <= x < math.inf, "a finite number of at least 0"),
            ("final_entropy", lambda x: 0 < x <= 1, "a share of entropy, above 0 and up to 1"),
            ("max_scale", lambda x: 0.01 <= x < math.inf, "a finite number of at least 0.01"),
            ("caution", lambda x: 0 <= x < math.inf, "a finite number of at least 0"),
            ("errors", lambda x: 0 <= x < math.inf, "a finite number of at least 0"),
        ):
            value = getattr(self, name)
            if not isinstance(value, Real) or not right(value):
                raise CostError(f"{name}={value!r}: expected {expected}.")


class Imagined(NamedTuple):
    """All that learning carries on."""

    critic: Critic
    target: Critic
    policy: Policy
    optimizers: Any
    spread: Float[Array, ""]  # between the 5th and 95th percentile of costs to go, running
    ends: Any  # the latents that the last rollouts came to


class ImaginationProgress(NamedTuple):
    """One report: the critic's loss, and what the policy is expected to cost, discounted, from the data's states, caution's charge with it."""

    updates: int
    total: int
    loss: float
    cost_to_go: float


def imagine(
    model: Any,
    cost: TaskCost,
    episodes: Iterable[Episode],
    settings: ImaginationSettings | None = None,
    *,
    seed: int = 0,
    progress: Callable[[ImaginationProgress], None] | None = None,
) -> tuple[Critic, Policy]:
    """The critic and the policy for `cost` under the frozen `model`, from the states that `episodes` show.

    The policy follows the cost's own gradient through the model; for discrete actions, the critic's. Of an ensemble both count, beside
    the cost, what `settings.caution` charges for.

    Raises `CostError` for a cost that does not suit the model or has no finite gradient, `LearningError` without episodes or for those of another environment.
    """
    settings = settings or ImaginationSettings()
    shown, cost = _shown(model.spec, episodes), brought_near(model, cost)
    check(model, cost, {name: value[0] for name, value in shown[0].observations.items()})
    latents, key = encountered(model, shown), jax.random.key(seed)
    # rollouts fold in the updates done, which are fewer
    caution_key, errors_key = (jax.random.fold_in(key, settings.updates + number) for number in range(2))
    errors = usual_errors(model, shown, latents, settings.errors, key=errors_key)
    starts = cheapest_first(model, cost, latents)
    cost = cautious(model, cost, starts, settings.caution, key=caution_key)
    size = model.features(jax.tree.map(lambda x: x[0], starts)).shape[-1]
    critic, target = (
        Critic(size, model.spec, hidden=settings.hidden, discount=float(settings.discount), seed=seed + 1) for _ in range(2)
    )
    policy = Policy(size, model.spec, hidden=settings.hidden, max_scale=float(settings.max_scale), seed=seed + 2)
    optimizer = _optimizer(settings)
    optimizers = tuple(optimizer.init(nnx.split(module, nnx.Param, ...)[1]) for module in (critic, policy))
    ends = jax.tree.map(lambda x: x[jnp.arange(settings.batch) * len(x) // settings.batch], starts)
    state = Imagined(critic, target, policy, optimizers, jnp.ones(()), ends)
    chunk = max(1, min(250, settings.updates))
    for done in range(0, settings.updates, chunk):
        count = min(chunk, settings.updates - done)
        state, loss, to_go = _advance(
            state, model, cost, starts, errors, jax.random.fold_in(key, done), jnp.array(done), settings=settings, count=count
        )
        if not np.isfinite(float(loss)):
            raise CostError(
                f"imagining {type(cost).__name__}: the critic's loss became {float(loss)}. Are the cost and its gradient finite?"
            )
        if abs(float(to_go)) > HIGHEST:
            raise CostError(
                f"imagining {type(cost).__name__}: costs to go reach {float(to_go):.3g}, and a critic tells costs up to {HIGHEST:.3g} "
                "apart. Divide the weights of the cost, or lower the discount."
            )
        if progress is not None:
            progress(ImaginationProgress(done + count, settings.updates, float(loss), float(to_go)))
    return state.critic, state.policy


def _shown(spec: Spec, episodes: Iterable[Episode]) -> list[Episode]:
    """The episodes; `LearningError` where there are none, or one does not suit the model."""
    shown = list(episodes)
    if not shown:
        raise LearningError(
            "episodes: there are none. Expected at least one, since imagination starts from states that data show."
        )
    for number, episode in enumerate(shown):
        try:
            episode.check(spec, f"episode {number}")
        except DataError as error:
            raise LearningError(f"episodes: they do not suit the model of {spec.environment}: {error}") from error
    return shown


@partial(jax.jit, static_argnames=("settings", "count"))
def _advance(
    state: Imagined, model: Any, cost: TaskCost, starts: Any, errors: Any, key: Array, done: Array, *, settings, count: int
):
    """`count` updates after those `done`; the critic's loss and the costs to go at the end."""
    optimizer = _optimizer(settings)
    parts = [nnx.split(module, nnx.Param, ...) for module in (state.critic, state.target, state.policy)]
    graphs, rests = [part[0] for part in parts], [part[2] for part in parts]
    merged = [
        partial(lambda graph, rest, params: nnx.merge(graph, params, rest), *each) for each in zip(graphs, rests, strict=True)
    ]
    as_critic, as_target, as_policy = merged
    available = jax.tree.leaves(starts)[0].shape[0]

    def update(carry, inputs):
        critic, target, policy, (critic_state, policy_state), spread, ends = carry
        key, number = inputs
        entropy = settings.entropy * settings.final_entropy ** (number / settings.updates)
        pick, again, act, value, react = jax.random.split(key, 5)
        chosen = drawn(settings.batch, available, key=pick)
        start = continued(ends, jax.tree.map(lambda x: x[chosen], starts), key=again)

        def acting(params):
            """The policy's loss, and features, actions and costs to go of what it did."""
            policy = as_policy(params)
            features, actions, costs, ends = rollouts(
                model, OnModel(model, cost), policy, start, settings.length, errors, key=act
            )
            beyond = as_target(target)(features[:, 1:], policy(features[:, 1:]).sample(key=value)).max(0)
            to_go = costs_to_go(costs, beyond, settings.discount, settings.trace)
            met = jax.lax.stop_gradient(features[:, :-1])
            if policy.discrete:
                loss, _ = reaction_loss(policy, as_critic(critic), met.reshape(-1, met.shape[-1]), spread, entropy, react)
            else:
                uncertainty = jnp.log(policy(met).scale).sum(-1).mean()
                loss = to_go.mean() / spread - entropy * uncertainty
            return loss, jax.lax.stop_gradient((met, actions, to_go, ends))

        gradients, (met, actions, to_go, ends) = jax.grad(acting, has_aux=True)(policy)
        step, policy_state = optimizer.update(gradients, policy_state)
        policy = optax.apply_updates(policy, step)
        wanted = two_hot(to_go)

        def surprise(critic):
            return -(wanted * jax.nn.log_softmax(as_critic(critic).logits(met, actions))).sum(-1).mean()

        loss, gradients = jax.value_and_grad(surprise)(critic)
        step, critic_state = optimizer.update(gradients, critic_state)
        critic = optax.apply_updates(critic, step)
        low, high = jnp.percentile(to_go, jnp.array([5.0, 95.0]))
        moved = 0.99 * spread + 0.01 * jnp.maximum(high - low, 1e-3)
        spread = jnp.where(jnp.isfinite(moved), moved, spread)
        target = optax.incremental_update(critic, target, settings.target_rate)
        return (critic, target, policy, (critic_state, policy_state), spread, ends), (loss, to_go.mean())

    carry = (*(part[1] for part in parts), state.optimizers, state.spread, state.ends)
    (critic, target, policy, optimizers, spread, ends), (losses, to_go) = jax.lax.scan(
        update, carry, (jax.random.split(key, count), done + jnp.arange(count))
    )
    moved = Imagined(as_critic(critic), as_target(target), as_policy(policy), optimizers, spread, ends)
    return moved, jnp.nanmean(losses[-UNSOUND:]), jnp.nanmean(to_go[-UNSOUND:])


def _optimizer(settings: ImaginationSettings) -> optax.GradientTransformation:
    """Adam with clipped gradients, since those of long rollouts are large at times; one that is not finite changes nothing."""
    rate = optax.linear_schedule(settings.learning_rate, settings.final_rate * settings.learning_rate, settings.updates)
    clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    return optax.apply_if_finite(clipped, UNSOUND)
