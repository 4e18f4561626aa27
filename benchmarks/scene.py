"""A MuJoCo robot as a viser scene: its geoms as meshes that follow the physics, and what is predicted for it."""

# MuJoCo is a compiled module without stubs.
# pyright: reportAttributeAccessIssue=false

import copy
from typing import Any

import mujoco
import numpy as np

Geom = mujoco.mjtGeom
HIDDEN_GROUP = 3  # geoms of this group and above are for collisions only, by MuJoCo's own viewer
GHOST = 0.25  # opacity of the robot as it is predicted to end


class Scene:
    """Draws one model. `show` moves it to where the physics is, `predict` draws where it is predicted to go."""

    def __init__(self, server: Any, model: mujoco.MjModel):
        self.server, self.model = server, model
        self._ghost = mujoco.MjData(model)
        server.scene.set_up_direction("+z")
        centre, extent = model.stat.center, float(np.clip(model.stat.extent, 0.3, 4.0))
        server.initial_camera.position = tuple(centre + extent * np.array([0.4, -1.6, 0.7]))
        server.initial_camera.look_at = tuple(centre)
        shown = [i for i in range(model.ngeom) if model.geom_group[i] < HIDDEN_GROUP and _colour(model, i)[1] > 0]
        self._geoms = {i: self._add(i, f"/robot/{i}", None) for i in shown}
        moving = [i for i in shown if model.body_weldid[model.geom_bodyid[i]] != 0]
        self._ghosts = {i: self._add(i, f"/predicted/{i}", GHOST) for i in moving}
        self._bodies = sorted({int(model.geom_bodyid[i]) for i in moving})

    def show(self, data: mujoco.MjData) -> None:
        """Put every geom where it is."""
        with self.server.atomic():
            _place(self._geoms, data)

    def predict(self, path: np.ndarray) -> None:
        """Draw the way of every body along joint positions [H+1, nq], and the robot, translucent, where it ends."""
        places = []
        for qpos in path:
            self._ghost.qpos[:] = qpos
            mujoco.mj_kinematics(self.model, self._ghost)
            places.append(self._ghost.xipos[self._bodies].copy())
        way = np.stack(places)  # [H+1, B, 3]
        segments = np.stack([way[:-1], way[1:]], axis=2).reshape(-1, 2, 3)
        late = np.repeat(np.linspace(0, 1, len(way) - 1), len(self._bodies))[:, None, None]
        colours = np.broadcast_to(255 * (1 - late) * [0.1, 0.8, 0.3] + 255 * late * [1.0, 0.4, 0.0], (len(late), 2, 3))
        with self.server.atomic():
            self.server.scene.add_line_segments(
                "/predicted/way", segments.astype(np.float32), colours.astype(np.uint8), thickness=6.0, thickness_units="screen"
            )
            _place(self._ghosts, self._ghost)

    def _add(self, index: int, name: str, opacity: float | None) -> Any:
        """The handle of one geom's shape, in its own frame."""
        scene, size, kind = self.server.scene, self.model.geom_size[index], self.model.geom_type[index]
        colour, alpha = _colour(self.model, index)
        look = {"color": colour, "opacity": opacity if opacity is not None else (None if alpha >= 1 else alpha)}
        if kind == Geom.mjGEOM_PLANE:
            return scene.add_grid(name, *(2 * np.where(size[:2] > 0, size[:2], 20.0)), plane="xy", cell_color=(210, 210, 210))
        if kind == Geom.mjGEOM_BOX:
            return scene.add_box(name, dimensions=tuple(2 * size), **look)
        if kind == Geom.mjGEOM_SPHERE:
            return scene.add_icosphere(name, radius=float(size[0]), **look)
        if kind == Geom.mjGEOM_ELLIPSOID:
            return scene.add_icosphere(name, radius=1.0, scale=tuple(map(float, size)), **look)
        if kind == Geom.mjGEOM_CYLINDER:
            return scene.add_cylinder(name, radius=float(size[0]), height=float(2 * size[1]), **look)
        if kind == Geom.mjGEOM_CAPSULE:
            return scene.add_mesh_simple(name, *_capsule(float(size[0]), float(size[1])), **look)
        if kind == Geom.mjGEOM_MESH:
            return scene.add_mesh_simple(name, *_mesh(self.model, int(self.model.geom_dataid[index])), **look)
        return scene.add_frame(name, show_axes=False)


def predicted_path(model: mujoco.MjModel, qpos: np.ndarray, velocities: np.ndarray | None, seconds: float) -> np.ndarray | None:
    """Joint positions [H+1, nq] from predicted joint velocities [H+1, nv]; None where the model reads none out.

    The step from t to t+1 goes by the mean of their velocities.
    """
    if velocities is None or velocities.shape[1:] != (model.nv,) or not np.isfinite(velocities).all():
        return None
    path = [np.array(qpos)]
    for before, after in zip(velocities[:-1], velocities[1:], strict=True):
        following = path[-1].copy()
        mujoco.mj_integratePos(model, following, (before.astype(np.float64) + after) / 2, seconds)
        path.append(following)
    return np.stack(path)


def push(data: mujoco.MjData, strength: float, random: np.random.Generator) -> None:
    """Kick the robot: every joint's velocity changes at once, by `strength` in its own unit a second, times a normal number."""
    data.qvel[:] += strength * random.normal(size=data.qvel.shape)


def _place(handles: dict[int, Any], data: mujoco.MjData) -> None:
    quaternion = np.empty(4)
    for index, handle in handles.items():
        mujoco.mju_mat2Quat(quaternion, data.geom_xmat[index].ravel())
        handle.position, handle.wxyz = data.geom_xpos[index].copy(), quaternion.copy()


def _colour(model: mujoco.MjModel, index: int) -> tuple[tuple[int, int, int], float]:
    """A geom's colour, 0 … 255, and its opacity; the material's where it has one."""
    material = model.geom_matid[index]
    rgba = copy.copy(model.mat_rgba[material] if material >= 0 else model.geom_rgba[index])
    red, green, blue = (int(255 * value) for value in rgba[:3])
    return (red, green, blue), float(rgba[3])


def _capsule(radius: float, half: float, around: int = 24, rows: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of a cylinder along z with half spheres on its ends."""
    latitude = np.concatenate([np.linspace(-np.pi / 2, 0, rows), np.linspace(0, np.pi / 2, rows)])
    lift = np.concatenate([np.full(rows, -half), np.full(rows, half)])
    angle = np.linspace(0, 2 * np.pi, around, endpoint=False)
    ring = radius * np.cos(latitude)[:, None]
    z = np.broadcast_to((radius * np.sin(latitude) + lift)[:, None], (2 * rows, around))
    vertices = np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=-1).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(2 * rows - 1), np.arange(around), indexing="ij")
    a, b = row * around + column, row * around + (column + 1) % around
    faces = np.stack([np.stack([a, b, b + around], -1), np.stack([a, b + around, a + around], -1)], axis=2)
    return vertices.astype(np.float32), faces.reshape(-1, 3).astype(np.uint32)


def _mesh(model: mujoco.MjModel, index: int) -> tuple[np.ndarray, np.ndarray]:
    vertices = model.mesh_vert[model.mesh_vertadr[index] :][: model.mesh_vertnum[index]]
    faces = model.mesh_face[model.mesh_faceadr[index] :][: model.mesh_facenum[index]]
    return vertices.astype(np.float32), faces.astype(np.uint32)
