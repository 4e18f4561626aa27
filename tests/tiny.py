"""A tiny world with known physics, a double integrator, for tests that need episodes but no simulator."""

import numpy as np

from worldmodels import ContinuousAction, DiscreteAction, Episode, Episodes, Spec

SPEC = Spec("tiny/double-integrator", (("position", (1,)), ("velocity", (1,))), ContinuousAction((-2.0,), (2.0,)), 2, 0.1)
DISCRETE = Spec("tiny/buttons", (("position", (1,)), ("velocity", (1,))), DiscreteAction(3), 2, 0.1)


def step(position, velocity, force):
    """One model step of 0.1 s with a force in [-2, 2]."""
    velocity = 0.95 * velocity + 0.1 * force
    return position + 0.1 * velocity, velocity


def episodes(spec: Spec = SPEC, count: int = 8, length: int = 40, seed: int = 0) -> Episodes:
    """Random actions from random starts; the cost is the squared position."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        discrete = isinstance(spec.action, DiscreteAction)
        actions = random.integers(0, 3, length) if discrete else random.uniform(-2, 2, (length, 1)).astype(np.float32)
        forces = 2.0 * (actions - 1) if discrete else actions[:, 0]
        position, velocity = random.normal(), random.normal()
        seen = [(position, velocity)]
        for force in forces:
            position, velocity = step(position, velocity, force)
            seen.append((position, velocity))
        array = np.asarray(seen, np.float32)
        observations = {"position": array[:, :1], "velocity": array[:, 1:]}
        costs = (array[:-1, 0] ** 2).astype(np.float32)
        made.append(Episode(observations, actions, costs, terminated=False, truncated=True, seed=number))
    return Episodes(spec, tuple(made))


def observation(position: float = 0.5, velocity: float = -0.2) -> dict[str, np.ndarray]:
    return {"position": np.array([position], np.float32), "velocity": np.array([velocity], np.float32)}
