"""What an episode cost by another cost than the environment's: from what was seen."""

import jax
import numpy as np
import pytest

import mpc
import worldmodels
from mpc.errors import CostError
from mpc.scoring import return_under
from tests import tiny
from tests.test_agent import true_model

EPISODE = tiny.episodes(count=1).episodes[0]
REPEAT = 2  # frames a decision


def test_the_return_of_an_episode_under_another_cost_is_what_was_seen():
    wanted = -REPEAT * float(np.square(EPISODE.observations["position"][1:, 0]).sum())
    given = return_under(mpc.cost(lambda readout, action, step: readout["position"][0] ** 2), true_model(), EPISODE)
    np.testing.assert_allclose(given, wanted, rtol=1e-5)
    goal = return_under(mpc.goal(tiny.observation(0.0, 0.0), action_weight=0.0), true_model(), EPISODE)
    seen = np.square(EPISODE.observations["position"][1:, 0]) + np.square(EPISODE.observations["velocity"][1:, 0])
    np.testing.assert_allclose(goal, -float(seen.sum()), rtol=1e-5)


def test_a_cost_of_how_actions_change_is_charged_from_the_middle_on():
    changes = np.diff(EPISODE.actions[:, 0], prepend=0.0)  # forces are from -2 to 2
    given = return_under(mpc.smoothness(), mpc.RememberingAction(true_model()), EPISODE)
    np.testing.assert_allclose(given, -REPEAT * 0.5 * float(np.square(changes).sum()), rtol=1e-5)


def test_every_decision_is_charged_as_at_step_0():
    assert return_under(mpc.cost(lambda readout, action, step: 1.0 + step), true_model(), EPISODE) == -REPEAT * len(EPISODE)


def test_what_a_cost_asks_of_the_model_that_says_of_each_observation():
    model = worldmodels.JEPA(tiny.SPEC, latent=8, hidden=8, head=8, expander=8, members=2)
    cost = mpc.combine(unknown=(0.5, mpc.disagreement()), paid=(2.0, mpc.LearnedCost()))
    latents = jax.vmap(model.start)({name: value[1:] for name, value in EPISODE.observations.items()})
    actions = EPISODE.actions / 2.0
    said = 0.5 * jax.vmap(model.disagreement)(latents, actions) + 2.0 * jax.vmap(model.cost)(latents, actions)
    np.testing.assert_allclose(return_under(cost, model, EPISODE), -REPEAT * float(said.sum()), rtol=1e-4)


def test_a_cost_of_what_was_not_observed_is_refused():
    with pytest.raises(CostError, match=r"reads 'height' but the model's readouts are \['position', 'previous_action'"):
        return_under(mpc.reach("height", 1.0), true_model(), EPISODE)
