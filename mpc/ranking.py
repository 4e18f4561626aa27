"""Whether plans that a model holds cheap are cheap in the world: the figure that tells a model one can plan with."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import planners
from mpc import tasks
from mpc.agent import PlanningAgent
from mpc.costs import LearnedCost, check, middle
from mpc.costs import cost as function_cost
from mpc.environment import Environment, make
from mpc.errors import CostError, UnsupportedEnvironmentError
from mpc.simulation import simulator
from worldmodels.data.episode import Episode
from worldmodels.data.windows import warn_of_short
from worldmodels.errors import DataError
from worldmodels.spec import ContinuousAction, Spec

NOISE = 0.5  # standard deviation around what was done, in normalised actions


class Ranking(NamedTuple):
    """Costs of N candidate plans from each of S moments, by the model and by the true simulator; a cost that is not finite is +inf.

    Attributes:
      predicted, true: [S, N].
      correlations: [S], Spearman's of the two; 0 where either is constant, which ranks nothing.
      charged: the cost that the model was charged.
    """

    predicted: np.ndarray
    true: np.ndarray
    correlations: np.ndarray
    charged: Any

    @property
    def mean(self) -> float:
        """Over the moments; 1 is the order of the world, 0 no better than chance."""
        return float(self.correlations.mean())

    @property
    def best_rank(self) -> float:
        """Mean place, in [0, 1], that the plan the model likes best takes in the world: 0 is the best, 0.5 chance."""
        chosen = self.predicted.argmin(1)
        true = np.take_along_axis(self.true, chosen[:, None], 1)
        return float((self.true < true).mean())


def rank_plans(
    model: Any,
    episodes: Sequence[Episode],
    *,
    horizon: int = 20,
    candidates: int = 64,
    moments: int = 8,
    seed: int = 0,
    cost: Any = None,
    predicted: Any = None,
) -> Ranking:
    """Rank the same plans, half of them random, half near what was done, by `model` and by MuJoCo.

    The moments are ones that episodes passed through; the environment is played again up to there, and must show what was
    recorded. MuJoCo is charged `cost`, which speaks of physical units; `mpc.tasks` gives it where it is None. The model is charged
    what a planner on it would be: `predicted`, such as `mpc.LearnedCost()`; where that is None, `cost` of its readouts, or what it
    learned of costs where it reads out too little, as models of pictures do.

    Raises `UnsupportedEnvironmentError` where there is no simulator, `CostError` where there is no cost that world and model know,
    `DataError` where no episode is long enough or one cannot be played again. A `ShortEpisodeWarning` names those too short.
    """
    spec: Spec = model.spec
    task = function_cost(tasks.lookup(spec.environment)) if cost is None else cost
    if not isinstance(spec.action, ContinuousAction) or spec.action_block > 1:
        raise UnsupportedEnvironmentError(f"{spec.environment}: plans are ranked for continuous actions, one a decision.")
    shown, hidden = (make(spec.environment, action_repeat=spec.action_repeat, privileged=known) for known in (False, True))
    physics = simulator(hidden)
    planner = planners.RandomShooting(horizon)
    by = _known(model, task) if predicted is None else predicted
    problems = [PlanningAgent(one, paid, planner).problem() for one, paid in ((model, by), (physics, task))]
    random = np.random.default_rng(seed)
    lengths = [len(episode) for episode in episodes]
    long_enough = [index for index, decisions in enumerate(lengths) if decisions > horizon]
    if not long_enough:
        raise DataError(f"no episode has more than {horizon} decisions: plans of that length cannot be ranked.")
    warn_of_short(lengths, horizon + 1)
    found: tuple[list, list] = ([], [])
    for index in np.resize(random.permutation(long_enough), moments).tolist():
        episode = episodes[index]
        start = int(random.integers(len(episode) - horizon))
        plans = _plans(spec, episode.actions[start : start + horizon], candidates, random)
        state = replayed(shown, hidden, episode, start)
        latents = (_believed(model, episode, start), physics.start(state))
        for costs, problem, latent in zip(found, problems, latents, strict=True):
            scores = np.asarray(_costs(problem, latent, plans, horizon=horizon))
            costs.append(np.where(np.isfinite(scores), scores, np.inf))
    for environment in (shown, hidden):
        environment.close()
    predicted, true = (np.stack(costs) for costs in found)
    return Ranking(predicted, true, np.array([spearman(*pair) for pair in zip(predicted, true, strict=True)]), by)


def replayed(shown: Environment, hidden: Environment, episode: Episode, decisions: int) -> dict[str, np.ndarray]:
    """The privileged observation after the episode's first `decisions`; `DataError` where the environment now shows something else."""
    seen, state = shown.reset(episode.seed), hidden.reset(episode.seed)
    for action in episode.actions[:decisions]:
        seen, state = shown.step(action).observation, hidden.step(action).observation
    for name, value in seen.items():
        recorded = episode.observations.get(name)
        if recorded is not None and not np.allclose(recorded[decisions], value, rtol=1e-3, atol=1e-3):
            raise DataError(
                f"the episode of seed {episode.seed} cannot be played again: observations[{name}] is {value} after {decisions} "
                f"decisions, recorded was {recorded[decisions]}. Was it recorded elsewhere, or by another version of MuJoCo?"
            )
    return state


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of ranks, ties sharing theirs; 0 where either is constant."""
    deviations = [ranks(values) - (len(values) - 1) / 2 for values in (one, other)]
    scale = np.sqrt((deviations[0] ** 2).sum() * (deviations[1] ** 2).sum())
    return float((deviations[0] * deviations[1]).sum() / scale) if scale > 0 else 0.0


def ranks(values: np.ndarray) -> np.ndarray:
    """Places of values [N], from 0; equal ones share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[place]


def _known(model: Any, task: Any) -> Any:
    """The task's cost, or the learned one where the model does not read out what that speaks of."""
    try:
        check(model, task, middle(model))
    except CostError:
        if not hasattr(model, "cost"):
            raise
        return LearnedCost()
    return task


def _plans(spec: Spec, done: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """[N, H, A], normalised."""
    done = spec.action.normalise(done)
    near = done + NOISE * random.normal(size=(count // 2, *done.shape))
    uniform = random.uniform(-1, 1, (count - count // 2, *done.shape))
    return np.clip(np.concatenate([uniform, near]), -1, 1).astype(np.float32)


def _believed(model: Any, episode: Episode, decisions: int) -> Any:
    """The latent after the episode's first `decisions`, as a memory of the model's length has it."""
    first = max(0, decisions - getattr(model, "context", 0))
    seen = [{name: episode.observations[name][step] for name in model.spec.names} for step in range(first, decisions + 1)]
    latent = model.start(seen[0])
    for step, observation in enumerate(seen[1:], start=first):
        latent = model.observe(latent, jnp.asarray(model.spec.action.normalise(episode.actions[step])), observation)
    return latent


@partial(jax.jit, static_argnames="horizon")
def _costs(problem: planners.Problem, latent: Any, plans: jax.Array, *, horizon: int) -> jax.Array:
    """[N], the mean over the problem's futures."""
    return problem.rollout(latent, plans, problem.futures(horizon)).cost.mean(-1)


UNRANKED = (UnsupportedEnvironmentError, CostError, DataError)
