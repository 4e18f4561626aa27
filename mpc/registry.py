"""Gymnasium environments by id, whichever package brings them, and what they say of time."""

import contextlib
import difflib
import importlib
import io
import warnings
from typing import Any

import gymnasium
import numpy as np

from mpc.errors import UnknownEnvironmentError, UnsupportedEnvironmentError


def instance(id: str) -> gymnasium.Env:
    """A fresh environment, drawing to arrays where it does not run on MuJoCo; `UnknownEnvironmentError` names near matches."""
    _import_extra(id)
    if ":" not in id and id not in gymnasium.registry:
        raise UnknownEnvironmentError(f"no environment {id!r}. {_near_matches(id)}")
    try:
        env = gymnasium.make(id, disable_env_checker=True)
        if not _on_mujoco(env) and "rgb_array" in env.metadata.get("render_modes", ()):
            env.close()
            env = gymnasium.make(id, disable_env_checker=True, render_mode="rgb_array")
    except gymnasium.error.DependencyNotInstalled as error:
        raise UnknownEnvironmentError(f"{id} lacks a package: {error}") from error
    except (gymnasium.error.Error, ImportError) as error:
        raise UnknownEnvironmentError(f"no environment {id!r}: {error}") from error
    except Exception as error:  # whatever somebody's constructor raises
        raise UnsupportedEnvironmentError(f"{id}: it cannot be made: {error!r}.") from error
    return env


def _on_mujoco(env: gymnasium.Env) -> bool:
    return hasattr(env.unwrapped, "physics") or hasattr(env.unwrapped, "model")


def _import_extra(id: str) -> None:
    """Import the package that registers `id`, without what it has to say of displays and of tasks it cannot register."""
    if id in gymnasium.registry:
        return
    module, extra = ("shimmy", "dmc") if id.startswith("dm_control/") else ("gymnasium_robotics", "mazes")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            gymnasium.register_envs(importlib.import_module(module))
            if extra == "dmc":
                importlib.import_module("dm_control")
        except ImportError as error:
            if extra == "dmc":
                raise UnknownEnvironmentError(f"{id} needs dm_control: pip install 'sailplan[dmc]' ({error}).") from error


def _near_matches(id: str) -> str:
    wanted = id.lower()

    def likeness(known: str) -> float:
        names = (known.lower(), known.split("/")[-1].lower())
        return max(difflib.SequenceMatcher(None, wanted, name).ratio() for name in names)

    found = [known for known in sorted(gymnasium.registry, key=likeness, reverse=True)[:3] if likeness(known) > 0.6]
    question = f"Did you mean {' or '.join(found)}? " if found else "See gymnasium.pprint_registry(). "
    return question + "Mazes and hands come with 'sailplan[mazes]', dm_control tasks with 'sailplan[dmc]'."


def seconds_per_frame(env: gymnasium.Env) -> float:
    """What the environment says of its clock: control timestep, dt, tau or frames per second; 1 where it says nothing."""
    unwrapped: Any = env.unwrapped
    if hasattr(unwrapped, "control_timestep"):
        return float(unwrapped.control_timestep())
    robots = [getattr(unwrapped, name, None) for name in ("point_env", "ant_env")]  # in mazes, which know no time themselves
    for holder in (*robots, unwrapped):
        for name in ("dt", "tau"):
            if isinstance(value := getattr(holder, name, None), int | float) and value > 0:
                return float(value)
    rate = env.metadata.get("render_fps")
    return 1.0 / rate if rate else 1.0


def frames_per_episode(env: gymnasium.Env) -> int | None:
    """Frames until the time limit; None where there is none."""
    if env.spec is not None and env.spec.max_episode_steps is not None:
        return env.spec.max_episode_steps
    limit = getattr(env.unwrapped, "_step_limit", None)
    return int(np.ceil(limit)) if isinstance(limit, int | float) and np.isfinite(limit) else None
