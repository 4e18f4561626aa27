"""A control loop in real time, MuJoCo in the place of the robot.

python examples/robot_loop.py AGENT [SECONDS]      AGENT: what `sailplan learn` wrote under RUN/agent
"""

import sys
import time

import mpc
import planners
from worldmodels import manifest


def main(folder: str, seconds: float) -> None:
    spec = manifest.read(folder).spec
    robot = mpc.make_for(spec)
    period = spec.seconds_per_step
    controller = mpc.Controller.load(
        folder,
        planners.CEM(horizon=3, samples=128, iterations=4, elites=16, proposals=16),
        mpc.ControllerSettings(period=period, deadline=0.7 * period, rate=(0.5,) * spec.action.shape[0]),
    )
    controller.warm_up()
    observation = robot.reset(seed=0)
    controller.reset(observation)
    began = time.monotonic()
    cost = late = ticks = 0
    while time.monotonic() - began < seconds:
        due = began + ticks * period
        decision = controller.step(observation, time.monotonic())
        late += time.monotonic() > due + period
        time.sleep(max(0.0, due + period - time.monotonic()))
        transition = robot.step(decision.action)
        observation, cost, ticks = transition.observation, cost + transition.cost, ticks + 1
        if decision.status.faults:
            print(f"{ticks * period:.2f} s: {decision.status.sentence}")
        if transition.terminated or transition.truncated:
            break
    print(f"{ticks} decisions, {late} of them late, return {-cost:.1f}; {dict(controller.counts)}")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 10.0)
