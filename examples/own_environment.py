"""An environment of your own: anything that follows Gymnasium's interface, here a boat that sails to a buoy against a current.

python examples/own_environment.py
"""

import gymnasium
import jax
import numpy as np

import mpc
import planners
import worldmodels


class Boat(gymnasium.Env):
    """Position and velocity in the plane, a thrust in each direction, a current that the model has to find out about."""

    observation_space = gymnasium.spaces.Dict(
        {name: gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32) for name in ("position", "velocity")}
    )
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    metadata = {"render_fps": 10}  # noqa: RUF012  (Gymnasium's own way; ten steps a second)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.velocity = self.np_random.uniform(-1, 1, 2), np.zeros(2)
        return self._seen(), {}

    def step(self, action):
        self.velocity = 0.9 * self.velocity + 0.1 * np.asarray(action) + np.array([0.03, 0.0])
        self.position = self.position + 0.1 * self.velocity
        return self._seen(), -float(np.square(self.position).sum()), False, False, {}

    def _seen(self):
        return {"position": self.position.astype(np.float32), "velocity": self.velocity.astype(np.float32)}


gymnasium.register("Boat-v0", f"{__name__}:Boat", max_episode_steps=100)


def main(frames: int = 5_000, updates: int = 2_000) -> float:
    """Observe, learn, plan; the distance from the buoy, in metres, that the boat ends at."""
    environment = mpc.make("Boat-v0")
    episodes = mpc.collect(environment, frames=frames, agent=mpc.PinkAgent(environment.spec))
    model = worldmodels.train(worldmodels.JEPA(environment.spec), episodes, updates=updates)
    cost = mpc.combine(buoy=(1.0, mpc.reach("position", [0.0, 0.0])), fuel=(0.01, mpc.effort()))
    agent = mpc.PlanningAgent(model, cost, planners.ICEM(horizon=20, samples=128, iterations=3, elites=16, keep=4))
    episode = mpc.collect(environment, episodes=1, seed=1_000, agent=agent, explore=False)[0]
    distance = float(np.linalg.norm(episode.observations["position"][-1]))
    print(f"on {jax.default_backend()}: {distance:.2f} m from the buoy, return {episode.total_return:.1f}")
    return distance


if __name__ == "__main__":
    main()
