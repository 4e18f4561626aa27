"""The view: what it draws has known answers, and the page is clicked through in headless Chromium."""

import threading
import time
from contextlib import contextmanager

import mujoco
import numpy as np
import pytest
from PIL import Image

import mpc
from benchmarks.scene import _capsule, predicted_path, push
from benchmarks.view import OWN, View
from mpc.costs import GoalCost
from mpc.learning import LearnerSettings, new_learner
from mpc.learning.storage import save_learned
from tests import browser

PENDULUM = """<mujoco><worldbody><body><joint type="hinge" axis="0 1 0"/><geom type="capsule" size=".05 .5"/></body></worldbody></mujoco>"""


def test_the_predicted_path_follows_the_predicted_velocities():
    model = mujoco.MjModel.from_xml_string(PENDULUM)
    path = predicted_path(model, np.array([0.5]), np.array([[1.0], [3.0], [3.0]], np.float32), 0.1)
    np.testing.assert_allclose(path, [[0.5], [0.7], [1.0]], atol=1e-6)
    assert predicted_path(model, np.array([0.5]), None, 0.1) is None
    assert predicted_path(model, np.array([0.5]), np.zeros((3, 2)), 0.1) is None
    assert predicted_path(model, np.array([0.5]), np.array([[np.nan], [0.0]]), 0.1) is None


def test_a_capsule_is_as_long_and_as_thick_as_it_should_be_and_closed():
    vertices, faces = _capsule(0.2, 0.5)
    np.testing.assert_allclose(vertices.min(0), [-0.2, -0.2, -0.7], atol=1e-6)
    np.testing.assert_allclose(vertices.max(0), [0.2, 0.2, 0.7], atol=1e-6)
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6  # of a closed surface whose triangles look outwards
    assert volume == pytest.approx(np.pi * 0.2**2 * (1.0 + 4 / 3 * 0.2), rel=0.05)


def test_a_push_is_of_the_strength_that_was_asked_for():
    model = mujoco.MjModel.from_xml_string(PENDULUM)
    data = mujoco.MjData(model)
    push(data, 2.0, np.random.default_rng(0))
    np.testing.assert_allclose(data.qvel, 2.0 * np.random.default_rng(0).normal(size=1))


@contextmanager
def shown(folder):
    made = View(folder, horizon=4, port=8900)
    running = threading.Thread(target=made.run, args=(240.0,), daemon=True)
    running.start()
    try:
        yield made
    finally:
        made.stopped = True
        running.join()
        made.close()


def eventually(condition, seconds=30.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.1)


def choose(page, now, then):
    page.click(f"//input[@value='{now}']")
    page.click(f"//*[@role='option'][contains(., '{then}')]")


@pytest.mark.slow
@pytest.mark.skipif(not browser.available(), reason="chromium and chromedriver are not installed")
def test_the_page_shows_the_robot_and_its_future_and_steers_the_controller(tmp_path):
    pytest.importorskip("viser")
    settings = LearnerSettings(latent=8, hidden=16, critic_hidden=16, policy_hidden=16)
    spec = mpc.make("dm_control/cartpole-swingup-v0", action_repeat=4).spec
    save_learned(new_learner(spec, settings), settings, tmp_path / "agent", discount=0.99, ends=False, frames=0, episodes=0)
    page = browser.Browser(tmp_path / "profile")
    try:
        with shown(tmp_path / "agent") as view:
            assert view.address.startswith("http://127.0.0.1:") and view.server.get_host() == "127.0.0.1"
            page.open(view.address)
            page.find("//*[contains(text(), 'decision')]")
            eventually(lambda: view.ticks > 20)
            page.click("//label[.='pause']/following::input[1]")
            eventually(lambda: view.paused.value)
            time.sleep(0.3)
            page.screenshot(tmp_path / "robot.png")
            scene = np.asarray(Image.open(tmp_path / "robot.png").convert("RGB"))[250:, :750]
            assert len(np.unique(scene.reshape(-1, 3), axis=0)) > 200  # a robot, its shade and its ghost, not an empty floor
            ticks, (_, data) = view.ticks, view.robot.mujoco()
            before = data.qvel.copy()
            page.click("//button[.='push']")
            eventually(lambda: (data.qvel != before).all())
            assert view.ticks == ticks
            choose(page, "Mode-2: plan", "Mode-1: policy")
            eventually(lambda: not view.controller.plans)
            choose(page, "the learned cost", "a goal")
            page.find("//*[contains(text(), 'velocity 1')]")
            goal = np.asarray(view.controller.agent.cost.goal["velocity"])
            away = "\ue012" if goal[1] > 0 else "\ue014"  # an arrow that leads away from the slider's end
            page.press("//label[.='velocity 1']/following::*[@role='slider'][1]", away * 3)
            eventually(lambda: view.controller.agent.cost.goal["velocity"][1] != goal[1])
            assert view.controller.agent.cost.goal["velocity"][0] == pytest.approx(goal[0], abs=1e-5)
            choose(page, OWN, "mppi")
            eventually(lambda: type(view.controller.agent.planner).__name__ == "MPPI")
            assert not view.controller.plans and isinstance(view.controller.agent.cost, GoalCost)
            page.click("//label[.='pause']/following::input[1]")
            eventually(lambda: view.ticks > ticks + 5)
            page.click("//button[.='restart']")
            eventually(lambda: view.ticks < ticks)
    finally:
        page.close()
