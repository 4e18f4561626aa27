"""`sailplan view`: a page in the browser with the robot, the future as it is planned, and the controls of a running controller."""

import time
from collections import deque
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console

import mpc
from benchmarks.agents import load_acting
from benchmarks.scene import Scene, predicted_path, push
from mpc import costs
from mpc.agent import PlanningAgent
from worldmodels import manifest

LOOPBACK = "127.0.0.1"
PLANNERS = ("cem", "icem", "mppi", "gradient")
OWN = "its own"
KEPT = 200  # decisions in the timing plot
PLAN, REACT = "Mode-2: plan", "Mode-1: policy"
LEARNED, GOAL = "the learned cost", "a goal"
console = Console(markup=False)


class ViewError(mpc.MPCError):
    """A view that cannot be opened: what is missing, and what to do."""


class View:
    """One environment, one controller, one page. `run` steps them in real time; the page changes what comes next."""

    def __init__(
        self, folder: Path, *, planner: str | None = None, horizon: int | None = None, port: int = 8080, seed: int = 0
    ):
        try:
            import viser  # noqa: PLC0415
            from viser import uplot  # noqa: PLC0415
        except ImportError as error:
            raise ViewError("the view needs the view extra: pip install -c constraints.txt 'sailplan[view]'.") from error
        self.uplot = uplot
        spec = manifest.read(folder).spec
        self.folder, self.horizon, self.seed = folder, horizon, seed
        self.robot = mpc.make_for(spec)
        self.observation = self.robot.reset(seed)
        physics = self.robot.mujoco()
        if physics is None:
            raise ViewError(f"{spec.environment} does not run on MuJoCo: there is no robot to draw.")
        self.spec, self.random = spec, np.random.default_rng(seed)
        self.controller = self._controller(planner or OWN)
        self.server = viser.ViserServer(host=LOOPBACK, port=port, label=f"Sailplan: {spec.environment}", verbose=False)
        self.scene = Scene(self.server, physics[0])
        self.milliseconds: deque[float] = deque([0.0] * KEPT, maxlen=KEPT)
        self.ticks, self.returned, self.stopped = 0, 0.0, False  # `stopped` ends `run`
        self._wanted: dict[str, Any] = {}  # what the page asked for, done between decisions
        self._sliders: list[Any] = []
        self._build(planner or OWN)

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.server.get_port()}"

    def run(self, seconds: float = float("inf")) -> None:
        """Act in real time for so long."""
        began = due = time.monotonic()
        while time.monotonic() - began < seconds and not self.stopped:
            self._do_what_is_wanted()
            if not self.paused.value:
                self.tick()
            due = max(due + self.spec.seconds_per_step, time.monotonic() - self.spec.seconds_per_step)
            time.sleep(max(0.0, due - time.monotonic()))

    def tick(self) -> None:
        """One decision, and what it led to, drawn."""
        decision = self.controller.step(self.observation, self.ticks * self.spec.seconds_per_step)
        physics = self.robot.mujoco()
        assert physics is not None
        self.scene.show(physics[1])
        if decision.plan is not None:
            self._draw_future(decision.plan, physics)
        transition = self.robot.step(decision.action)
        self.observation, self.ticks, self.returned = (
            transition.observation,
            self.ticks + 1,
            self.returned - transition.cost,
        )
        self.milliseconds.append(1000 * decision.timing.total)
        if self.ticks % 10 == 0:
            self.plot.data = np.arange(KEPT, dtype=np.float64), np.array(self.milliseconds)
            self.words.content = (
                f"decision {self.ticks}, return {self.returned:.1f}, {np.median(list(self.milliseconds)[-50:]):.1f} ms  \n"
                f"{decision.status.sentence}"
            )
        if transition.terminated or transition.truncated:
            self.restart()

    def restart(self) -> None:
        """A new episode."""
        self.seed += 1
        self.observation, self.ticks, self.returned = self.robot.reset(self.seed), 0, 0.0
        self.controller.reset()

    def close(self) -> None:
        """Stop the server and the controller."""
        self.controller.close()
        self.server.stop()

    def _controller(self, planner: str) -> mpc.Controller:
        agent = load_acting(self.folder, None if planner == OWN else planner, horizon=self.horizon)
        if not isinstance(agent, PlanningAgent):
            raise ViewError(f"{self.folder} holds a policy alone: give a model, or RUN/agent of `sailplan learn`.")
        made = mpc.Controller(agent, mpc.ControllerSettings(period=self.spec.seconds_per_step))
        made.warm_up(2)
        return made

    def _build(self, planner: str) -> None:
        """The page's controls; each only notes what is wanted."""
        gui, wants = self.server.gui, self._wanted
        self.words = gui.add_markdown("starting")
        self.paused = gui.add_checkbox("pause", False)
        self.strength = gui.add_slider("push strength", 0.0, 10.0, 0.1, 2.0)
        gui.add_button("push").on_click(lambda _: wants.update(push=True))
        gui.add_button("restart").on_click(lambda _: wants.update(restart=True))
        modes = [PLAN, REACT] if self.controller.reflex is not None else [PLAN]
        mode = gui.add_dropdown("mode", modes, initial_value=PLAN)
        mode.on_update(lambda _: setattr(self.controller, "plans", mode.value == PLAN))
        chosen = gui.add_dropdown("planner", sorted({OWN, *PLANNERS, planner}), initial_value=planner)
        chosen.on_update(lambda _: wants.update(planner=chosen.value))
        self.after = gui.add_dropdown("driven by", [LEARNED, GOAL], initial_value=LEARNED)
        self.after.on_update(lambda _: wants.update(cost=self.after.value))
        self.folder_of_sliders = gui.add_folder("cost")
        self.plot = gui.add_uplot(
            (np.arange(KEPT), np.array(self.milliseconds)),
            (self.uplot.Series(label="decision"), self.uplot.Series(label="ms", stroke="#c2410c", width=1)),
            scales={"x": self.uplot.Scale(time=False)},
            title="decision, milliseconds",
            aspect=2.0,
        )

    def _do_what_is_wanted(self) -> None:
        """Pushes, restarts, another planner or cost: here, between decisions, and never in the page's own threads."""
        wanted = {name: self._wanted.pop(name) for name in list(self._wanted)}
        physics = self.robot.mujoco()
        if "push" in wanted and physics is not None:
            push(physics[1], self.strength.value, self.random)
        if "restart" in wanted:
            self.restart()
        if "planner" in wanted:
            self.words.content = f"compiling {wanted['planner']}"
            cost, plans = self.controller.agent.cost, self.controller.plans  # type: ignore[union-attr]
            made = self._controller(wanted["planner"])
            made.configure(cost)
            made.plans = plans
            self.controller.close()
            self.controller = made
        if "cost" in wanted:
            self.controller.configure(mpc.goal(self.observation) if wanted["cost"] == GOAL else mpc.LearnedCost())
            self._make_sliders()
        if "weights" in wanted:
            self._read_sliders()

    def _make_sliders(self) -> None:
        """One slider for every number of the cost: its weights, and the goal within three deviations of the data."""
        for slider in self._sliders:
            slider.remove()
        self._sliders = []
        cost = self.controller.agent.cost  # type: ignore[union-attr]
        if isinstance(cost, costs.LearnedCost):
            return
        numbers: list[tuple[str, float, float, float]] = []
        for name, value in self.controller.cost_weights().items():
            numbers += [(label, v, -abs(v) - 1, abs(v) + 1) for label, v in _elements(name, value)]
        if isinstance(cost, costs.GoalCost):
            normaliser = self.controller.agent.model.normaliser
            middle, reach = (self.spec.unflatten(v) for v in (normaliser.mean[...], 3 * normaliser.scale[...]))
            for name in self.spec.names:
                rows = (_elements(name, v[name]) for v in (cost.goal, middle, reach))
                numbers += [(label, v, m - r, m + r) for (label, v), (_, m), (_, r) in zip(*rows, strict=True)]
        with self.folder_of_sliders:
            for label, value, low, high in numbers:
                low, high = min(low, value), max(high, value)
                slider = self.server.gui.add_slider(label, low, high, (high - low) / 200, value)
                slider.on_update(lambda _: self._wanted.update(weights=True))
                self._sliders.append(slider)

    def _read_sliders(self) -> None:
        """Give the controller what the sliders say."""
        values, cost = [slider.value for slider in self._sliders], self.controller.agent.cost  # type: ignore[union-attr]
        weights = {}
        for name, old in self.controller.cost_weights().items():
            count = int(np.size(old))
            weights[name], values = np.reshape(values[:count], np.shape(old)), values[count:]
        self.controller.set_cost_weights(**weights)
        if isinstance(cost, costs.GoalCost):
            self.controller.set_goal(self.spec.unflatten(np.asarray(values, np.float32)))  # type: ignore[arg-type]

    def _draw_future(self, plan: Any, physics: Any) -> None:
        """Where the model predicts that the plan leads, by the joint velocities it reads out."""
        if not hasattr(self, "_readout"):
            self._readout = jax.jit(jax.vmap(self.controller.agent.model.readout))
        velocities = self._readout(plan.latents).get("velocity")
        path = predicted_path(
            physics[0], physics[1].qpos, None if velocities is None else np.asarray(velocities), self.spec.seconds_per_step
        )
        if path is not None:
            self.scene.predict(path)


def _elements(name: str, value: Any) -> list[tuple[str, float]]:
    flat = np.ravel(np.asarray(value, np.float32))
    return [(name if flat.size == 1 else f"{name} {i}", float(v)) for i, v in enumerate(flat)]


def view(
    model: tyro.conf.Positional[Path],
    planner: str | None = None,
    horizon: int | None = None,
    port: int = 8080,
    seconds: float = float("inf"),
) -> None:
    """Watch a model or agent drive its robot, in a browser on this machine, and change what it is after.

    Args:
        model: the folder of a model, or RUN/agent of `sailplan learn`.
        planner: cem, icem, gradient, …, or if not given a learned agent's own; another one can be chosen on the page.
        horizon: actions in a plan; if not given, that planner's own, or 20.
        port: of the page; the next free one is taken where it is in use.
        seconds: how long to run.
    """
    shown = View(model, planner=planner, horizon=horizon, port=port)
    console.print(f"open {shown.address}; stop with Ctrl-C", highlight=False)
    try:
        shown.run(seconds)
    except KeyboardInterrupt:
        pass
    finally:
        shown.close()
