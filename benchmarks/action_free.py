"""`sailplan bench action-free`: watch everything, act on a tenth; beside a model that is told every action, and one that knows that tenth alone.

The tenth is one stretch of each episode, at another time in each, so that it shows every part of an episode.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import mpc
import worldmodels
from benchmarks.model_cells import ACTION_REPEAT, HELD_OUT, Budget, data_of, judge, measure_lines, open_loop_error
from benchmarks.planner_cells import TASKS
from benchmarks.results import choose
from worldmodels.objectives import PRESETS

SHARE = 10  # of the labels, one in so many is kept
WATCHING: dict[str, Any] = {"noise": "gaussian", "actions": "latent"}
METHODS = {"labelled": "all actions", "tenth-alone": "a tenth of them, nothing else", "watched": "a tenth of them, all watched"}


def bench_action_free(tasks: Sequence[str], methods: Sequence[str], budget: Budget) -> list[dict[str, Any]]:
    """Lines of the cells that are not in benchmarks/results/action_free.jsonl yet."""
    planned = []
    chosen = choose("method", methods, METHODS)
    for seed, task, method in itertools.product(budget.seeds, choose("task", tasks, TASKS), chosen):
        line = {
            "benchmark": "action_free",
            "task": TASKS[task].environment,
            "method": method,
            "settings": {
                "condition": METHODS[method],
                "updates": budget.updates,
                "batch": budget.batch,
                "action_repeat": ACTION_REPEAT,
                "share": SHARE,
            },
            "seed": seed,
            "frames": data_of(TASKS[task]).frames,
        }
        planned.append((line, lambda task=task, method=method, seed=seed: measure(task, method, seed, budget)))
    return measure_lines(planned, budget.minutes)


def measure(task: str, method: str, seed: int, budget: Budget) -> dict[str, Any]:
    """Train by one method and judge the model."""
    described, objective = TASKS[task], PRESETS["vicreg"].objective
    data = data_of(described)
    unseen = worldmodels.Episodes(data.spec, tuple(data_of(described, first=HELD_OUT)))
    environment = mpc.make(described.environment, action_repeat=ACTION_REPEAT)
    settings = worldmodels.TrainingSettings(batch=budget.batch, objective=objective)
    reports: list[worldmodels.Progress] = []
    taught: dict[str, Any] = {"updates": budget.updates, "seed": seed, "progress": reports.append}
    labelled = data if method == "labelled" else stretches(data, SHARE)
    if method == "watched":
        untrained = worldmodels.JEPA(data.spec, seed=seed, **WATCHING)
        watched = worldmodels.train(untrained, data, dataclasses.replace(settings, cost_gradient=0.0), **taught)
        model = worldmodels.learn_actions(watched, labelled, settings, seen=data, **taught)
    else:
        model = worldmodels.train(worldmodels.JEPA(data.spec, seed=seed), labelled, settings, **taught)
    return {
        "labelled_decisions": sum(map(len, labelled)),
        **judge(model, described, environment, unseen, reports[-1], budget),
        "open_loop_error": open_loop_error(model, unseen),
    }


def stretches(episodes: Sequence[worldmodels.Episode], share: int) -> worldmodels.Episodes:
    """One stretch of each episode, a `share`-th of it long, at another of `share` places in each."""
    found = []
    for index, episode in enumerate(episodes):
        length = len(episode) // share
        first = (index % share) * length
        rows, decisions = slice(first, first + length + 1), slice(first, first + length)
        found.append(
            dataclasses.replace(
                episode,
                observations={name: values[rows] for name, values in episode.observations.items()},
                actions=episode.actions[decisions],
                costs=None if episode.costs is None else episode.costs[decisions],
                terminated=episode.terminated and rows.stop == len(episode) + 1,
                truncated=not (episode.terminated and rows.stop == len(episode) + 1),
            )
        )
    return worldmodels.Episodes(episodes.spec, tuple(found))  # type: ignore[attr-defined]
