"""`sailplan bench switching`: one walker, one episode, three tasks: stand, then walk, then run, by one configurator.

Beside each segment acts a fresh controller that begins in the state in which the segment began, with nothing left of a search. The
model and what was imagined for its tasks are `sailplan bench many-tasks`'s, under runs/many_tasks/.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

import mpc
from benchmarks import results
from benchmarks.many_tasks import ACTION_REPEAT, DISCOUNT, PLANNER, environment_of, explored, folder, recipe, solution
from mpc.agent import Observation
from mpc.evaluation import HELD_OUT

RESULTS = results.RESULTS / "switching.jsonl"
BODY, SEGMENTS = "walker", ("stand", "walk", "run")
DECISIONS = 166  # of a segment; three fill dm_control's episode of 500
EPISODES = 5


def bench_switching(seeds: Sequence[int], frames: int, updates: int) -> list[dict[str, Any]]:
    """A line for each segment, switched to and fresh, of each seed's model."""
    return [line for seed in seeds for line in _measured(seed, frames, updates)]


def configured(seed: int, frames: int, updates: int) -> mpc.Configurator:
    """The seed's model with a critic and a policy for each segment's task."""
    model, dataset = explored(BODY, seed, frames)
    tasks = {name: mpc.Task({f"{BODY}.{name}": 1.0}, planner=PLANNER, discount=DISCOUNT) for name in SEGMENTS}
    body = mpc.Configurator(model, costs=None, **tasks)
    for name in SEGMENTS:
        critic, policy, _ = solution(folder(BODY, seed, frames), model, dataset, f"{BODY}.{name}", updates, seed)
        body.solve(name, critic, policy)
    return body


def _measured(seed: int, frames: int, updates: int) -> Iterator[dict[str, Any]]:
    began, body = time.process_time(), configured(seed, frames, updates)
    environment = environment_of(BODY, SEGMENTS[0])
    played = [_episode(body, environment, HELD_OUT + episode) for episode in range(EPISODES)]
    returns = {method: np.array([[paid[method] for paid in each] for each, _ in played]) for method in ("switched", "fresh")}
    for method, of_segments in returns.items():
        for index, name in enumerate(SEGMENTS):
            yield results.write_line(
                RESULTS,
                {
                    "benchmark": "switching",
                    "task": f"dm_control/{BODY}-{name}-v0",
                    "method": method,
                    "settings": {
                        "action_repeat": ACTION_REPEAT,
                        **recipe(updates),
                        "decisions": DECISIONS,
                        "segment": index,
                    },
                    "seed": seed,
                    "frames": frames,
                    "return_mean": float(of_segments[:, index].mean()),
                    "return_ci95": mpc.confidence_interval(of_segments[:, index]),
                    "compiled_after_first_switch": played[0][1],
                    "episodes": EPISODES,
                    "minutes": round((time.process_time() - began) / 60, 2),
                },
            )


def acted(body: mpc.Configurator, environment: mpc.Environment, seed: int) -> tuple[list[np.ndarray], list[Any]]:
    """One episode: its actions, and of each segment its name, the agent, what was observed, and what compiled meanwhile."""
    observation, sent, segments = environment.reset(seed), [], []
    state: Any = None
    for index, name in enumerate(SEGMENTS):
        with _compilations() as seen:
            agent, state = body.switch(name, state) if index else (body.agent(name), body.agent(name).reset(observation))
            state, shown = _segment(environment, agent, state, observation, seed, sent)
        segments.append((name, agent, shown, seen))
        observation = shown[-1]
    return sent, segments


def _episode(body: mpc.Configurator, environment: mpc.Environment, seed: int) -> tuple[list[dict[str, float]], int]:
    """What each segment returned, switched to and fresh, and how many programs compiled after the first switch."""
    sent, segments = acted(body, environment, seed)
    returns = []
    for index, (name, agent, shown, _) in enumerate(segments):
        before, taken = sent[: index * DECISIONS], sent[index * DECISIONS : (index + 1) * DECISIONS]
        again = environment.copy()
        start = again.reset(seed)
        for action in before:
            start = again.step(action).observation
        other = list(before)
        _, alone = _segment(again, agent, agent.reset(start), start, seed, other)
        again.close()
        returns.append({"switched": _returned(name, shown, taken), "fresh": _returned(name, alone, other[len(before) :])})
    return returns, sum(len(seen) for *_, seen in segments[2:])


def _segment(
    environment: mpc.Environment, agent: Any, state: Any, observation: Observation, seed: int, sent: list[np.ndarray]
) -> tuple[Any, list[Observation]]:
    """Act for `DECISIONS`: the state then, and what each led to. Actions are added to `sent`."""
    shown = []
    for _ in range(DECISIONS):
        decision, state = agent.act(state, observation, key=jax.random.fold_in(jax.random.key(seed), len(sent)))
        sent.append(np.asarray(decision.action))
        observation = environment.step(sent[-1]).observation
        shown.append(observation)
    return state, shown


def _returned(name: str, shown: list[Observation], actions: list[np.ndarray]) -> float:
    """The return of a segment by the task's cost, which is what dm_control rewards, with the sign turned, at the end of each decision."""
    seen = jax.tree.map(lambda *values: np.stack(values), *shown)
    paid = jax.jit(jax.vmap(mpc.tasks.lookup(f"{BODY}.{name}")))(seen, np.stack(actions), np.arange(len(actions)))
    return -ACTION_REPEAT * float(paid.sum())


@contextmanager
def _compilations() -> Iterator[list[str]]:
    """The programs that compile meanwhile."""
    seen: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: seen.append(record.getMessage()) if "Compiling" in record.getMessage() else None
    logger = logging.getLogger("jax")
    logger.addHandler(handler)
    shown, logger.propagate = logger.propagate, False  # thousands of lines on the console otherwise
    try:
        with jax.log_compiles():
            yield seen
    finally:
        logger.removeHandler(handler)
        logger.propagate = shown
