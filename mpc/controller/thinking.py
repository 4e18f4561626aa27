"""Planning beside the control loop: in a thread of its own, or on a simulated clock. The loop asks and takes, and never waits."""

import threading
from collections import deque
from typing import Any, Protocol

import numpy as np

from mpc.controller.clocks import SimulatedClock
from mpc.controller.deciding import Arrival
from mpc.controller.searching import Request, Searcher

Asked = tuple[Request, Any]
"""A request and the weights (goal and cost among them) it is to be planned by: one snapshot."""


class Thinker(Protocol):
    """Makes one plan at a time, always by the newest request."""

    def exchange(self, asked: Asked | None) -> list[Arrival]:
        """Leave a request in the place of an older one, and take what is finished."""
        ...

    def close(self) -> None: ...


class Warm:
    """The planner's state between plans of one episode, handed on by whoever plans."""

    def __init__(self):
        self.state: Any = None
        self.start, self.generation = 0.0, -1

    def into(self, request: Request) -> Request:
        """`request`, from where the last search ended."""
        if request.generation != self.generation:
            self.state, self.generation = None, request.generation
        return request._replace(
            warm=self.state, elapsed=max(0.0, request.start - self.start) if self.state is not None else 0.0
        )

    def after(self, arrival: Arrival) -> None:
        sound = arrival.searched is not None and arrival.searched.sound
        self.state = arrival.searched.warm if sound else None  # type: ignore[union-attr]
        self.start = arrival.request.start if arrival.request is not None else 0.0


def _search(searcher: Searcher, warm: Warm, asked: Asked, deadline: float | None) -> Arrival:
    """One plan, or the fault that came in its place."""
    request, flat = warm.into(asked[0]), asked[1]
    until = float("inf") if deadline is None else searcher.clock.now() + deadline
    try:
        arrival = Arrival(request, searcher.run(flat, request, until=until))
    except Exception as error:
        arrival = Arrival(request, None, f"planner failed ({type(error).__name__}: {error})"[:200])
    warm.after(arrival)
    return arrival


class PlanningThread:
    """A thread that plans. Requests and results change hands whole, through deques, whose ends are atomic; one that dies is
    started again."""

    def __init__(self, searcher: Searcher, deadline: float | None):
        self.searcher, self.deadline = searcher, deadline
        self._asked: deque[Asked] = deque(maxlen=1)
        self._finished: deque[Arrival] = deque(maxlen=4)
        self._wake, self._closed = threading.Event(), False
        self._start()

    def _start(self) -> None:
        self.thread = threading.Thread(target=self._work, name="sailplan planner", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        warm = Warm()
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            if self._asked and not self._closed:
                self._finished.append(_search(self.searcher, warm, self._asked.popleft(), self.deadline))

    def exchange(self, asked: Asked | None) -> list[Arrival]:
        finished = [self._finished.popleft() for _ in range(len(self._finished))]
        if not self.thread.is_alive() and not self._closed:
            finished.append(Arrival(None, None, "planning thread died: a new one is started"))
            self._start()
        if asked is not None:
            self._asked.append(asked)
            self._wake.set()
        return finished

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        self.thread.join(timeout=5.0)


class SimulatedThread:
    """The same on a simulated clock, in the loop's own thread: a plan is ready when its drawn latency has passed."""

    def __init__(self, searcher: Searcher, deadline: float | None, period: float):
        assert isinstance(searcher.clock, SimulatedClock)
        self.searcher, self.deadline, self.period = searcher, deadline, period
        self.warm = Warm()
        self._busy: tuple[float, Arrival] | None = None
        self._time = 0.0

    def exchange(self, asked: Asked | None) -> list[Arrival]:
        self._time += self.period
        finished = []
        if self._busy is not None and self._busy[0] <= self._time:
            finished, self._busy = [self._busy[1]], None
        if asked is not None and self._busy is None:
            began = self.searcher.clock.now()
            arrival = _search(self.searcher, self.warm, asked, self.deadline)
            self._busy = self._time + self.searcher.clock.now() - began, arrival
        return finished

    def close(self) -> None:
        """Nothing is held."""


def lead(searcher: Searcher, deadline: float | None, seconds_per_step: float) -> int:
    """Model steps from asking for a plan to its first action: what planning usually takes, or may take, rounded up."""
    usual = searcher.usual if deadline is None else min(searcher.usual, deadline)
    return max(1, int(np.ceil(1.3 * usual / seconds_per_step)))
