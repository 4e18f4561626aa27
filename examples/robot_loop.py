"""A control loop in real time, MuJoCo in the place of the robot, its sensor failing now and then.

python examples/robot_loop.py AGENT [SECONDS] [LOG]      AGENT: what `sailplan learn` wrote under RUN/agent

Every decision is recorded into LOG; `sailplan replay LOG --decision K` makes one again and explains it.
"""

import sys
import time
from collections import Counter

import mpc
import planners
from worldmodels import manifest

OUTAGE = 50  # every so many ticks the sensor gives nothing, two ticks long


def main(folder: str, seconds: float = 10.0, log: str | None = None, planner: planners.Planner | None = None) -> Counter[str]:
    """Drive the robot for so long; what the controller counted: decisions by rung, faults by name."""
    spec = manifest.read(folder).spec
    robot, period = mpc.make_for(spec), spec.seconds_per_step
    half_range = [(high - low) / 2 for low, high in zip(spec.action.low, spec.action.high, strict=True)]  # type: ignore[union-attr]
    settings = mpc.ControllerSettings(period=period, deadline=period, rate=tuple(half_range), safe="hold")
    with mpc.Controller.load(folder, planner, settings, record=log) as controller:
        controller.warm_up()
        observation, cost, late, ticks = robot.reset(seed=0), 0.0, 0, 0
        controller.reset(observation)
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            seen = observation if ticks % OUTAGE < OUTAGE - 2 else None
            decision = controller.step(seen, time.monotonic())
            if decision.status.faults:
                print(f"{ticks * period:6.2f} s: {decision.status.sentence}")
            ticks += 1
            left = began + ticks * period - time.monotonic()
            late += left < 0
            time.sleep(max(0.0, left))
            transition = robot.step(decision.action)
            observation, cost = transition.observation, cost + transition.cost
            if transition.terminated or transition.truncated:
                observation = robot.reset(seed=ticks)
                controller.reset(observation)
    print(f"{ticks} decisions, {late} of them late, return {-cost:.1f}; {dict(controller.counts)}")
    return controller.counts


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 10.0, sys.argv[3] if len(sys.argv) > 3 else None)
