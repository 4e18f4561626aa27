"""Frames of MuJoCo environments, and films of episodes. Without a rendering backend everything but this works.

The backend is chosen when the first frame is drawn: `MUJOCO_GL` if it is set, otherwise EGL, then OSMesa, where their
libraries are found, then a window where there is a display. Nothing needs to be set before MuJoCo is imported; and nothing
should be set in vain, for MuJoCo cannot be imported at all with a MUJOCO_GL whose library is missing.
"""

# MuJoCo is a compiled module without stubs.
# pyright: reportAttributeAccessIssue=false

import ctypes.util
import importlib
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from PIL import Image

from mpc.errors import RenderingError
from planners.errors import require_positive

if TYPE_CHECKING:
    from mpc.environment import Environment

LIBRARIES = {"egl": ("EGL", "GL"), "osmesa": ("OSMesa",)}
SAMPLES = 4  # of each pixel
FAR = 1.0  # depth of a pixel at which nothing was drawn
INSTALL = "Install libegl1 and libgl1 (or libosmesa6) with your system's package manager; everything but video works without."


def rendering_backend() -> str | None:
    """`egl`, `osmesa` or `glfw`: what frames will be drawn with; None where nothing is installed or MUJOCO_GL disables it.

    Raises `RenderingError` for a MUJOCO_GL nobody knows.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if asked in ("disable", "disabled", "off", "false", "0"):
        return None
    if asked in ("egl", "osmesa", "glfw"):
        return asked
    if asked not in ("", "enable", "enabled", "on", "true", "1"):
        raise RenderingError(f"MUJOCO_GL={asked!r}: expected egl, osmesa, glfw or disabled.")
    for name, libraries in LIBRARIES.items():
        if all(ctypes.util.find_library(library) for library in libraries):
            return name
    return "glfw" if os.environ.get("DISPLAY") else None


class Camera:
    """Draws one model at one size: the model's first camera where it has one, otherwise a free view of the whole.

    Shadows and reflections are off: 64 × 64 pixels come many times faster without. Edges are smooth, or what moves by less than a
    pixel would stand still, and jump.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int):
        require_positive(width=width, height=height)
        self._model, self._size = model, (width, height)
        self._context = _open_context(width, height)
        quality, buffer = model.vis.quality, model.vis.global_
        before = quality.offsamples, quality.shadowsize, buffer.offwidth, buffer.offheight
        quality.offsamples, quality.shadowsize, buffer.offwidth, buffer.offheight = SAMPLES, 0, width, height
        try:
            self._drawing = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150.value)
        finally:
            quality.offsamples, quality.shadowsize, buffer.offwidth, buffer.offheight = before
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._drawing)
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._option, self._view = mujoco.MjvOption(), mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, self._view)
        if model.ncam:
            self._view.type, self._view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED.value, 0
        self._release = weakref.finalize(self, _release, self._context, self._drawing)
        self._release.atexit = False  # by then the driver may be gone, and the process takes the context along

    def fits(self, model: mujoco.MjModel, width: int, height: int) -> bool:
        """Whether this camera was made for that model and size."""
        return self._model is model and self._size == (width, height)

    def take(self, data: mujoco.MjData, behind: np.ndarray | None = None) -> np.ndarray:
        """One frame, uint8 [height, width, 3]; `RenderingError` if it shows nothing at all.

        Args:
          behind: uint8 [height, width, 3], seen in the place of the sky and of all planes.
        """
        width, height = self._size
        frame = np.empty((height, width, 3), np.uint8)
        depth = None if behind is None else np.empty((height, width), np.float32)
        self._context.make_current()
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._view, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = behind is None
        if behind is not None:
            for geom in self._scene.geoms[: self._scene.ngeom]:
                if geom.type == mujoco.mjtGeom.mjGEOM_PLANE.value:
                    geom.type = mujoco.mjtGeom.mjGEOM_NONE.value
        mujoco.mjr_render(self._rectangle, self._scene, self._drawing)
        mujoco.mjr_readPixels(frame, depth, self._rectangle, self._drawing)
        if behind is not None and depth is not None:
            frame = np.where((depth == FAR)[..., None], behind[::-1], frame)
        if frame.size > 3 and frame.min() == frame.max():
            raise RenderingError(
                f"the frame of {width} × {height} pixels holds one value, {frame.min()}, everywhere. Expected a picture. "
                "Close other renderers of this process, or try another MUJOCO_GL."
            )
        return frame[::-1].copy()

    def close(self) -> None:
        """Release what the graphics driver holds."""
        self._release()


def record(
    environment: "Environment", actions: Sequence[Any] | np.ndarray, seed: int, *, width: int = 320, height: int = 240
) -> np.ndarray:
    """Play `actions` [T, A] from `seed` again and film it: uint8 [T+1, height, width, 3], up to the episode's end."""
    environment.reset(seed)
    frames = [environment.render(width, height)]
    for action in actions:
        transition = environment.step(action)
        frames.append(environment.render(width, height))
        if transition.terminated or transition.truncated:
            break
    return np.stack(frames)


def write_gif(path: str | Path, frames: np.ndarray, seconds_per_frame: float, *, colours: int = 64) -> None:
    """Write frames [T, H, W, 3] as an endless GIF, complete or not at all. Its clock ticks in 10 ms."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise RenderingError(f"frames of shape {frames.shape} and dtype {frames.dtype}: expected uint8 [T, H, W, 3].")
    palette = Image.fromarray(frames[len(frames) // 2]).quantize(colours)
    pictures = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    path = Path(path)
    aside = path.with_name(f".{path.name}.partial")
    milliseconds = max(20, round(seconds_per_frame * 100) * 10)
    pictures[0].save(aside, format="GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)
    os.replace(aside, path)


def resized(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    """A frame [h, w, 3] at another size, by its nearest pixels."""
    rows = np.arange(height) * frame.shape[0] // height
    columns = np.arange(width) * frame.shape[1] // width
    return frame[rows[:, None], columns]


def _open_context(width: int, height: int) -> Any:
    backend = rendering_backend()
    if backend is None:
        raise RenderingError(f"no rendering backend (MUJOCO_GL={os.environ.get('MUJOCO_GL', '')!r}). {INSTALL}")
    try:
        context = importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
        context.make_current()
    except Exception as error:  # drivers fail in as many ways as there are drivers
        raise RenderingError(f"the rendering backend {backend!r} does not start: {error!r}. {INSTALL}") from error
    return context


def _release(context: Any, drawing: mujoco.MjrContext) -> None:
    context.make_current()
    drawing.free()
    context.free()
