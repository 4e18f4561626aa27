"""What learns and how: one compiled update of world model, critic and policy on windows drawn from memory.

The world model is a JEPA: it predicts the encoding of what follows (a target without gradient), kept from collapsing by
variance and covariance on the latents themselves (Bardes et al. 2022). Cost and critic read the predicted latents and send
gradients into the model, the policy does not. The critic learns as in TD-MPC2 (Hansen et al. 2024, section 3), the policy by
the gradient of what it costs over a few imagined steps and of the critic behind them, and by imitating the plans.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from mpc.critic import Continuation, Critic, two_hot
from mpc.distillation import Labels, imitation_loss
from mpc.learning.novelty import novelty
from mpc.policy import Categorical, Policy, SquashedGaussian
from planners.errors import require_positive
from worldmodels.data.windows import Buffer, Window
from worldmodels.jepa import JEPA
from worldmodels.objectives.vicreg import covariance, variance
from worldmodels.spec import Spec

NO_NOISE = (0,)
SURPRISED = 1024  # windows that surprise is measured on
POLICY_STRIDE = 2  # every other latent of a window is enough for the policy


@dataclass(frozen=True)
class LearnerSettings:
    """One set for every task. Static under `jit`.

    Attributes:
      latent, hidden: sizes of the world model.
      critic_hidden, policy_hidden: widths of critic and policy.
      batch: windows an update.
      length: decisions in a window, predicted open loop.
      learning_rate: of Adam, for all.
      decay: weight of each further step of a window relative to the one before (ρ).
      prediction, variance, covariance, cost, critic, continuation: weights of the model's losses.
      reconstruction: weight of decoding observations from the predicted latents, the generative alternative; 0 does without.
      target_rate: share of the critic that its slow copy takes over at each update (τ).
      entropy: weight of the policy's entropy, where costs to go are in units of their spread.
      imagined: steps of the model that the policy's gradient runs through before the critic speaks; 0 asks the critic at once.
      imitation: weight of the squared distance to what planning did of late, in the same units.
      newest: the share of memory that counts as of late.
    """

    latent: int = 96
    hidden: int = 192
    critic_hidden: int = 192
    policy_hidden: int = 128
    batch: int = 128
    length: int = 3
    learning_rate: float = 5e-4
    decay: float = 0.7
    prediction: float = 2.0
    variance: float = 1.0
    covariance: float = 0.002
    reconstruction: float = 0.0
    cost: float = 0.5
    critic: float = 0.1
    continuation: float = 0.1
    target_rate: float = 0.02
    entropy: float = 1e-3
    imagined: int = 3
    imitation: float = 0.1
    newest: float = 0.2

    def __post_init__(self):
        require_positive(
            latent=self.latent,
            hidden=self.hidden,
            batch=self.batch,
            length=self.length,
        )


class Learner(NamedTuple):
    """All that learning carries on; a pytree, saved and restored bit for bit."""

    model: JEPA
    critic: Critic
    target: Critic
    continuation: Continuation
    policy: Policy
    optimizers: Any
    spread: Float[Array, ""]  # between the 5th and 95th percentile of costs to go, running
    updates: Array


def new_learner(spec: Spec, settings: LearnerSettings, *, seed: int = 0) -> Learner:
    """Untrained networks and fresh optimisers."""
    s = settings
    model = JEPA(spec, seed=seed, latent=s.latent, hidden=s.hidden, periodic=True)
    critic, target = (Critic(s.latent, spec, hidden=s.critic_hidden, seed=seed + 1) for _ in range(2))
    continuation = Continuation(s.latent, spec, seed=seed + 2)
    policy = Policy(s.latent, spec, seed=seed + 3, hidden=s.policy_hidden)
    optimizers = (_optimizer(s).init(_params((model, critic, continuation))), _optimizer(s).init(_params(policy)))
    return Learner(model, critic, target, continuation, policy, optimizers, jnp.ones(()), jnp.zeros((), jnp.int32))


def _params(modules: Any) -> Any:
    return nnx.split(modules, nnx.Param, ...)[1]


def _optimizer(settings: LearnerSettings) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(20.0), optax.adam(settings.learning_rate, eps=1e-6))


def model_losses(
    modules: tuple[JEPA, Critic, Continuation],
    target: Critic,
    policy: Policy,
    window: Window,
    discount: Float[Array, ""],
    curiosity: float | Float[Array, ""],
    settings: LearnerSettings,
    key: Array,
) -> tuple[dict[str, Array], Float[Array, "B L+1 D"]]:
    """Every loss by name, unweighted, and the predicted latents, on a batch of windows [B, L+1, ...].

    The critic sees costs less `curiosity` times the novelty of what followed.
    """
    model, critic, continuation = modules
    encoded = model.encode(window.observations)
    fixed = jax.lax.stop_gradient(encoded)
    predicted = open_loop(model, encoded[:, 0], window.actions)
    weights = settings.decay ** jnp.arange(settings.length)
    weights = weights / weights.sum()

    def over_steps(loss: Float[Array, "B L"]) -> Float[Array, ""]:
        return (loss.mean(0) * weights).sum()

    acted_in = predicted[:, :-1]
    paid = model.cost_normaliser(window.costs[..., None])[..., 0]
    said = model.cost_head(model._with_action(acted_in, window.actions))[..., 0]

    last = fixed[:, -1]
    to_go = target(last, policy(last).sample(key=key)).max(0)
    seen, truth = fixed, model.normaliser(window.observations)
    window = window._replace(costs=window.costs - curiosity * novelty(truth))
    wanted = two_hot(paid_until_the_end(window, to_go, discount))
    logits = critic.logits(acted_in, window.actions)
    surprise = -(wanted * jax.nn.log_softmax(logits)).sum(-1).mean(0)
    going_on = optax.sigmoid_binary_cross_entropy(continuation.logit(acted_in, window.actions), window.continues)
    flat = encoded.reshape(-1, encoded.shape[-1])
    losses = {
        "prediction": over_steps(((predicted[:, 1:] - fixed[:, 1:]) ** 2).mean(-1)),
        "variance": variance(flat),
        "covariance": covariance(flat),
        "cost": over_steps((said - paid) ** 2),
        "critic": over_steps(surprise),
        "continuation": over_steps(going_on),
        "readout": ((model.readout_head(seen) - truth) ** 2).mean(),
    }
    if settings.reconstruction:
        losses["reconstruction"] = ((model.readout_head(predicted) - truth) ** 2).mean()
    return losses, predicted


def open_loop(model: JEPA, first: Float[Array, "B D"], actions: Array) -> Float[Array, "B L+1 D"]:
    """The latents predicted from the first one and the actions [B, L, ...], itself in front."""

    def step(latent, action):
        following = model.predict(latent, action, jnp.zeros(NO_NOISE))
        return following, following

    _, following = jax.lax.scan(step, first, jnp.moveaxis(actions, 1, 0))
    return jnp.concatenate([first[:, None], jnp.moveaxis(following, 0, 1)], 1)


@partial(jax.jit, static_argnames="length")
def surprise(model: JEPA, buffer: Buffer, newest: Float[Array, ""], key: Array, *, length: int) -> Float[Array, ""]:
    """Squared error of latents predicted over `length` decisions in the `newest` share of memory, beside that in all of it."""

    def error(key, newest):
        window = buffer.sample(SURPRISED, length, newest=newest, key=key)
        encoded = model.encode(window.observations)
        return ((open_loop(model, encoded[:, 0], window.actions) - encoded)[:, 1:] ** 2).mean()

    fresh_key, key = jax.random.split(key)
    return error(fresh_key, newest) / jnp.maximum(error(key, 1.0), 1e-12)


def paid_until_the_end(window: Window, to_go: Float[Array, " B"], discount: Float[Array, ""]) -> Float[Array, "B L"]:
    """What was paid from each decision to the end of its window, plus the cost to go from there, all discounted.

    Returns of up to L steps, uncorrected for the policy having changed since (Hessel et al. 2018, section 3; here L is small).
    """

    def step(after, inputs):
        cost, continues = inputs
        total = cost + discount * continues * after
        return total, total

    _, totals = jax.lax.scan(step, to_go, (window.costs.T, window.continues.T), reverse=True)
    return totals.T


def reaction_loss(
    policy: Policy, critic: Critic, latents: Float[Array, "N D"], spread: Float[Array, ""], entropy: float, key: Array
) -> tuple[Float[Array, ""], Float[Array, " N"]]:
    """What the policy's actions cost in the eyes of the critic, in units of the spread, less its entropy; and those costs to go.

    TD-MPC2's objective of the policy (Hansen et al. 2024, equation 4), in costs.
    """
    said = policy(latents)
    if isinstance(said, Categorical):
        log_prob = jax.nn.log_softmax(said.logits)
        choices = jnp.arange(said.logits.shape[-1])
        costs = jax.vmap(lambda a: critic(latents, jnp.broadcast_to(a, latents.shape[:1])).mean(0), out_axes=-1)(choices)
        to_go = (jnp.exp(log_prob) * costs).sum(-1)
        uncertainty = -(jnp.exp(log_prob) * log_prob).sum(-1)
    else:
        to_go = critic(latents, said.sample(key=key)).mean(0)
        uncertainty = jnp.log(said.scale).sum(-1)
    return to_go.mean() / spread - entropy * uncertainty.mean(), to_go


def imagined_loss(
    policy: Policy,
    modules: tuple[JEPA, Critic, Continuation],
    latents: Float[Array, "N D"],
    spread: Float[Array, ""],
    discount: Float[Array, ""],
    settings: LearnerSettings,
    key: Array,
) -> tuple[Float[Array, ""], Float[Array, " N"]]:
    """As `reaction_loss`, but first `settings.imagined` steps are taken in the model, and the gradient runs through them.

    Value gradients through a learned model (Heess et al. 2015, "Learning continuous control policies by stochastic value
    gradients", section 4). For continuous actions.
    """
    model, critic, continuation = modules

    def step(carry, key):
        latent, weight = carry
        said = policy(latent)
        assert isinstance(said, SquashedGaussian)
        action = said.sample(key=key)
        paid = weight * model.cost(latent, action)
        weight = weight * discount * continuation(latent, action)
        return (model.predict(latent, action, jnp.zeros(NO_NOISE)), weight), (paid, jnp.log(said.scale).sum(-1).mean())

    last_key, key = jax.random.split(key)
    carry = (latents, jnp.ones(len(latents)))
    (last, weight), (paid, uncertainty) = jax.lax.scan(step, carry, jax.random.split(key, settings.imagined))
    to_go = paid.sum(0) + weight * critic(last, policy(last).sample(key=last_key)).mean(0)
    return to_go.mean() / spread - settings.entropy * uncertainty.mean(), to_go


def policy_loss(
    policy: Policy,
    modules: tuple[JEPA, Critic, Continuation],
    latents: Float[Array, "B L+1 D"],
    planned: Labels,
    spread: Float[Array, ""],
    discount: Float[Array, ""],
    settings: LearnerSettings,
    key: Array,
) -> tuple[Float[Array, ""], Float[Array, " N"]]:
    """What the policy's own actions cost from the latents of windows, and its distance to what was `planned`; and costs to go."""
    if settings.imagined > 0 and not policy.discrete:
        reacting, to_go = imagined_loss(policy, modules, latents[:, 0], spread, discount, settings, key)
    else:
        flat = latents[:, ::POLICY_STRIDE].reshape(-1, latents.shape[-1])
        reacting, to_go = reaction_loss(policy, modules[1], flat, spread, settings.entropy, key)
    imitating = imitation_loss(policy, planned)  # compiled while both learn (Wang et al. 2025)
    return reacting + settings.imitation * imitating, to_go


@partial(jax.jit, static_argnames=("settings", "count"))
def improve(
    learner: Learner,
    buffer: Buffer,
    discount: Float[Array, ""],
    key: Array,
    *,
    curiosity: float | Float[Array, ""] = 0.0,
    settings: LearnerSettings,
    count: int,
) -> tuple[Learner, dict[str, Array]]:
    """`count` updates on windows drawn from `buffer`, and the mean of every loss over them.

    Args:
      curiosity: what a deviation of novelty is worth to the critic, in units of cost.
    """
    graph, params, rest = nnx.split((learner.model, learner.critic, learner.continuation), nnx.Param, ...)
    policy_graph, policy_params, policy_rest = nnx.split(learner.policy, nnx.Param, ...)
    target_graph, target_params, target_rest = nnx.split(learner.target, nnx.Param, ...)
    optimizer = _optimizer(settings)
    rarity = buffer.rarity(settings.length)

    def update(carry, key):
        params, policy_params, target_params, (model_state, policy_state), spread = carry
        window_key, action_key, policy_key, recent_key = jax.random.split(key, 4)
        window = buffer.sample(settings.batch, settings.length, weights=rarity, key=window_key)
        target = nnx.merge(target_graph, target_params, target_rest)
        policy = nnx.merge(policy_graph, policy_params, policy_rest)

        def loss(params):
            modules = nnx.merge(graph, params, rest)
            terms, latents = model_losses(modules, target, policy, window, discount, curiosity, settings, action_key)
            return sum(getattr(settings, name, 1.0) * value for name, value in terms.items()), (terms, latents)

        gradients, (terms, latents) = jax.grad(loss, has_aux=True)(params)
        step, model_state = optimizer.update(gradients, model_state, params)
        params = optax.apply_updates(params, step)

        modules = nnx.merge(graph, params, rest)
        model, critic, _ = modules
        recent = buffer.sample(settings.batch, 1, newest=settings.newest, key=recent_key)
        features = model.encode(recent.observations[:, 0])
        planned = Labels(jax.lax.stop_gradient(features), recent.actions[:, 0])

        def acting(policy_params):
            policy = nnx.merge(policy_graph, policy_params, policy_rest)
            met = jax.lax.stop_gradient(latents)
            return policy_loss(policy, modules, met, planned, spread, discount, settings, policy_key)

        policy_gradients, to_go = jax.grad(acting, has_aux=True)(policy_params)
        step, policy_state = optimizer.update(policy_gradients, policy_state, policy_params)
        policy_params = optax.apply_updates(policy_params, step)

        low, high = jnp.percentile(to_go, jnp.array([5.0, 95.0]))
        spread = jnp.maximum(0.99 * spread + 0.01 * (high - low), 1.0)
        target_params = optax.incremental_update(_params(critic), target_params, settings.target_rate)
        return (params, policy_params, target_params, (model_state, policy_state), spread), terms | {"to_go": to_go.mean()}

    carry = (params, policy_params, target_params, learner.optimizers, learner.spread)
    carry, terms = jax.lax.scan(update, carry, jax.random.split(key, count))
    params, policy_params, target_params, optimizers, spread = carry
    model, critic, continuation = nnx.merge(graph, params, rest)
    improved = Learner(
        model,
        critic,
        nnx.merge(target_graph, target_params, target_rest),
        continuation,
        nnx.merge(policy_graph, policy_params, policy_rest),
        optimizers,
        spread,
        learner.updates + count,
    )
    return improved, jax.tree.map(jnp.mean, terms)
