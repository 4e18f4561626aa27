"""Plans ranked by a model that knows the world are ranked as the world does."""

import numpy as np

from benchmarks.plan_ranking import plan_rank_correlation
from mpc.environment import Transition
from tests import tiny
from tests.test_agent import DoubleIntegrator
from worldmodels import Episodes


class World:
    """The double integrator as an environment; an episode starts where its seed says."""

    spec = tiny.SPEC

    def reset(self, seed):
        start = np.random.default_rng(seed)
        self.position, self.velocity = start.normal(), start.normal()
        return tiny.observation(self.position, self.velocity)

    def step(self, action):
        cost = float(self.position) ** 2
        self.position, self.velocity = tiny.step(self.position, self.velocity, float(action[0]))
        return Transition(tiny.observation(self.position, self.velocity), cost, False, False)


class Knowing(DoubleIntegrator):
    """Its cost is the world's, with a sign."""

    sign = 1.0

    def cost(self, latent, action):
        return self.sign * latent[0] ** 2


class Inverted(Knowing):
    sign = -1.0


class Indifferent(Knowing):
    sign = 0.0


def played(count=3, length=20):
    world, random, episodes = World(), np.random.default_rng(0), []
    for episode in tiny.episodes(count=count, length=length):
        seen = [world.reset(episode.seed)]
        actions = random.uniform(-2, 2, (length, 1)).astype(np.float32)
        seen += [world.step(action).observation for action in actions]
        observations = {name: np.stack([moment[name] for moment in seen]) for name in seen[0]}
        episodes.append(type(episode)(observations, actions, np.zeros(length, np.float32), False, True, episode.seed))
    return Episodes(tiny.SPEC, tuple(episodes))


def test_the_worlds_own_order_is_one_its_inverse_minus_one_and_indifference_nothing():
    sizes = {"latent": 2, "hidden": 4, "head": 4, "expander": 4}
    wanted = {Knowing: 1.0, Inverted: -1.0, Indifferent: 0.0}
    for kind, correlation in wanted.items():
        found = plan_rank_correlation(kind(tiny.SPEC, **sizes), World(), played(), 8)
        np.testing.assert_allclose(found, correlation, atol=1e-3)
