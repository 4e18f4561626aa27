"""A tiny world with known physics, a double integrator, for tests that need episodes but no simulator."""

import numpy as np

from worldmodels import ContinuousAction, DiscreteAction, Episode, Episodes, Spec

SPEC = Spec("tiny/double-integrator", (("position", (1,)), ("velocity", (1,))), ContinuousAction((-2.0,), (2.0,)), 2, 0.1)
PICTURES = Spec("tiny/pictures", (("camera", (16, 16, 3)),), ContinuousAction((-2.0,), (2.0,)), 2, 0.1)
BOTH = Spec("tiny/both", (("camera", (16, 16, 3)), ("velocity", (1,))), ContinuousAction((-2.0,), (2.0,)), 2, 0.1)
POSITION = Spec("tiny/position", (("position", (1,)),), ContinuousAction((-2.0,), (2.0,)), 2, 0.1)
DISCRETE = Spec("tiny/buttons", (("position", (1,)), ("velocity", (1,))), DiscreteAction(3), 2, 0.1)


def step(position, velocity, force):
    """One model step of 0.1 s with a force in [-2, 2]."""
    velocity = 0.95 * velocity + 0.1 * force
    return position + 0.1 * velocity, velocity


def drawn(position) -> np.ndarray:
    """Pictures [..., 16, 16, 3] of a bright bar at the position, 4 pixels a metre."""
    centre = 8 + 4 * np.asarray(position, np.float32)[..., None]
    bar = np.clip(255 * (1.5 - abs(np.arange(16) - np.clip(centre, 0, 15))), 0, 255).astype(np.uint8)
    return np.broadcast_to(bar[..., None, :, None], (*bar.shape[:-1], 16, 16, 3)).copy()


def seen(spec: Spec, position, velocity) -> dict[str, np.ndarray]:
    """What `spec` shows of positions and velocities [...]."""
    position, velocity = np.asarray(position, np.float32), np.asarray(velocity, np.float32)
    shown = {"position": position[..., None], "velocity": velocity[..., None], "camera": drawn(position)}
    return {name: shown[name] for name in spec.names}


def episodes(spec: Spec = SPEC, count: int = 8, length: int = 40, seed: int = 0) -> Episodes:
    """Random actions from random starts; the cost is the squared position."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        discrete = isinstance(spec.action, DiscreteAction)
        actions = random.integers(0, 3, length) if discrete else random.uniform(-2, 2, (length, 1)).astype(np.float32)
        forces = 2.0 * (actions - 1) if discrete else actions[:, 0]
        position, velocity = random.normal(), random.normal()
        path = [(position, velocity)]
        for force in forces:
            position, velocity = step(position, velocity, force)
            path.append((position, velocity))
        array = np.asarray(path, np.float32)
        observations = seen(spec, array[:, 0], array[:, 1])
        costs = (array[:-1, 0] ** 2).astype(np.float32)
        made.append(Episode(observations, actions, costs, terminated=False, truncated=True, seed=number))
    return Episodes(spec, tuple(made))


def observation(position: float = 0.5, velocity: float = -0.2, spec: Spec = SPEC) -> dict[str, np.ndarray]:
    return seen(spec, position, velocity)
