"""A policy of your own: a hand-written rule acts as Mode-1, and starts the planner near its answer.

python examples/own_policy.py
"""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

import mpc
import planners
import worldmodels
from mpc.policy import SquashedGaussian
from planners import pytree


@pytree
class SwingAlong:
    """Push the pendulum the way it already swings, harder the slower it is. Any pytree from features to a distribution will do."""

    model: worldmodels.JEPA

    def __call__(self, features):
        speed = self.model.readout(features)["observation"][2]
        mean = jnp.where(jnp.abs(speed) < 0.1, 1.0, jnp.sign(speed))
        return SquashedGaussian(mean[None], jnp.full((1,), 0.3))


def main(frames: int = 6_000, updates: int = 3_000, episodes: int = 3) -> dict[str, float]:
    """Mean returns of the rule alone, of a small planner, and of the same planner seeded by the rule."""
    environment = mpc.make("Pendulum-v1")
    data = mpc.collect(environment, frames=frames, agent=mpc.PinkAgent(environment.spec))
    model = worldmodels.train(worldmodels.JEPA(environment.spec), data, updates=updates)
    rule, cost = SwingAlong(model), mpc.LearnedCost()
    small = planners.CEM(horizon=20, samples=24, iterations=2, elites=4)
    agents = {
        "the rule alone": mpc.PolicyAgent(model, rule),
        "a small planner": mpc.PlanningAgent(model, cost, small),
        "seeded by the rule": mpc.PlanningAgent(model, cost, replace(small, proposals=6), policy=rule),
    }
    returns = {}
    for name, agent in agents.items():
        returns[name] = float(np.mean(mpc.evaluate(environment, agent, episodes=episodes, seed=1_000).returns))
        print(f"{name}: {returns[name]:.0f}")
    return returns


if __name__ == "__main__":
    main()
