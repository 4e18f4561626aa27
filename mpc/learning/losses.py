"""What world model, critic and policy are trained by, on windows drawn from memory.

The world model is a JEPA: it predicts the encoding of what follows (a target without gradient), kept from collapsing by
variance and covariance on the latents themselves (Bardes et al. 2022). Cost and critic read the predicted latents and send
gradients into the model, the policy does not. The critic learns as in TD-MPC2 (Hansen et al. 2024, section 3), the policy by
the gradient of what it costs over a few imagined steps and of the critic behind them, and by imitating the plans.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from mpc.critic import Continuation, Critic, two_hot
from mpc.distillation import Labels, imitation_loss
from mpc.learning.novelty import novelty
from mpc.learning.settings import LearnerSettings
from mpc.policy import Categorical, Policy, SquashedGaussian
from worldmodels.data.windows import Window
from worldmodels.jepa import JEPA
from worldmodels.objectives.vicreg import covariance, variance

NO_NOISE = (0,)
POLICY_STRIDE = 2  # every other latent of a window is enough for the policy


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
