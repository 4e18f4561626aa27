"""The PointMazes of gymnasium-robotics as maps: how far it is along the corridors, and which episodes go across."""

from itertools import count
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra

import mpc
from planners.errors import require_positive

GRID = 10  # points a metre
FIRST = 1_000_000  # seed of the first episode played
OURS = {"PointMaze_Giant-v0": "benchmarks.giant_maze"}  # what registers a maze that gymnasium-robotics does not have


class Maze(NamedTuple):
    """Cells of one metre, seen from above.

    Attributes:
      walls: [R, C].
      centre: [2], of the map, metres from its left and lower edges: the origin of positions.
    """

    walls: np.ndarray
    centre: np.ndarray


class Way(NamedTuple):
    """An episode to play: its seed, and where it leads, metres."""

    seed: int
    start: np.ndarray
    goal: np.ndarray


def gym_id(task: str) -> str:
    """The id that `mpc.make` takes."""
    return f"{OURS[task]}:{task}" if task in OURS else task


def maze_of(task: str) -> Maze:
    """The map of a PointMaze by its name."""
    made = mpc.make(gym_id(task))
    drawn: Any = made._env.unwrapped.maze  # type: ignore[attr-defined]
    made.close()
    walls = np.array([[cell == 1 for cell in row] for row in drawn.maze_map])
    return Maze(walls, np.array([drawn.x_map_center, drawn.y_map_center]))


def cells(maze: Maze) -> np.ndarray:
    """[N, 2], middles of the free cells, metres."""
    rows, columns = np.nonzero(~maze.walls)
    return np.stack([columns + 0.5, len(maze.walls) - rows - 0.5], -1) - maze.centre


def distances_to(maze: Maze, goal: np.ndarray) -> np.ndarray:
    """[GRID · C, GRID · R], metres to `goal` along the corridors from each point of a grid over x and y."""
    walls = np.kron(maze.walls[::-1].T, np.ones((GRID, GRID), bool))
    free = np.logical_not(ndimage.binary_dilation(walls))  # the ball has a radius of a tenth of a metre
    number = np.arange(free.size).reshape(free.shape)
    rows, columns, lengths = [], [], []
    for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1)):
        here = (slice(0, free.shape[0] - dx), slice(max(0, -dy), free.shape[1] - max(0, dy)))
        there = (slice(dx, None), slice(max(0, dy), free.shape[1] + min(0, dy)))
        open_ = free[here] & free[there]
        rows.append(number[here][open_])
        columns.append(number[there][open_])
        lengths.append(np.full(open_.sum(), np.hypot(dx, dy) / GRID))
    graph = sparse.csr_matrix((np.concatenate(lengths), (np.concatenate(rows), np.concatenate(columns))), [free.size] * 2)
    away, nearest = ndimage.distance_transform_edt(~free, return_indices=True)  # type: ignore[misc]
    point = tuple(_point(maze, goal))
    found = dijkstra(graph, directed=False, indices=number[tuple(nearest[(slice(None), *point)])]).reshape(free.shape)
    return (found[tuple(nearest)] + away / GRID).astype(np.float32)


def look_up(distances: Float[Array, "X Y"], centre: Float[Array, " 2"], position: Float[Array, " 2"]) -> Float[Array, ""]:
    """What `distances_to` says at a position, in JAX."""
    point = jnp.floor((position + centre) * GRID).astype(jnp.int32)
    return distances[tuple(jnp.clip(point, 0, jnp.array(distances.shape) - 1))]


def list_ways(task: str, episodes: int) -> list[Way]:
    """The first seeds whose start and goal lie at least half of the maze's longest way apart."""
    require_positive(episodes=episodes)
    maze, made = maze_of(task), mpc.make(gym_id(task))
    middles = cells(maze)
    half = max(distances_to(maze, goal)[tuple(_point(maze, middles).T)].max() for goal in middles) / 2
    ways = []
    for seed in count(FIRST):
        seen = made.reset(seed)
        way = Way(seed, np.asarray(seen["achieved_goal"]), np.asarray(seen["desired_goal"]))
        if distances_to(maze, way.goal)[tuple(_point(maze, way.start))] >= half:
            ways.append(way)
        if len(ways) == episodes:
            break
    made.close()
    return ways


def _point(maze: Maze, position: np.ndarray) -> np.ndarray:
    """[..., 2], where the grid has a position."""
    return np.floor((position + maze.centre) * GRID).astype(int)
