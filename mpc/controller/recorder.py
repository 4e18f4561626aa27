"""The flight recorder: all that each decision depended on, in a bounded ring of files that survives a kill.

LOG/manifest.json    kind "log": settings of controller and planner, spec, versions
LOG/agent/           the folder that the agent was loaded from, where it was loaded from one
LOG/000000.log …     records; each file begins with the cost, so that a file can be read without the ones before it

Encoding and writing happen in a thread. The loop hands a record over only when the one before is in the file, so a killed
process has lost at most one; what the machine had not yet put on the disk when its power failed is lost too.
"""

import os
import shutil
import threading
import weakref
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mpc import costs
from mpc.controller import records
from mpc.errors import LogError
from worldmodels import checkpoint, manifest
from worldmodels.files import located
from worldmodels.spec import Spec

WAIT = 0.002  # seconds that the loop waits for the record before; then this one is dropped, and the status says so


class FlightRecorder:
    """Records a controller's decisions.

        controller = mpc.Controller(agent, settings, recorder=mpc.FlightRecorder("runs/log"))

    Args:
      folder: must be free: a log is evidence, and is never written over.
      agent: the folder that the agent was loaded from; copied, so that the log can be replayed by itself.
      files, size: the log keeps that many files of about so many bytes, and drops the oldest.
    """

    def __init__(self, folder: str | Path, *, agent: str | Path | None = None, files: int = 8, size: int = 4_000_000):
        self.folder, self.agent, self.files, self.size = Path(folder), agent, files, size
        _check(self.folder, agent, files, size)
        self.written = self.dropped = 0
        self._written, self._given = threading.Event(), threading.Event()
        self._written.set()
        self._record: Any = None
        self._failed: str | None = None
        self._closed, self._thread = False, None
        self._number, self._file, self._length = -1, -1, 0
        self._cost: Any = None

    def begin(self, controller: Any) -> None:
        """Write the manifest and start; `controller` does this."""
        if self._thread is not None:
            raise LogError(f"{self.folder}: the recorder has a controller already. Give each one of its own.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LogError(f"{self.folder}: the folder cannot be made ({error}). Choose another one.") from error
        if self.agent is not None:
            shutil.copytree(located(self.agent), self.folder / "agent")
        searcher = controller.searcher
        settings = {
            "controller": _described(controller.settings),
            "planner": None if searcher is None else described(searcher.planner),
            "weights": weights_checksum(controller.agent),
        }
        checksums = manifest.checksums(self.folder)
        manifest.write(self.folder, "log", settings=settings, checksums=checksums, spec=controller.spec.to_json())
        self._thread = thread = threading.Thread(target=self._work, name="sailplan recorder", daemon=True)
        thread.start()
        weakref.finalize(controller, self.close)

    def write(self, controller: Any, before, mind, observation, time, events, outcome, action, number) -> str | None:
        """Hand one decision over; a fault where it could not be."""
        if self._closed:
            return "flight recorder closed: the decision is not recorded"
        if not self._written.wait(WAIT):
            self.dropped += 1
            return "flight recorder behind: a decision is not recorded"
        read = outcome.memory.seen.last
        known = read is not None and read is not before.seen.last
        given = controller.rules.watch.arrays(read) if known else _unread(observation, controller.spec)
        self._written.clear()
        fault, self._failed = self._failed, None
        self._record = (
            (getattr(controller.agent, "cost", None), getattr(controller.agent, "critic", None), controller.intact, mind),
            (before, given, time, events),
            (int(outcome.rung), list(outcome.faults), action, number),
        )
        self._given.set()
        return fault

    def close(self) -> None:
        """Write what is left and stop."""
        if self._thread is not None and not self._closed:
            self._written.wait(5.0)
            self._closed = True
            self._given.set()
            self._thread.join(timeout=5.0)

    def _work(self) -> None:
        while True:
            self._given.wait()
            self._given.clear()
            record, self._record = self._record, None
            if record is not None:
                try:
                    self._put(*record)
                    self.written += 1
                except Exception as error:
                    self.dropped += 1
                    self._failed = (
                        f"flight recorder failed ({type(error).__name__}: {error}"[:200]
                        + "): the decision before is not recorded"
                    )
                self._written.set()
            if self._closed:
                if self._file >= 0:
                    os.close(self._file)
                return

    def _put(self, who, inputs, made) -> None:
        (cost, critic, intact, mind), (before, observation, time, events), (rung, faults, action, number) = who, inputs, made
        content = {
            "kind": "decision",
            "number": number,
            "memory": tree(before),
            "observation": observation,
            "time": time,
            "plans": mind.plans,
            "lead": mind.lead,
            "tolerance": mind.tolerance,
            "events": {name: _events(name, value) for name, value in events.items()},
            "damaged": [_damage(now, good) for now, good in zip((mind.flat, mind.reflex), intact, strict=True)],
            "rung": rung,
            "faults": faults,
            "action": action,
        }
        payload = records.frame(records.encode(content))
        if self._file < 0 or self._length + len(payload) > self.size:
            self._roll()
        if self._length == 0 or self._cost is not cost:
            leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(cost)]
            content = {"kind": "cost", "cost": cost_kind(cost), "leaves": leaves, "critic": critic is not None}
            self._append(records.frame(records.encode(content)))
            self._cost = cost
        self._append(payload)

    def _append(self, content: bytes) -> None:
        """The whole of `content`, or nothing."""
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError:
            os.ftruncate(self._file, self._length)
            raise
        self._length += len(content)

    def _roll(self) -> None:
        """Begin the next file, and drop the oldest."""
        if self._file >= 0:
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file, self._length = os.open(self.folder / f"{self._number + 1:06d}.log", flags, 0o644), 0
        self._number += 1
        (self.folder / f"{self._number - self.files:06d}.log").unlink(missing_ok=True)


def _check(folder: Path, agent: Any, files: Any, size: Any) -> None:
    """Raise `LogError`, before anything is made, where a log cannot be kept like that."""
    if folder.exists() and not folder.is_dir():
        raise LogError(f"{folder}: it is a file. Expected a folder that is empty or not there yet.")
    if folder.exists() and any(folder.iterdir()):
        raise LogError(f"{folder}: it is not empty, and a log is never written over. Choose another folder.")
    if agent is not None and not located(agent).is_dir():
        raise LogError(f"agent={agent}: there is no such folder. Give the one that the agent was loaded from.")
    if agent is not None and folder.resolve().is_relative_to(located(agent).resolve()):
        raise LogError(f"{folder}: it is inside the agent's folder, {agent}, which the log copies. Choose another folder.")
    if not (isinstance(files, int) and isinstance(size, int) and files >= 2 and size >= 1):
        raise LogError(f"files={files!r}, size={size!r}: expected at least 2 files of at least one byte.")


def tree(value: Any) -> Any:
    """Named tuples and pytrees as what `records` encodes: the former as dicts, the latter as lists of leaves."""
    if hasattr(value, "_fields"):
        return {name: tree(getattr(value, name)) for name in value._fields}
    if isinstance(value, dict):
        return {key: tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tree(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str | np.ndarray | jax.Array | np.generic):
        return value
    return {"leaves": [np.asarray(leaf) for leaf in jax.tree.leaves(value)]}


def _unread(observation: Any, spec: Spec) -> dict[str, Any]:
    """An observation that could not be read, so that reading it again finds the same wrong with it.

    Of what is no number the dtype is kept, as a text, and of an array of another shape the shape.
    """
    kept = {}
    for name, shape in spec.observation:
        try:
            array = np.asarray(observation[name])
        except Exception:
            continue
        if array.dtype.kind not in "fiub":
            kept[name] = np.array(str(array.dtype)[:100])
        else:
            kept[name] = np.array(array) if array.shape == shape else {"shape": list(array.shape)}
    return kept


def _events(name: str, value: Any) -> Any:
    if name != "arrivals":
        return tree(value)
    return [
        {
            "request": tree(arrival.request),
            "fault": arrival.fault,
            "found": None
            if arrival.searched is None
            else {name: getattr(arrival.searched, name) for name in ("actions", "sound", "slices", "replaced")},
        }
        for arrival in value
    ]


def _damage(now: Any, good: Any) -> dict[str, np.ndarray]:
    """The leaves that are not those that were checked, by their place."""
    if now is None or now is good:
        return {}
    return {str(i): np.asarray(x) for i, (x, y) in enumerate(zip(now[0], good[0], strict=True)) if x is not y}


def cost_kind(cost: Any) -> str:
    """How the log calls a cost: "learned", "goal", "function" or "none"."""
    kinds = {costs.LearnedCost: "learned", costs.GoalCost: "goal", type(None): "none"}
    return kinds.get(type(cost), "function")


def weights_checksum(agent: Any) -> str:
    """sha256 of an agent's parameters, its cost's left out."""
    return checkpoint.digest([getattr(agent, name, None) for name in ("model", "policy", "critic", "continuation", "upper")])


def described(planner: Any) -> dict[str, Any]:
    """A planner's name and settings as JSON, planners inside it likewise."""
    settings = {field: _plain(getattr(planner, field)) for field in planner.__dataclass_fields__}
    return {"name": type(planner).__name__, "settings": settings}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return described(value) if hasattr(value, "__dataclass_fields__") else value


def _described(settings: Any) -> dict[str, Any]:
    content = _plain(asdict(replace(settings, safe="hold")))  # a function may be bound to what cannot be copied
    content["fallbacks"] = [int(rung) for rung in settings.fallbacks]
    content["safe"] = settings.safe if isinstance(settings.safe, str) else "function"
    return content
