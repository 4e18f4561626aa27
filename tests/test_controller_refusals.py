"""What a controller refuses, by name and before anything is computed."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import mpc
import worldmodels
from mpc.controller import ControllerSettings, Rung
from mpc.errors import ControllerError
from tests import tiny
from tests.test_agent import true_model
from tests.test_controller import PLANNER, controller
from worldmodels import CheckpointError, SpecError


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"period": 0.5}, "period"),
        ({"period": 0.0}, "period"),
        ({"deadline": 0.2}, "deadline"),
        ({"rate": (1.0, 1.0)}, "rate"),
        ({"rate": (-1.0,)}, "rate"),
        ({"delay": -1.0}, "delay"),
        ({"lifetime": -1}, "lifetime"),
        ({"frozen_after": 1}, "frozen_after"),
        ({"safe": "pray"}, "safe"),
        ({"fallbacks": (1, 2)}, "fallbacks"),
        ({"fallbacks": (Rung.POLICY, Rung.POLICY)}, "fallbacks"),
        ({"fallbacks": None}, "fallbacks"),
        ({"rate": ("a",)}, "rate"),
        ({"seed": "a"}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"period": None}, "period"),
        ({"deadline": "x"}, "deadline"),
        ({"delay": None}, "delay"),
        ({"patience": None}, "patience"),
        ({"lifetime": "5"}, "lifetime"),
        ({"simulated": True}, "simulated"),
        ({"model": true_model(tiny.BOTH)}, "tiny/both shows images, camera"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(settings, named):
    with pytest.raises(ControllerError, match=named):
        controller(**settings)


def test_a_deadline_too_short_for_one_slice_is_refused_at_warm_up():
    with pytest.raises(ControllerError, match="one slice of CEM takes"):
        controller(deadline=1e-5).warm_up()


def test_what_does_not_fit_is_refused_outside_the_loop():
    made = controller()
    with pytest.raises(SpecError):
        made.reset({"position": np.zeros(3)})
    with pytest.raises(ControllerError, match="goal"):
        made.set_goal(tiny.observation())
    with pytest.raises(ControllerError, match="target"):
        made.set_cost_weights(targte=1.0)
    with pytest.raises(ControllerError, match="finite"):
        made.set_cost_weights(target=float("nan"))
    with pytest.raises(ControllerError, match="PlanningAgent"):
        mpc.Controller(None, ControllerSettings(period=0.1))  # type: ignore[arg-type]
    with pytest.raises(ControllerError, match="settings=NoneType"):
        mpc.Controller(made.agent, None)  # type: ignore[arg-type]


def test_an_agent_with_a_parameter_that_is_not_finite_is_refused():
    made = controller(policy=True)
    made.agent.policy.network.output.kernel[...] = made.agent.policy.network.output.kernel[...] * jnp.nan
    with pytest.raises(ControllerError, match="NaN or infinite"):
        mpc.Controller(mpc.PlanningAgent(made.agent.model, made.agent.cost, PLANNER, policy=made.agent.policy), made.settings)


def test_an_agent_of_inverted_limits_or_another_version_is_refused_at_load(tmp_path):
    worldmodels.save(true_model(), tmp_path / "model")
    path = tmp_path / "model" / "manifest.json"
    good = path.read_text()
    inverted, version = json.loads(good), json.loads(good) | {"format": 99}
    inverted["spec"]["action"]["low"] = [5.0]
    for content, error in ((inverted, SpecError), (version, CheckpointError)):
        path.write_text(json.dumps(content))
        with pytest.raises(error):
            mpc.Controller.load(tmp_path / "model", PLANNER, ControllerSettings(period=0.1))
