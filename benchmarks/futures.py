"""`sailplan bench futures`: models of a strait where a gust blows from either side, and iCEM that sails on each.

A deterministic predictor says what happens on average, which never happens; a latent variable says what may happen. How much it may
say is swept over, by its number of codes; some of them also without the prior, which is what limits it. The world itself in the
model's place is the ceiling.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

import mpc
import planners
import worldmodels
from benchmarks import strait
from benchmarks.model_cells import HELD_OUT, Budget, measure_lines, open_loop_error
from mpc.acting import play
from mpc.evaluation import confidence_interval
from mpc.ranking import spearman

EPISODES = 400  # random ones to learn from, and a quarter as many to measure on
PARTS = {"latent": 16, "hidden": 64, "head": 64, "expander": 64}
LENGTH = 8  # model steps predicted open loop in training
HORIZON, FUTURES = 15, 16
CODES = (0, 1, 2, 4, 16, 64)
EVEN = (2, 64)  # codes that are also drawn all as likely, whatever the state
BLOWN = 3  # decisions after the gust began, when the boat is where it threw it
MOMENTS, PLANS = 16, 64  # of plan ranking
COST = mpc.cost(strait.cost)


def bench_futures(codes: Sequence[int], budget: Budget) -> list[dict[str, Any]]:
    """Lines of the cells that are not in benchmarks/results/futures.jsonl yet: z one of so many `codes`.

    No z where that is 1, and the world itself instead of a model, of which one seed will do, where it is 0.
    """
    planned = []
    for seed in budget.seeds:
        for count in codes or CODES:
            if count == 0 and seed != budget.seeds[0]:
                continue
            planned += [cell(count, even, seed, budget) for even in (False, True) if not even or count in EVEN]
    return measure_lines(planned, budget.minutes)


def cell(codes: int, even: bool, seed: int, budget: Budget) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
    """What a line is known by, and what measures the rest of it."""
    parts = {**PARTS, **({"noise": "quantised", "noise_size": codes} if codes > 1 else {})}
    learned = {"updates": budget.updates, "batch": budget.batch, "length": LENGTH, **parts}
    condition = {0: "the world itself", 1: "no z"}.get(codes, f"{codes} codes")
    line = {
        "benchmark": "futures",
        "task": strait.ID,
        "method": {0: "world", 1: "deterministic"}.get(codes, "z, even" if even else "z"),
        "settings": {"condition": f"{condition}, all as likely" if even else condition, **(learned if codes else {})},
        "seed": seed,
        "frames": EPISODES * strait.DECISIONS if codes else 0,
    }
    return line, partial(partial(measure, parts, even, seed) if codes else measure_world, budget)


def measure(parts: dict[str, Any], even: bool, seed: int, budget: Budget) -> dict[str, Any]:
    """Train one model, sail on it, and ask it about crossings that it has not seen; with its codes drawn `even`, without its prior."""
    environment = mpc.make(strait.ID)
    data, unseen = gather(environment, EPISODES, 0), gather(environment, EPISODES // 4, EPISODES)
    reports: list[worldmodels.Progress] = []
    model = worldmodels.JEPA(environment.spec, seed=seed, **parts)
    settings = worldmodels.TrainingSettings(batch=budget.batch, length=LENGTH)
    model = worldmodels.train(model, data, settings, updates=budget.updates, seed=seed, progress=reports.append)
    if even:
        model.prior = None
    return {
        **sail(model, environment, unseen, budget),
        "effective_rank": reports[-1].effective_rank,
        "information_z": reports[-1].recipe["information_z"],
        "prediction_error": reports[-1].recipe["prediction_error"],
        "open_loop_error": open_loop_error(model, unseen, ()),
        **energies(model, unseen),
    }


def measure_world(budget: Budget) -> dict[str, Any]:
    """Sail on the world itself."""
    environment = mpc.make(strait.ID)
    return sail(strait.World(environment.spec), environment, gather(environment, EPISODES // 4, EPISODES), budget)


def gather(environment: mpc.Environment, episodes: int, seed: int) -> worldmodels.Episodes:
    """Random crossings from that seed on."""
    found = mpc.collect(environment, episodes=episodes, seed=seed, agent=mpc.PinkAgent(environment.spec), copies=8)
    assert isinstance(found, worldmodels.Episodes)
    return found


def sail(model: Any, environment: mpc.Environment, unseen: worldmodels.Episodes, budget: Budget) -> dict[str, Any]:
    """How iCEM sails on a model, what its particles cover, and how it ranks plans; `environment` is closed."""
    planner = planners.ICEM(HORIZON, samples=64, elites=16, keep=4)
    agent = mpc.PlanningAgent(model, COST, planner, futures=FUTURES)
    played = list(play(environment, agent, range(HELD_OUT, HELD_OUT + budget.episodes), copies=budget.episodes))
    environment.close()
    returns = np.array([episode.total_return for episode in played])
    nearest = np.array([strait.distance(episode.observations["position"]).min() for episode in played])
    crossings = before_the_gust(unseen)
    return {
        "return_mean": float(returns.mean()),
        "return_ci95": confidence_interval(returns),
        "success_rate": float((nearest > strait.SIZE).mean()),
        "episodes": budget.episodes,
        "plan_rank_correlation": plan_ranking(agent, crossings),
        **coverage(model, crossings),
    }


class Crossing(NamedTuple):
    """The moment before a gust, and what is done from then on."""

    observation: dict[str, np.ndarray]
    actions: np.ndarray  # [BLOWN, 1]

    def ends(self) -> np.ndarray:
        """[2], metres to the left where a gust to the right, and one to the left, leave the boat."""
        return np.array([sailed(self.observation, self.actions, side)[-1]["position"][1] for side in (-1.0, 1.0)])


def sailed(observation: dict[str, np.ndarray], actions: np.ndarray, side: float) -> list[dict[str, np.ndarray]]:
    """What is seen after each of `actions` [H, 1], by the physics, with the gust to that side."""
    boat = strait.Strait()
    boat.place(*observation["position"], *observation["drift"])
    return [boat.sail(action, side)[0] for action in actions]


def before_the_gust(episodes: Sequence[worldmodels.Episode]) -> list[Crossing]:
    """The crossing in each episode."""
    found = []
    for episode in episodes:
        last = int((episode.observations["position"][:, 0] < 0).sum()) - 1
        seen = {name: values[last] for name, values in episode.observations.items()}
        found.append(Crossing(seen, episode.actions[last : last + BLOWN]))
    return found


def coverage(model: Any, crossings: Sequence[Crossing], particles: int = 64) -> dict[str, float]:
    """How the model's particles stand to the two places where the boat may be once the gust has blown.

    `modes_covered` is the share of those places near which, within a quarter of the way between the two, there are at least a tenth
    of the particles; `between` the share of particles near neither, but between the two.
    """
    ends = np.stack([crossing.ends() for crossing in crossings])
    observations = {name: np.stack([c.observation[name] for c in crossings]) for name in crossings[0].observation}
    actions = model.spec.action.normalise(np.stack([crossing.actions for crossing in crossings]))
    noise = model.draw_noise(particles, BLOWN, key=jax.random.key(0))

    @jax.jit
    def predicted(observation, actions):
        def one(noise):
            latent = model.start(observation)
            for action, z in zip(actions, noise, strict=True):
                latent = model.predict(latent, action, z)
            return model.readout(latent)["position"][1]

        return jax.vmap(one)(noise)

    found = np.asarray(jax.vmap(predicted)(observations, actions))
    way = np.diff(ends, axis=1)
    near = abs(found[:, :, None] - ends[:, None]) < way[:, None] / 4
    inside = (found > ends[:, :1]) & (found < ends[:, 1:])
    return {
        "modes_covered": float((near.mean(1) >= 0.1).mean()),
        "between": float((inside & ~near.any(-1)).mean()),
    }


def energies(model: worldmodels.JEPA, episodes: Sequence[worldmodels.Episode], count: int = 2000) -> dict[str, float]:
    """Mean energies of triples (x, a, y): as recorded, those of gusts alone, and with the action of another moment.

    In shares of `energy_shuffled`, which is that with y of another moment, since no two models measure alike. `told_apart` are the
    shares of recorded triples that have less energy than with the other y, or the other action.
    """

    def flat(values: Any) -> np.ndarray:
        return np.concatenate(list(values))[:count]

    names = model.spec.names
    now = {name: flat(episode.observations[name][:-1] for episode in episodes) for name in names}
    later = {name: flat(episode.observations[name][1:] for episode in episodes) for name in names}
    actions = model.spec.action.normalise(flat(episode.actions for episode in episodes))
    other = np.random.default_rng(0).permutation(len(actions))
    energy = jax.jit(jax.vmap(lambda x, a, y: model.energy(model.start(x), a, y)))
    true = np.asarray(energy(now, actions, later))
    shuffled = np.asarray(energy(now, actions, {name: values[other] for name, values in later.items()}))
    mistaken = np.asarray(energy(now, actions[other], later))
    gust = (now["position"][:, 0] < 0) & (later["position"][:, 0] > 0)
    return {
        "energy_true": float(true.mean() / shuffled.mean()),
        "energy_gust": float(true[gust].mean() / shuffled.mean()),
        "energy_other_action": float(mistaken.mean() / shuffled.mean()),
        "energy_shuffled": float(shuffled.mean()),
        "shuffled_told_apart": float((true < shuffled).mean()),
        "actions_told_apart": float((true < mistaken).mean()),
    }


def plan_ranking(agent: mpc.PlanningAgent, crossings: Sequence[Crossing]) -> float:
    """Mean over moments of Spearman's correlation of predicted cost and true cost, the mean over both gusts, of the same plans."""
    random = np.random.default_rng(0)
    costs = jax.jit(lambda latent, plans, problem: problem.rollout(latent, plans, problem.futures(HORIZON)).cost.mean(-1))
    problem, found = agent.problem(), []
    for crossing in crossings[:MOMENTS]:
        seen = {**crossing.observation, "position": crossing.observation["position"] - np.array([0.5, 0.0], np.float32)}
        plans = np.repeat(random.uniform(-1, 1, (PLANS, HORIZON // 3, 1)), 3, axis=1).astype(np.float32)
        true = [np.mean([_paid(seen, plan, side) for side in (-1.0, 1.0)]) for plan in plans]
        found.append(spearman(np.asarray(costs(agent.model.start(seen), plans, problem)), np.array(true)))
    return float(np.mean(found))


def _paid(observation: dict[str, np.ndarray], plan: np.ndarray, side: float) -> float:
    return sum(float(strait.cost(seen, None, 0)) for seen in sailed(observation, plan, side))
