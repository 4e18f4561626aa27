"""`sailplan bench video`: what lossless ways of keeping frames cost, into benchmarks/results/video.jsonl."""

import io
import time
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from rich.console import Console

import mpc
from benchmarks import results
from benchmarks.results import ResultError
from worldmodels.data.formats.source import require

RESULTS = results.RESULTS / "video.jsonl"
TASKS = ("dm_control/cartpole-swingup-v0", "dm_control/walker-walk-v0")
SIZES = (64, 256)
FRAMES = 250
console = Console(markup=False)


class Codec(NamedTuple):
    """Frames [T, height, width, 3] to bytes and back."""

    encode: Callable[[np.ndarray], bytes | list[bytes]]
    decode: Callable[[Any, np.ndarray], np.ndarray]


def bench_video(tasks: tuple[str, ...] = TASKS, sizes: tuple[int, ...] = SIZES, frames: int = FRAMES) -> list[dict[str, Any]]:
    """One line a task, size and codec: share of the raw bytes kept, frames a second written and read; all must come back exactly."""
    lines = []
    for task in tasks:
        for size in sizes:
            given = _rendered(task, size, frames)
            for method, codec in CODECS.items():
                began = time.perf_counter()
                content = codec.encode(given)
                written = time.perf_counter()
                again = codec.decode(content, given)
                read = time.perf_counter()
                if not np.array_equal(again, given):
                    raise ResultError(f"{method} changed the frames of {task} at {size}: it is not lossless.")
                kept = sum(map(len, content)) if isinstance(content, list) else len(content)
                cell = {
                    "benchmark": "video",
                    "task": task,
                    "method": method,
                    "settings": {"size": size},
                    "seed": 0,
                    "frames": frames,
                }
                figures = {
                    "kept_percent": round(100 * kept / given.nbytes, 1),
                    "written_per_second": round(frames / (written - began)),
                    "read_per_second": round(frames / (read - written)),
                }
                minutes = round((read - began) / 60, 4)
                lines.append(results.write_line(RESULTS, {**cell, **figures, "minutes": minutes}))
                console.print(f"{task} {size} {method}: {figures}", highlight=False)
    return lines


def _rendered(task: str, size: int, count: int) -> np.ndarray:
    """One episode of random actions."""
    environment, random = mpc.make(task, action_repeat=4), np.random.default_rng(0)
    environment.reset(seed=1)
    frames = []
    for _ in range(count):
        frames.append(environment.render(size, size))
        moved = environment.step(random.uniform(-1, 1, environment.spec.action.shape))
        if moved.terminated or moved.truncated:
            environment.reset(seed=2)
    environment.close()
    return np.stack(frames)


def _deflate(level: int) -> Codec:
    return Codec(
        lambda frames: zlib.compress(frames.tobytes(), level),
        lambda content, like: np.frombuffer(zlib.decompress(content), np.uint8).reshape(like.shape),
    )


def _film(codec: str, pixels: str, options: dict[str, str]) -> Codec:
    def encode(frames: np.ndarray) -> bytes:
        av = require("av")
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="matroska") as film:
            stream: Any = film.add_stream(codec, rate=25, options=options)
            stream.height, stream.width, stream.pix_fmt, stream.thread_count = *frames.shape[1:3], pixels, 1
            for frame in frames:
                film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            film.mux(stream.encode())
        return buffer.getvalue()

    def decode(content: bytes, like: np.ndarray) -> np.ndarray:
        with require("av").open(io.BytesIO(content)) as film:
            film.streams.video[0].thread_count = 1
            return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])

    return Codec(encode, decode)


def _png(frames: np.ndarray) -> list[bytes]:
    contents = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    return contents


CODECS = {
    "deflate (ours)": _deflate(6),
    "png": Codec(_png, lambda content, like: np.stack([np.asarray(Image.open(io.BytesIO(one))) for one in content])),
    "ffv1": _film("ffv1", "bgr0", {"level": "3", "context": "1"}),
    "h264rgb, lossless": _film("libx264rgb", "rgb24", {"qp": "0", "preset": "veryfast"}),
}
