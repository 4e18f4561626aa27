"""`sailplan bench horizons`: how far ahead each level of a maze's hierarchy predicts, into benchmarks/results/horizons.jsonl.

Open loop on episodes that were not learned from, in metres of the position that each level reads out. Level 1 is given the actions
that were taken. Level 2 is given its own: of what happened in each stride the code that says it best, log(codes) nats and no action.
`level_2_steered` chooses the code from where it has predicted itself to be, not from where the world was: how near level 2 can be led.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.console import Console

import mpc
from benchmarks import results
from benchmarks.maze_learning import MazeLearning, learned, watched
from benchmarks.mazes import TASKS
from worldmodels import Episodes

RESULTS = results.RESULTS / "horizons.jsonl"
HELD_OUT = 500  # added to the seed of the episodes that were learned from
SECONDS = 3.0
console = Console(markup=False)


def bench_horizons(
    tasks: Sequence[str], seeds: Sequence[int], frames: int = 20_000, learning: MazeLearning | None = None
) -> list[dict[str, Any]]:
    """One line a task, seed, level and time ahead."""
    learning, lines = learning or MazeLearning(), []
    for seed in seeds:
        for task in tasks or TASKS:
            hierarchy, _ = learned(task, seed, learning)
            began = time.perf_counter()
            unseen = watched(task, seed + HELD_OUT, replace(learning, frames=frames))
            errors = errors_ahead(hierarchy, unseen, SECONDS)
            minutes = round((time.perf_counter() - began) / 60, 2)
            for method, by_seconds in errors.items():
                for seconds, error in by_seconds.items():
                    cell = {"benchmark": "horizons", "task": task, "method": method, "seed": seed, "frames": learning.frames}
                    measured = {"seconds": seconds, "prediction_error": error, "minutes": minutes}
                    settings = asdict(learning) | {"seconds": seconds}
                    lines.append(results.write_line(RESULTS, {**cell, "settings": settings, **measured}))
            last = {method: f"{list(by_seconds.values())[-1]:.2f} m" for method, by_seconds in errors.items()}
            console.print(f"{task}, seed {seed}, {SECONDS} s ahead: {last}", highlight=False)
    return lines


def errors_ahead(hierarchy: mpc.Hierarchy, episodes: Episodes, seconds: float) -> dict[str, dict[float, float]]:
    """Mean error of the position, metres, by level and seconds ahead; `still` says that nothing moves.

    From the first moment of every window of so many seconds, cut from `episodes` without overlap.
    """
    above, spec = hierarchy.upper[0], hierarchy.model.spec
    strides = int(seconds / spec.seconds_per_step / above.stride + 1e-6)
    length = strides * above.stride
    seen, actions = [], []
    for episode in episodes:
        for first in range(0, len(episode) - length + 1, length):
            seen.append(episode.observations["observation"][first : first + length + 1])
            actions.append(spec.action.normalise(episode.actions[first : first + length]))
    seen, actions = np.stack(seen), np.stack(actions)
    said = {
        "level_1": _level_1(hierarchy, seen, actions)[:, :: above.stride],
        "level_2": _level_2(hierarchy, seen[:, :: above.stride]),
        "level_2_steered": _level_2(hierarchy, seen[:, :: above.stride], steered=True),
        "still": np.broadcast_to(seen[:, :1, :2], (len(seen), strides + 1, 2)),
    }
    times = [round(i * above.spec.seconds_per_step, 3) for i in range(strides + 1)]
    truth = seen[:, :: above.stride, :2]
    return {
        method: dict(zip(times, np.linalg.norm(places - truth, axis=-1).mean(0).tolist(), strict=True))
        for method, places in said.items()
    }


@jax.jit
def _level_1(hierarchy: mpc.Hierarchy, seen: Float[Array, "N T O"], actions: Float[Array, "N H A"]) -> Float[Array, "N H+1 2"]:
    model = hierarchy.model

    def rolled(first, actions):
        latent = model.start({"observation": first})

        def step(latent, action):
            following = model.predict(latent, action, jnp.zeros(0))
            return following, following

        _, latents = jax.lax.scan(step, latent, actions)
        latents = jnp.concatenate([latent[None], latents])
        return jax.vmap(lambda latent: model.readout(latent)["observation"][:2])(latents)

    return jax.vmap(rolled)(seen[:, 0], actions)


@partial(jax.jit, static_argnames="steered")
def _level_2(hierarchy: mpc.Hierarchy, seen: Float[Array, "N S+1 O"], *, steered: bool = False) -> Float[Array, "N S+1 2"]:
    above = hierarchy.upper[0]

    def rolled(seen):
        true = jax.vmap(lambda seen: above.start({"observation": seen}))(seen)

        def step(latent, pair):
            before, after = pair
            code = above.infer_action(latent if steered else before, after)
            following = above.predict(latent, code, jnp.zeros(0))
            return following, following

        _, latents = jax.lax.scan(step, true[0], (true[:-1], true[1:]))
        latents = jnp.concatenate([true[:1], latents])
        return jax.vmap(lambda latent: above.readout(latent)["observation"][:2])(latents)

    return jax.vmap(rolled)(seen)
