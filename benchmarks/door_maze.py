"""`benchmarks.door_maze:PointMaze_Door-v0`: the body and physics of the PointMazes, and a door that is open by chance.

In `PointMaze_DoorOpen-v0` and `PointMaze_DoorClosed-v0` it always or never is.

A ring of corridors. The short way from one upper corner to the other leads through a door at its far end; the long way goes round below.
Whether the door is open is drawn at the start of each episode and cannot be seen but from the rooms beside it.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium_robotics.envs.maze.point_maze import PointMazeEnv  # pyright: ignore[reportMissingImports]

MAP = [
    [1, 1, 1, 1, 1, 1, 1, 1, 1],
    [1, 0, 0, 0, 0, 0, 1, 0, 1],
    [1, 0, 1, 1, 1, 1, 1, 0, 1],
    [1, 0, 0, 0, 0, 0, 0, 0, 1],
    [1, 1, 1, 1, 1, 1, 1, 1, 1],
]
FRAMES = 480  # of 10 ms: at the 3.3 m/s of two levels in other mazes, 11 m round below take 3.3 s, 21 m by a closed door 6.4 s


class PointMazeDoor(PointMazeEnv):
    """Observes, beside what a PointMaze does, {"door": [1]}: 0 until it was seen, then 1 for open and -1 for closed."""

    DOOR = (1, 6)  # row and column, a wall on the map

    def __init__(self, chance: float = 0.6, **settings: Any):
        """`chance`: how often the door is open."""
        super().__init__(maze_map=MAP, **settings)
        self.chance, self.open, self.seen = chance, False, False
        self.observation_space = spaces.Dict(
            {**self.observation_space.spaces, "door": spaces.Box(-1.0, 1.0, (1,), np.float64)}  # type: ignore[attr-defined]
        )

    def reset(self, *, seed: int | None = None, **settings: Any):
        self.seen = False
        _, info = super().reset(seed=seed, **settings)
        self.open = bool(self.np_random.random() < self.chance)
        door = self.model.geom(f"block_{self.DOOR[0]}_{self.DOOR[1]}")
        door.contype, door.conaffinity = (0, 0) if self.open else (1, 1)
        door.rgba[3] = 0.2 if self.open else 1.0
        point, _ = self.point_env.reset(seed=seed)  # again, beside the door as it is now
        return self._get_obs(point), info

    def _get_obs(self, point_obs: np.ndarray) -> dict[str, np.ndarray]:
        row, column = self.maze.cell_xy_to_rowcol(point_obs[:2])
        self.seen |= abs(row - self.DOOR[0]) + abs(column - self.DOOR[1]) <= 1
        known = (1.0 if self.open else -1.0) if self.seen else 0.0
        return {**super()._get_obs(point_obs), "door": np.array([known])}


for name, how in {"Door": {}, "DoorOpen": {"chance": 1.0}, "DoorClosed": {"chance": 0.0}}.items():
    gymnasium.register(f"PointMaze_{name}-v0", f"{__name__}:PointMazeDoor", max_episode_steps=FRAMES, kwargs=how)
