"""Frames show something, black ones are refused, and films are complete."""

import mujoco
import numpy as np
import pytest
from PIL import Image

from mpc.environment import make
from mpc.errors import RenderingError
from mpc.rendering import Camera, record, rendering_backend, resized, write_gif

needs_backend = pytest.mark.skipif(rendering_backend() is None, reason="no rendering backend is installed")


@needs_backend
@pytest.mark.parametrize("id", ["dm_control/cartpole-swingup-v0", "HalfCheetah-v5"])
def test_frames_show_motion_and_leave_physics_alone(id):
    environment, unseen = make(id, action_repeat=5), make(id, action_repeat=5)
    environment.reset(0)
    unseen.reset(0)
    before = environment.render(48, 32)
    assert before.shape == (32, 48, 3)
    assert before.dtype == np.uint8
    action = np.ones(environment.spec.action.shape)
    for _ in range(5):
        seen, expected = environment.step(action), unseen.step(action)
    assert np.abs(environment.render(48, 32).astype(int) - before).mean() > 0.1
    for name in seen.observation:
        np.testing.assert_array_equal(seen.observation[name], expected.observation[name])


@needs_backend
def test_two_environments_draw_in_turns():
    first, second = make("InvertedPendulum-v5"), make("InvertedPendulum-v5")
    first.reset(0)
    second.reset(0)
    alone = first.render(40, 30)
    np.testing.assert_array_equal(second.render(40, 30), alone)
    second.render(20, 20)
    np.testing.assert_array_equal(first.render(40, 30), alone)
    second.close()
    np.testing.assert_array_equal(first.render(40, 30), alone)


@needs_backend
def test_a_frame_without_variance_is_refused():
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><body><geom size='.1'/></body></worldbody></mujoco>")
    data = mujoco.MjData(model)
    model.geom_rgba[:] = 0
    mujoco.mj_forward(model, data)
    with pytest.raises(RenderingError, match="one value"):
        Camera(model, 16, 16).take(data)


@needs_backend
def test_a_picture_behind_the_body_takes_the_place_of_sky_and_ground():
    environment = make("dm_control/cartpole-swingup-v0")
    environment.reset(0)
    plain, behind = environment.render(64, 64), np.zeros((64, 64, 3), np.uint8)
    behind[:32], behind[32:] = (200, 0, 0), (0, 0, 200)
    shown = environment.render(64, 64, behind)
    away = (shown == behind).all(-1)
    assert 0.9 < away.mean() < 1 and away[:8].all() and away[-4:].all()  # the cart and pole are what is left
    assert shown[~away].mean(0)[0] > shown[~away].mean(0)[2]  # orange, as they are without it
    np.testing.assert_array_equal(environment.render(64, 64), plain)
    with pytest.raises(RenderingError, match="uint8"):
        environment.render(64, 48, behind)
    pendulum = make("Pendulum-v1")
    pendulum.reset(0)
    with pytest.raises(RenderingError, match="MuJoCo"):
        pendulum.render(64, 64, behind)


@needs_backend
def test_a_body_that_fills_the_frame_hides_the_picture_behind_it():
    wall = "<geom type='box' size='9 .1 9' rgba='0 1 0 1'/>"
    camera = "<camera pos='0 -3 0' xyaxes='1 0 0 0 0 1'/>"
    model = mujoco.MjModel.from_xml_string(
        f"<mujoco><worldbody><light pos='0 -3 2'/>{camera}<body pos='2 0 2' euler='0 0 20'>{wall}</body></worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = Camera(model, 16, 16)
    shown = camera.take(data, np.full((16, 16, 3), (255, 0, 255), np.uint8))
    np.testing.assert_array_equal(shown, camera.take(data))


@needs_backend
def test_record_films_the_episode_again():
    environment = make("InvertedPendulum-v5")
    frames = record(environment, np.full((500, 1), 3.0), 1, width=32, height=24)
    assert frames.shape[1:] == (24, 32, 3)
    assert 2 < len(frames) < 100  # the pole fell long before the actions ran out
    np.testing.assert_array_equal(frames, record(environment, np.full((500, 1), 3.0), 1, width=32, height=24))


def test_without_a_backend_everything_but_video_works(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    assert rendering_backend() is None
    environment = make("InvertedPendulum-v5")
    environment.reset(0)
    assert np.isfinite(environment.step(np.zeros(1)).cost)
    with pytest.raises(RenderingError, match="libegl1"):
        environment.render(32, 32)
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    with pytest.raises(RenderingError, match="vulkan"):
        rendering_backend()


def test_gif_holds_every_frame(tmp_path):
    frames = np.zeros((5, 20, 30, 3), np.uint8)
    for t in range(5):
        frames[t, 4 * t : 4 * t + 4] = 255
    write_gif(tmp_path / "film.gif", frames, 0.04)
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]
    with Image.open(tmp_path / "film.gif") as film:
        assert (getattr(film, "n_frames", 1), film.size, film.info["duration"], film.info["loop"]) == (5, (30, 20), 40, 0)
        film.seek(3)
        np.testing.assert_array_equal(np.asarray(film.convert("RGB")), frames[3])
    with pytest.raises(RenderingError, match=r"\[T, H, W, 3\]"):
        write_gif(tmp_path / "other.gif", frames[0], 0.04)


def test_resized_takes_the_nearest_pixels():
    frame = np.arange(4, dtype=np.uint8).reshape(2, 2, 1).repeat(3, -1)
    np.testing.assert_array_equal(resized(frame, 4, 2)[..., 0], [[0, 0, 1, 1], [2, 2, 3, 3]])
