"""What a decision cannot know from its memory: as it happens, noted for the recorder, and as it was, for a replay."""

from collections.abc import Callable
from typing import Any

from mpc.controller.deciding import Arrival, Failure, Mind
from mpc.controller.searching import Request, Searched, Searcher
from mpc.controller.thinking import Thinker


class Live:
    """The circumstances of the decision being made.

    Attributes:
      events: what happened, by stage: the text of a failure, the slices of a search, the safe action, what the thread had ready.
    """

    def __init__(self, mind: Mind, searcher: Searcher | None, thinker: Thinker | None, until: float, generation: int):
        self.mind, self.searcher, self.thinker = mind, searcher, thinker
        self.until, self.generation = until, generation
        self.events: dict[str, Any] = {}

    def attempt(self, stage: str, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:
            self.events[stage] = f"{stage} failed ({type(error).__name__}: {error})"[:200]
            raise Failure(self.events[stage]) from error

    def search(self, request: Request) -> Searched:
        assert self.searcher is not None
        searched = self.searcher.run(self.mind.flat, request, until=self.until)
        self.events["slices"] = searched.slices
        return searched

    def arrivals(self, request: Request | None) -> list[Arrival]:
        if self.thinker is None:
            return []
        arrived = self.thinker.exchange(None if request is None else (request, self.mind.flat))
        arrived = [a for a in arrived if a.request is None or a.request.generation == self.generation]
        self.events["arrivals"] = arrived
        return arrived

    def safe(self, action: Callable[[], tuple[Any, str | None]]) -> tuple[Any, str | None]:
        self.events["safe"] = action()
        return self.events["safe"]


class Replayed:
    """The circumstances of a recorded decision. Nothing is timed: a search runs the slices it ran then."""

    def __init__(self, mind: Mind, searcher: Searcher | None, events: dict[str, Any]):
        self.mind, self.searcher, self.events = mind, searcher, events
        self.searched: Searched | None = None

    def attempt(self, stage: str, action: Callable[[], Any]) -> Any:
        if stage in self.events:
            raise Failure(self.events[stage])
        return action()

    def search(self, request: Request) -> Searched:
        assert self.searcher is not None
        self.searched = self.searcher.run(self.mind.flat, request, slices=self.events["slices"])
        return self.searched

    def arrivals(self, request: Request | None) -> list[Arrival]:
        return self.events.get("arrivals", [])

    def safe(self, action: Callable[[], tuple[Any, str | None]]) -> tuple[Any, str | None]:
        return self.events["safe"]
