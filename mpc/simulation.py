"""Planning on true physics: the simulator of an environment, and the problem that rolls out whole batches on it."""

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import planners
from mpc import costs, tasks
from mpc.environment import Environment
from mpc.errors import UnsupportedEnvironmentError
from planners import Problem, Scores, pytree
from planners.problem import as_pytree
from worldmodels.simulator import Engine, Simulator, joints


def simulator(environment: Environment) -> Simulator:
    """The physics of a privileged MuJoCo environment as a world model.

    Reads out what the environment observes for the bodies in `mpc.tasks`, joint positions and velocities for others.
    Raises `UnsupportedEnvironmentError` without MuJoCo, `SpecError` for an environment that is not privileged.
    """
    own = environment.copy()
    own.reset(seed=0)  # a task may write into its model at reset
    physics = own.mujoco()
    if physics is None:
        raise UnsupportedEnvironmentError(
            f"{environment.spec.environment} does not run on MuJoCo: it has no simulator to plan on."
        )
    model = copy.copy(physics[0])
    own.close()
    steps = round(environment.spec.seconds_per_step / model.opt.timestep)
    return Simulator(environment.spec, Engine(model, steps), tasks.quantities(environment.spec.environment) or joints)


@pytree
class SimulatorProblem(Problem):
    """A `Problem` whose candidates are simulated together: one call to MuJoCo an iteration, costs in JAX.

    Attributes:
      trajectory: (latent, actions [H, A]) -> latents [H+1, ...], `Simulator.trajectory`; `jax.vmap` of it is one call.
    """

    trajectory: Callable[..., Any] = None  # type: ignore[assignment]

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "trajectory", as_pytree(self.trajectory))

    @property
    def differentiable(self) -> bool:
        return False

    def rollout(self, latent, actions, noise):
        """Scores of N plans [N, H, ...]; physics is deterministic, so the M futures are one."""
        latents = jax.vmap(self.trajectory, in_axes=(None, 0))(latent, actions)
        cost, violation = jax.vmap(self._total)(latents, actions)
        futures = (actions.shape[0], noise.shape[0])
        return Scores(jnp.broadcast_to(cost[:, None], futures), jnp.broadcast_to(violation[:, None], futures))

    def score(self, latent, actions, noise):
        return self._total(self.trajectory(latent, actions), actions)

    def unroll(self, latent, actions, noise):
        return self.trajectory(latent, actions)

    def _total(self, latents, actions):
        """J and violation of one plan, from its latents [H+1, ...]."""
        states = jax.tree.map(lambda x: x[:-1], latents)
        steps = jnp.arange(actions.shape[0])
        going_on = jax.vmap(self.continues)(states, actions) * self.discount
        weights = jnp.concatenate([jnp.ones(1), jnp.cumprod(going_on)])
        running = jax.vmap(self.cost)(states, actions, steps)
        paid = jnp.where(weights[:-1] > 0, weights[:-1] * running, 0.0).sum()
        total = self.conclude(jax.tree.map(lambda x: x[-1], latents), paid, weights[-1])
        constraints = self.constraints
        if constraints is None:
            return total, jnp.zeros(())
        worst = jax.vmap(lambda *at: jnp.max(constraints(*at), initial=0.0))(states, actions, steps)
        return total, jnp.where(weights[:-1] > 0, worst, 0.0).max(initial=0.0)


def simulator_problem(
    model: Simulator, cost: Any, *, horizon: int, discount: float = 1.0, rate: Any = None, previous: Any = None
) -> SimulatorProblem:
    """The problem of following an `mpc.cost(...)` on true physics, over normalised actions; the last state is charged too."""
    ones = jnp.ones(model.spec.action.shape)
    return SimulatorProblem(
        dynamics=model.predict,
        cost=costs.OnModel(model, cost),
        terminal_cost=costs.TerminalOnModel(model, cost, horizon),
        actions=planners.Box(-ones, ones, rate, previous),
        discount=discount,  # type: ignore[arg-type]
        trajectory=model.trajectory,
    )
