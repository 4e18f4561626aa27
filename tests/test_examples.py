"""The examples do what they say, at a size that fits the tests."""

import pytest

from examples import own_cost, own_environment, own_policy

pytestmark = pytest.mark.slow


def test_the_boat_of_ones_own_finds_the_buoy():
    assert own_environment.main(frames=3_000, updates=1_000) < 0.3


def test_a_cost_of_ones_own_puts_the_cart_on_either_side():
    ends = own_cost.main(frames=6_000, updates=2_000)
    assert ends["-0.5"] < -0.2 < 0.2 < ends["+0.5"]


def test_a_policy_of_ones_own_helps_a_small_planner():
    returns = own_policy.main(frames=4_000, updates=1_500)
    assert returns["seeded by the rule"] > returns["a small planner"]
