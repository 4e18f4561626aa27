"""What `bench speed` plans: a latent network of TD-MPC2's kind at four sizes, as a planning problem and as a plain scan."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

import planners
from mpc.policy import SquashedGaussian
from worldmodels.networks import MLP

EFFORT = 0.01  # weight of the squared action beside the squared latent


@dataclass(frozen=True)
class Workload:
    """Sizes of a network and of a search through it.

    Attributes:
      latent, actions, hidden: widths; the network has two hidden layers.
      samples, horizon, iterations: of a sampling planner.
      proposals: candidates rolled out by a policy of two hidden layers.
    """

    latent: int
    actions: int
    hidden: int
    samples: int
    horizon: int
    iterations: int
    proposals: int = 0

    @property
    def name(self) -> str:
        """Widths and search, as `latent64-actions6-hidden256-512x20x6`."""
        proposed = f"-proposals{self.proposals}" if self.proposals else ""
        search = f"{self.samples}x{self.horizon}x{self.iterations}"
        return f"latent{self.latent}-actions{self.actions}-hidden{self.hidden}-{search}{proposed}"

    @property
    def elites(self) -> int:
        """Candidates that CEM and iCEM refit to, and the most that stable-worldmodel's MPPI averages."""
        return max(2, self.samples // 8)

    @property
    def model_steps(self) -> int:
        """Times that a sampling planner applies the network in one decision."""
        return self.samples * self.horizon * self.iterations

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of the network's three matrices."""
        return (self.latent + self.actions, self.hidden), (self.hidden, self.hidden), (self.hidden, self.latent)

    @property
    def step_flops(self) -> int:
        """Floating-point operations of the matrices in one model step, two for a multiply-add; nothing else is counted."""
        return sum(2 * inputs * outputs for inputs, outputs in self.layers)


WORKLOADS = (
    Workload(latent=64, actions=6, hidden=256, samples=512, horizon=20, iterations=6),
    Workload(latent=512, actions=6, hidden=512, samples=512, horizon=5, iterations=6),
    Workload(latent=64, actions=1, hidden=128, samples=64, horizon=15, iterations=4),
    Workload(latent=512, actions=6, hidden=512, samples=512, horizon=3, iterations=6, proposals=24),
)
"""The three of the ecosystem's table, and TD-MPC2's (Hansen et al. 2024, appendix H)."""


class Dynamics(nnx.Module):
    """A residual latent network, as the JEPA's predictor."""

    def __init__(self, workload: Workload, rngs: nnx.Rngs):
        widths = (workload.hidden, workload.hidden)
        inputs = workload.latent + workload.actions
        self.predictor = MLP(inputs, widths, workload.latent, output_scale=0.1, rngs=rngs)

    def predict(self, latent: Float[Array, " D"], action: Float[Array, " A"], noise: Array) -> Float[Array, " D"]:
        return latent + self.predictor(jnp.concatenate([latent, action], axis=-1))


class Policy(nnx.Module):
    """The proposal, as wide as the dynamics."""

    def __init__(self, workload: Workload, rngs: nnx.Rngs):
        self.network = MLP(workload.latent, (workload.hidden, workload.hidden), 2 * workload.actions, rngs=rngs)

    def propose(self, latent: Float[Array, " D"]) -> SquashedGaussian:
        mean, scale = jnp.split(self.network(latent), 2, axis=-1)
        return SquashedGaussian(jnp.tanh(mean), jax.nn.sigmoid(scale))


def running_cost(latent, action, step):
    """Squared distance from the origin, and effort."""
    return jnp.square(latent).mean() + EFFORT * jnp.square(action).mean()


def terminal_cost(latent):
    """Squared distance from the origin."""
    return jnp.square(latent).mean()


def problem(workload: Workload, seed: int = 0) -> tuple[planners.Problem, Float[Array, " D"]]:
    """The workload as a problem with random weights, and a latent to plan from."""
    rngs = nnx.Rngs(seed)
    made = planners.Problem(
        dynamics=Dynamics(workload, rngs).predict,
        cost=running_cost,  # type: ignore[arg-type]
        terminal_cost=terminal_cost,
        actions=planners.Box(-jnp.ones(workload.actions), jnp.ones(workload.actions)),
        proposal=Policy(workload, rngs).propose if workload.proposals else None,  # type: ignore[arg-type]
    )
    return made, jax.random.normal(jax.random.key(seed + 1), (workload.latent,))


def network(made: planners.Problem) -> MLP:
    """The network inside a workload's problem, whose weights the peers take over."""
    return made.dynamics.args[0].predictor  # type: ignore[attr-defined]


@partial(jax.jit, static_argnums=0)
def plain_scan(workload: Workload, mlp: MLP, latent: Float[Array, " D"], key: Array) -> Float[Array, "H A"]:
    """CEM as one would write it for this network alone: batched matrices in a scan over time, no bounds but a clip.

    The baseline that a general planner must not fall behind.
    """
    n, horizon, size = workload.samples, workload.horizon, workload.actions

    def step(carry, action):
        state, total = carry
        total = total + jnp.square(state).mean(-1) + EFFORT * jnp.square(action).mean(-1)
        return (state + mlp(jnp.concatenate([state, action], -1)), total), None

    def refit(i, gaussian):
        mean, scale = gaussian
        noise = jax.random.normal(jax.random.fold_in(key, i), (n, horizon, size))
        plans = jnp.clip(mean + scale * noise, -1, 1)
        start = (jnp.broadcast_to(latent, (n, workload.latent)), jnp.zeros(n))
        (state, total), _ = jax.lax.scan(step, start, plans.swapaxes(0, 1))
        elites = plans[jax.lax.top_k(-(total + jnp.square(state).mean(-1)), workload.elites)[1]]
        return elites.mean(0), elites.std(0)

    start = jnp.zeros((horizon, size)), jnp.full((horizon, size), 0.5)
    return jax.lax.fori_loop(0, workload.iterations, refit, start)[0]
