"""A recorded decision made again, bit for bit, and explained."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import planners
from mpc import costs
from mpc.controller import programs, records
from mpc.controller.circumstances import Replayed
from mpc.controller.clocks import SimulatedLatency, WallClock
from mpc.controller.configuring import Configuration
from mpc.controller.deciding import Arrival, Mind, Outcome, decide
from mpc.controller.observations import Seen
from mpc.controller.recorder import cost_kind, weights_checksum
from mpc.controller.robot import Course, Memory, Rules
from mpc.controller.searching import Request, Searched, Searcher
from mpc.controller.settings import ControllerSettings, Patience, Rung
from mpc.errors import LogError
from mpc.hierarchy.planner import HierarchicalPlanner
from mpc.mixed import MixedAgent
from mpc.storage import load_agent
from worldmodels import manifest
from worldmodels.errors import WorldModelError


class Replay(NamedTuple):
    """A decision as it was recorded, and as it came out again.

    Attributes:
      number: of the decision.
      action, recorded: [A], as made again and as sent.
      identical: whether action, rung and faults agree, the action bit for bit.
      outcome: the decision before its limits, with the memory after it; `before` is the memory it was made from.
      searched: the search that gave the plan it followed, made again; None where none was, or where its request is not at hand.
    """

    number: int
    action: np.ndarray
    recorded: np.ndarray
    identical: bool
    outcome: Outcome
    before: Memory
    searched: Searched | None


class Log:
    """An opened flight recorder's log.

    Args:
      folder: the log's.
      agent: who decided; not needed where the log holds a copy, for costs that were learned or are goals.
    """

    def __init__(self, folder: str | Path, agent: Any = None):
        self.folder = Path(folder)
        try:
            self.manifest = manifest.read(folder, "log")
        except WorldModelError as error:
            raise LogError(str(error)) from error
        wrong = manifest.verify(folder, self.manifest)
        if wrong:
            raise LogError(f"{folder}: {', '.join(f'{name} is {what}' for name, what in wrong.items())}. Copy the log again.")
        try:
            self.settings = _settings(self.manifest.settings["controller"])
            planner = _planner(self.manifest.settings["planner"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise LogError(
                f"{folder}: settings of another version ({error!r}). Replay with the version that wrote it."
            ) from error
        self.agent = self._agent(planner) if agent is None else agent
        self.agent = self.agent.planning if isinstance(self.agent, MixedAgent) else self.agent
        if weights_checksum(self.agent) != self.manifest.settings["weights"]:
            raise LogError(f"{folder}: the agent's weights are not those that decided. Give the agent that was recorded.")
        self.rules = Rules(self.agent.model.spec, self.settings, getattr(self.agent.model, "normaliser", None))
        self.searcher = Searcher(self.agent.planner, self.rules, WallClock()) if planner is not None else None

    def _agent(self, planner: Any) -> Any:
        if not (self.folder / "agent").is_dir():
            raise LogError(f"{self.folder}: the agent was not loaded from a folder. Give it: mpc.Log(folder, agent=...).")
        return load_agent(self.folder / "agent", planner or planners.CEM(horizon=1))

    def records(self) -> Iterator[dict[str, Any]]:
        """Every decision still in the log, oldest first, each with the cost in force as `cost`."""
        cost = None
        for path in sorted(self.folder.glob("*.log")):
            for payload in records.read_frames(path):
                record = records.decode(payload)
                if record["kind"] == "cost":
                    cost = record
                else:
                    yield {**record, "cost": cost}

    def replay(self, number: int | None = None) -> Replay:
        """Decision `number` again, the last one if not given. `LogError` where the log does not hold it."""
        found, first, last, asked = None, None, None, {}
        for record in self.records():
            first, last = record["number"] if first is None else first, record["number"]
            asked[last] = record["cost"]
            if number is None or record["number"] == number:
                found = record
        if found is None:
            held = "nothing" if first is None else f"{first} to {last}"
            raise LogError(f"{self.folder}: decision {number} is not in the log, which holds {held}.")
        return self._replayed(found, asked)

    def replays(self) -> Iterator[Replay]:
        """Every decision in the log again."""
        asked = {}
        for record in self.records():
            asked[record["number"]] = record["cost"]
            yield self._replayed(record, asked)

    def _replayed(self, record: dict[str, Any], asked: dict[int, Any]) -> Replay:
        mind = self._mind(record)
        before = self._memory(mind, record["memory"])
        events = dict(record["events"])
        if "arrivals" in events:
            events["arrivals"] = [self._arrival(mind, a) for a in events["arrivals"]]
        if "safe" in events:
            events["safe"] = tuple(events["safe"])
        observation = _as_given(record["observation"])
        given = Replayed(mind, self.searcher, events)
        outcome = decide(mind, before, observation, record["time"], given, record["number"], 0)
        action = self.rules.limited(outcome.memory, outcome.action)
        recorded = record["action"]
        identical = (
            action.tobytes() == recorded.tobytes()
            and int(outcome.rung) == record["rung"]
            and outcome.faults == record["faults"]
        )
        searched = given.searched
        for arrival in events.get("arrivals", []):
            if arrival.request is None or arrival.searched is None or self.searcher is None:
                continue
            cost = asked.get(arrival.request.number)
            if cost is not None:
                flat = self._mind({**record, "cost": cost, "damaged": [{}, {}]}).flat
                searched = self.searcher.run(flat, arrival.request, slices=arrival.searched.slices)
                same = searched.actions.tobytes() == arrival.searched.actions.tobytes()
                identical = identical and (same or not arrival.searched.sound)
        return Replay(record["number"], action, recorded, identical, outcome, before, searched)

    def _mind(self, record: dict[str, Any]) -> Mind:
        """The agent as it was then: its cost, and parameters that had been damaged."""
        holder = Configuration()
        holder.take(self._with_cost(record["cost"]))
        flat, reflex = (_damaged(packed, damage) for packed, damage in zip(holder.intact, record["damaged"], strict=True))
        return Mind(self.rules, flat, reflex, record["plans"], record["lead"], record.get("tolerance"))

    def _with_cost(self, cost: dict[str, Any]) -> Any:
        if cost["cost"] == "none":
            return self.agent
        now = self.agent.cost
        if cost["cost"] != cost_kind(now) and cost["cost"] == "goal":
            now = costs.goal(self.rules.nothing)
        if cost["cost"] != cost_kind(now) or len(jax.tree.leaves(now)) != len(cost["leaves"]):
            raise LogError(
                f"{self.folder}: the decision was made by a cost written as a {cost['cost']}, which no log can hold. "
                "Give the agent with that cost: mpc.Log(folder, agent=...)."
            )
        leaves = [jax.numpy.asarray(leaf) for leaf in cost["leaves"]]
        made = jax.tree.unflatten(jax.tree.structure(now), leaves)
        heeded = cost.get("critic", cost["cost"] == "learned")
        return replace(self.agent, cost=made, critic=self.agent.critic if heeded else None)

    def _memory(self, mind: Mind, content: dict[str, Any]) -> Memory:
        fields = dict(content)
        fields["seen"] = Seen(**fields["seen"])
        for name in ("course", "coming"):
            fields[name] = None if fields[name] is None else Course(**fields[name])
        fields["latent"], fields["warm"] = self._latent(mind, fields["latent"]), self._warm(mind, fields["warm"])
        return Memory(**fields)

    def _latent(self, mind: Mind, content: Any) -> Any:
        return _like(content, lambda: programs.fresh(*mind.flat, self.rules.nothing))

    def _warm(self, mind: Mind, content: Any) -> Any:
        assert self.searcher is not None or content is None
        rate = self.rules.normalised_rate
        return _like(content, lambda: programs.cold(*mind.flat, rate, np.zeros_like(self.rules.low)))

    def _arrival(self, mind: Mind, content: dict[str, Any]) -> Arrival:
        asked, found, request, searched = content["request"], content["found"], None, None
        if asked is not None:
            latent, warm = self._latent(mind, asked["latent"]), self._warm(mind, asked["warm"])
            request = Request(**{**asked, "latent": latent, "warm": warm})
        if found is not None:
            searched = Searched(None, found["actions"], None, found["sound"], found["slices"], 0.0, found["replaced"])
        return Arrival(request, searched, content["fault"])


def _as_given(observation: Any) -> Any:
    """A recorded observation, with zeros where no more than the shape is recorded."""
    if observation is None:
        return None
    return {
        name: np.broadcast_to(np.float32(0), value["shape"]) if isinstance(value, dict) else value
        for name, value in observation.items()
    }


def _like(content: Any, example: Any) -> Any:
    """A recorded pytree, its structure taken from `example()`."""
    if content is None:
        return None
    structure = jax.tree.structure(jax.eval_shape(example))
    return jax.tree.unflatten(structure, [jax.numpy.asarray(leaf) for leaf in jax.tree.leaves(content)])


def _damaged(packed: Any, damage: dict[str, np.ndarray]) -> Any:
    if packed is None or not damage:
        return packed
    leaves = [jax.numpy.asarray(damage[str(i)]) if str(i) in damage else leaf for i, leaf in enumerate(packed[0])]
    return leaves, packed[1]


def _settings(content: dict[str, Any]) -> ControllerSettings:
    content = dict(content)
    content["patience"] = Patience(**content["patience"])
    content["fallbacks"] = tuple(Rung(rung) for rung in content["fallbacks"])
    content["rate"] = None if content["rate"] is None else tuple(content["rate"])
    content["simulated"] = None if content["simulated"] is None else SimulatedLatency(**content["simulated"])
    content["safe"] = "hold" if content["safe"] == "function" else content["safe"]  # what it answered is recorded
    return ControllerSettings(**content)


def _planner(content: dict[str, Any] | None) -> Any:
    """The planner that `recorder.described` describes."""
    if content is None:
        return None

    def made(value: Any) -> Any:
        if isinstance(value, list):
            return tuple(made(each) for each in value)
        return _planner(value) if isinstance(value, dict) and set(value) == {"name", "settings"} else value

    kinds = {"HierarchicalPlanner": HierarchicalPlanner}
    kind = kinds.get(content["name"]) or getattr(planners, content["name"])
    return kind(**{name: made(value) for name, value in content["settings"].items()})
