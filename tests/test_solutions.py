"""What was imagined for a task, kept in files and given to a configurator: what it changes, and what is refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
import planners
import worldmodels
from mpc.critic import Critic
from mpc.errors import ConfigurationError
from mpc.policy import Policy
from tests import tiny
from tests.test_configurator import PLANNER, SMALL, acts_once, engine, solution, task
from worldmodels import checkpoint
from worldmodels.checkpoint import CheckpointError


def test_plans_of_a_solved_task_are_seeded_by_its_policy_as_far_as_the_planner_leaves_it_open():
    asked, gradient = replace(PLANNER, proposals=5), planners.Gradient(horizon=8)
    body = engine(
        east=task(cost={"right": 1.0}),
        own=task(cost={"right": 1.0}, planner=asked),
        steep=task(planner=gradient, cost={"right": 1.0}),
    )
    assert body.agent("east").planner == PLANNER
    for name, expected in (("east", replace(PLANNER, proposals=2)), ("own", asked), ("steep", gradient)):
        body.solve(name, *solution())
        assert body.agent(name).planner == expected
        assert body.agent(name).policy is not None


def test_a_task_brings_its_solution_from_a_folder_and_acts_by_it(tmp_path):
    model = worldmodels.JEPA(tiny.SPEC, **SMALL)
    critic, policy = Critic(8, tiny.SPEC, hidden=8), Policy(8, tiny.SPEC, hidden=8)
    mpc.save_critic(critic, tmp_path / "solved" / "critic")
    mpc.save_policy(mpc.PolicyAgent(model, policy), tmp_path / "solved" / "policy")
    (tmp_path / "task.toml").write_text('mode = "react"\nsolution = "solved"\naction_repeat = 2\n[cost]\neffort = 1.0\n')
    body = mpc.Configurator(model, rest=mpc.Task.read(tmp_path / "task.toml"))
    observation, reacting = tiny.observation(0.2, 0.1), mpc.PolicyAgent(model, policy)
    wanted, _ = reacting.act(reacting.reset(observation), observation, key=jax.random.key(0))
    np.testing.assert_array_equal(acts_once(body, "rest", observation), wanted.action)
    with pytest.raises(ConfigurationError, match=r"task 'rest': solution=.*solved.*critic reads 8 features, the model has 4"):
        other = worldmodels.JEPA(tiny.SPEC, **{**SMALL, "latent": 4})
        mpc.Configurator(other, rest=mpc.Task.read(tmp_path / "task.toml"))


def test_a_critic_and_a_policy_of_another_model_are_refused():
    body = engine(west=task(cost={"left": 1.0}))
    critic, policy = solution()
    elsewhere = mpc.Policy(2, tiny.DISCRETE, hidden=8)
    for given, match in (
        ((critic, elsewhere), "policy is for tiny/buttons, the model for tiny/double-integrator"),
        ((mpc.Critic(5, tiny.SPEC, hidden=8), policy), "critic reads 5 features, the model has 2"),
        ((critic, mpc.PolicyAgent(body.model, policy)), r"expected an mpc\.Policy\. Its \.policy is one"),
        ((policy, policy), r"expected an mpc\.Critic\."),
    ):
        with pytest.raises(ConfigurationError, match=match):
            body.solve("west", *given)
    assert not body.solutions


def test_a_critic_comes_back_bit_for_bit_and_what_is_none_is_refused(tmp_path):
    critic, _ = solution()
    mpc.save_critic(critic, tmp_path / "critic")
    again = mpc.load_critic(tmp_path / "critic")
    assert (again.size, again.hidden, len(again.members)) == (critic.size, critic.hidden, len(critic.members))
    features, action = jnp.ones(critic.size), jnp.zeros(1)
    np.testing.assert_array_equal(again(features, action), critic(features, action))
    with pytest.raises(CheckpointError, match="critic"):
        mpc.load_policy(tmp_path / "critic")


def test_a_critics_discount_is_kept_and_must_be_the_tasks(tmp_path):
    critic, policy = Critic(2, tiny.SPEC, hidden=8, discount=0.99), solution()[1]
    mpc.save_critic(critic, tmp_path / "critic")
    again = mpc.load_critic(tmp_path / "critic")
    body = engine(west=task(cost={"left": 1.0}, discount=0.9), east=task(cost={"left": 1.0}, discount=0.99))
    with pytest.raises(
        ConfigurationError, match=r"solve\('west'\): the critic was imagined at discount=0.99, the task has 0.9"
    ):
        body.solve("west", again, policy)
    body.solve("east", again, policy)
    sizes = {"features": critic.size, "members": len(critic.members), "hidden": critic.hidden}
    checkpoint.save(tmp_path / "old", "critic", critic, settings=sizes, spec=critic.spec)  # as before discounts were kept
    body.solve("west", mpc.load_critic(tmp_path / "old"), policy)
    assert mpc.load_critic(tmp_path / "old").discount is None


def test_a_task_without_discount_takes_its_critics():
    body = engine(west=task(cost={"left": 1.0}, discount=1))
    assert float(body.agent("west").discount) == 1
    body.solve("west", Critic(2, tiny.SPEC, hidden=8, discount=0.95), solution()[1])
    assert np.isclose(float(body.agent("west").discount), 0.95)


def test_a_planner_that_shrinks_is_seeded_by_what_its_least_iteration_bears():
    shrinking = planners.ICEM(horizon=4, samples=512, elites=16, keep=8, shrink=2.0, iterations=5)
    body = engine(west=task(cost={"left": 1.0}, planner=shrinking))
    body.solve("west", *solution())
    assert body.agent("west").planner.proposals == 2
