"""The acting loop: one agent in several copies of an environment, in lockstep, episode by episode in the order of their seeds.

What an episode holds depends on its seed alone: the environment is reset with it, and decision t draws from
fold_in(key(seed), t). How many copies play side by side changes neither which episodes are kept nor where they are cut
(an agent's arithmetic may round differently in batches of another size).
"""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mpc.decision import Decision
from mpc.environment import Environment
from mpc.errors import CollectionError, EnvironmentFaultError
from planners.errors import require_counts
from worldmodels.data.episode import Episode

Observation = dict[str, np.ndarray]
FAULTS = 3  # episodes in a row in which the environment may fail


@partial(jax.jit, static_argnames="explore")
def decide(agent: Any, state: Any, observation: Observation, seed: Any, step: Any, *, explore: bool) -> tuple[Decision, Any]:
    """One decision of one agent, its randomness from the episode's seed and the number of the decision."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    return agent.act(state, observation, explore=explore, key=key)


@partial(jax.jit, static_argnames="explore")
def _decide_all(agent, states, observations, fresh, seeds, steps, *, explore):
    """Actions [N, A] and states of N copies; where `fresh`, an episode begins."""

    def begin(states):
        started = _abreast(agent.reset, len(fresh))(observations)
        return jax.tree.map(lambda new, old: jnp.where(fresh.reshape(-1, *[1] * (old.ndim - 1)), new, old), started, states)

    states = jax.lax.cond(fresh.any(), begin, lambda states: states, states)
    one = partial(decide, agent, explore=explore)
    decisions, states = _abreast(one, len(fresh))(states, observations, seeds, steps)
    return decisions.action, states


def _abreast(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """`function` of `count` copies; of one without a batch, since XLA for CPUs fails on some batches of one (jax 0.10.2)."""
    if count > 1:
        return jax.vmap(function)
    return lambda *given: jax.tree.map(lambda x: x[None], function(*jax.tree.map(lambda x: x[0], given)))


class _Recording:
    """An episode in the making."""

    def __init__(self, seed: int, observation: Observation):
        self.seed = seed
        self.observations, self.actions, self.costs = [observation], [], []
        self.terminated = self.truncated = False

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def ended(self) -> bool:
        return self.terminated or self.truncated

    def episode(self, length: int) -> Episode:
        """What was recorded, its first `length` decisions; truncated if that is not all of it."""
        complete = self.ended and len(self) <= length
        length = min(len(self), length)
        return Episode(
            observations={name: np.stack([o[name] for o in self.observations[: length + 1]]) for name in self.observations[0]},
            actions=np.stack(self.actions[:length]),
            costs=np.asarray(self.costs[:length], np.float32),
            terminated=complete and self.terminated,
            truncated=self.truncated if complete else True,
            seed=self.seed,
        )


class _Copies:
    """Environments side by side, each with the recording it is busy with, and the agent's states for all of them."""

    def __init__(self, environments: list[Environment], agent: Any, explore: bool, longest: int | None):
        self.environments, self.agent, self.explore, self.longest = environments, agent, explore, longest
        self.recordings: list[_Recording | None] = [None] * len(environments)
        self.fresh = np.zeros(len(environments), bool)
        self.states: Any = None
        self.observations: Observation = {}

    def begin(self, index: int, seed: int) -> _Recording:
        """Reset one environment. The first time, the agent looks at the observation outside `jit`, to refuse what does not fit."""
        observation = self.environments[index].reset(seed)
        if self.states is None:
            count, state = len(self.environments), self.agent.reset(observation)
            self.states = jax.tree.map(
                lambda x: jnp.broadcast_to(x, (count, *jnp.shape(x))).astype(jnp.asarray(x).dtype), state
            )
            self.observations = {name: np.stack([value] * count) for name, value in observation.items()}
        self.recordings[index] = recording = _Recording(seed, observation)
        self.fresh[index] = True
        return recording

    def step(self) -> None:
        """One decision in every environment that is busy. JAX and numpy meet once, for all of them."""
        seeds, steps = np.zeros(len(self.recordings), np.uint32), np.zeros(len(self.recordings), np.int32)
        for index, recording in enumerate(self.recordings):
            if recording is not None:
                seeds[index], steps[index] = recording.seed, len(recording)
                for name, value in recording.observations[-1].items():
                    self.observations[name][index] = value
        actions, self.states = _decide_all(
            self.agent, self.states, self.observations, self.fresh, seeds, steps, explore=self.explore
        )
        actions = np.asarray(actions)
        self.fresh[:] = False
        for environment, recording, action in zip(self.environments, self.recordings, actions, strict=True):
            if recording is not None:
                transition = environment.step(action)
                recording.actions.append(action)
                recording.observations.append(transition.observation)
                recording.costs.append(transition.cost)
                cut = self.longest is not None and len(recording) >= self.longest
                recording.terminated, recording.truncated = transition.terminated, transition.truncated or cut


def play(
    environment: Environment,
    agent: Any,
    seeds: Iterable[int],
    *,
    budget: int | None = None,
    longest: int | None = None,
    explore: bool = False,
    copies: int = 1,
    on_step: Callable[[int], None] | None = None,
    on_end: Callable[[Any], None] | None = None,
) -> Iterator[Episode]:
    """Yield an episode for each seed, in order, until the seeds or `budget` decisions are spent.

    The episode in which the budget runs out is cut there, and truncated.

    Args:
      environment: the first copy; it stays open, in the middle of what was played last.
      agent: follows `Agent`, and is a pytree.
      budget: decisions in all episodes together; None for no limit.
      longest: decisions after which an episode is cut, and truncated; None for the environment's own end.
      copies: environments in lockstep.
      on_step: called with the decisions made so far, those that count towards the budget.
      on_end: called with the agent's state at the end of each episode, in the order in which they end.
    """
    require_counts(copies=copies, longest=1 if longest is None else longest)
    if any(leaf is agent for leaf in jax.tree.leaves(agent)):
        raise CollectionError(
            f"agent {type(agent).__name__} is no pytree. Decorate it with planners.pytree, or make it an nnx.Module."
        )
    environments = [environment, *(environment.copy() for _ in range(copies - 1))]
    try:
        yield from _play(
            _Copies(environments, agent, explore, longest),
            iter(seeds),
            float("inf") if budget is None else budget,
            on_step,
            on_end,
        )
    finally:
        for copy in environments[1:]:
            copy.close()


def _play(
    copies: _Copies,
    seeds: Iterator[int],
    budget: float,
    on_step: Callable[[int], None] | None,
    on_end: Callable[[Any], None] | None,
) -> Iterator[Episode]:
    waiting: deque[_Recording] = deque()  # in the order of their seeds, finished or not; only the first may leave
    spent = 0
    while True:
        for index, recording in enumerate(copies.recordings):
            if recording is None and spent + sum(map(len, waiting)) < budget and (seed := next(seeds, None)) is not None:
                waiting.append(copies.begin(index, seed))
        if not waiting:
            return
        copies.step()
        # An episode may stop once it and those before it fill the budget: those before it only grow.
        earlier = spent
        for recording in waiting:
            if recording in copies.recordings and (recording.ended or earlier + len(recording) >= budget):
                index = copies.recordings.index(recording)
                copies.recordings[index] = None
                if on_end is not None:
                    on_end(jax.tree.map(lambda x, index=index: x[index], copies.states))
            earlier += len(recording)
        if on_step is not None:
            on_step(int(min(earlier, budget)))
        while waiting and waiting[0] not in copies.recordings:
            recording = waiting.popleft()
            if spent < budget:
                episode = recording.episode(int(min(len(recording), budget - spent)))
                spent += len(episode)
                yield episode


def attempted(act: Callable[[int], Episode], seed: int) -> Episode:
    """`act(seed)`. Where the environment fails in it, the episode of the next seed, with a warning; `FAULTS` in a row are raised."""
    fault = None
    for number in range(seed, seed + FAULTS):
        try:
            return act(number)
        except EnvironmentFaultError as error:
            warnings.warn(f"the episode with seed {number} is left out: {error}", stacklevel=3)
            fault = error
    raise EnvironmentFaultError(f"{FAULTS} episodes in a row failed, the last one: {fault}") from fault
