"""What every foreign format is read as: named episodes that can be asked for one by one."""

import contextlib
import importlib
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from worldmodels.data.episode import Episode
from worldmodels.errors import DataError, SpecError
from worldmodels.spec import ContinuousAction, DiscreteAction, Spec

ACTIONS = ("actions", "action")
REWARDS = ("next.reward", "rewards", "reward")
ENDS = ("next.terminated", "next.done", "terminals", "terminations", "terminated", "dones", "done")

UNBOUNDED = "The file gives no action bounds: [-1, 1] is assumed. Give --low and --high if they are others."
CHOICES = "The file does not say how many actions there are: {n} is assumed, by the largest. Give --high, the last one, if there are more."
Glance = tuple[
    dict[str, tuple[int, ...]], np.ndarray | None
]  # shapes of one row of observations, and actions: of a part read alone


@dataclass(frozen=True)
class Reading:
    """What to read, and what files do not say, or say wrongly: what is given here holds.

    Attributes:
      environment: the id to note.
      observations: names of the quantities to keep, in this order; all if empty.
      low, high: bounds of the actions, one number for all or one each. Without them what the file says, or else [-1, 1].
      action_free: read no actions; episodes get actions of size 0, to learn from observation alone.
      action_repeat, seconds_per_step: of one row.
    """

    environment: str | None = None
    observations: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    action_free: bool = False
    action_repeat: int | None = None
    seconds_per_step: float | None = None

    def __post_init__(self):
        if self.action_repeat is not None and self.action_repeat < 1:
            raise DataError(f"action_repeat={self.action_repeat}: expected at least 1.")
        if self.seconds_per_step is not None and not 0 < self.seconds_per_step < np.inf:
            raise DataError(f"seconds_per_step={self.seconds_per_step}: expected a positive number.")
        if len(set(self.observations)) < len(self.observations):
            raise DataError(f"observations={self.observations}: expected each once.")

    def assumed(self, action: ContinuousAction | DiscreteAction) -> tuple[str, ...]:
        """What a reader should know of an action space that no file states."""
        if isinstance(action, DiscreteAction):
            return () if self.high else (CHOICES.format(n=action.n),)
        return () if self.low or self.high or self.action_free else (UNBOUNDED,)

    def spec(self, stated: Spec, where: str) -> Spec:
        """What a file states, but for what is given here."""
        shapes, units = dict(stated.observation), dict(stated.units)
        wanted, action = self.observations or stated.names, stated.action
        return replace(
            stated,
            environment=self.environment or stated.environment,
            observation=tuple((name, shapes[name]) for name in wanted),
            units=tuple((name, units[name]) for name in wanted if name in units),
            action=self.choices(action.n, where)
            if isinstance(action, DiscreteAction)
            else self.box(action.low, action.high, where),
            action_repeat=self.action_repeat or stated.action_repeat,
            seconds_per_step=self.seconds_per_step or stated.seconds_per_step,
        )

    def choices(self, stated: int, where: str) -> ContinuousAction | DiscreteAction:
        """Integer actions: as many as stated, or up to `high`."""
        if self.action_free:
            return ContinuousAction((), ())
        if any(self.low) or len(self.high) > 1 or any(last < 0 or last % 1 for last in self.high):
            raise DataError(
                f"{where}: low={self.low}, high={self.high} for actions that are integers from 0: expected the last one as high."
            )
        return DiscreteAction(int(self.high[0]) + 1 if self.high else stated)

    def box(self, low: Sequence[float], high: Sequence[float], where: str) -> ContinuousAction:
        """Continuous actions between the bounds given here, or else those stated, one for each component."""
        if self.action_free:
            return ContinuousAction((), ())
        bounds = []
        for name, given, stated in (("low", self.low, low), ("high", self.high, high)):
            if len(given) not in (0, 1, len(low)):
                raise DataError(f"{where}: {name}={given} for actions of size {len(low)}: expected one number, or {len(low)}.")
            bounds.append(np.broadcast_to(given or stated, len(low)))
        if not (np.isfinite(bounds).all() and (bounds[0] < bounds[1]).all()):
            shown = " to ".join(str(bound.tolist()) for bound in bounds)
            raise DataError(f"{where}: actions from {shown}: expected finite numbers, low < high. Give --low and --high.")
        return ContinuousAction(*(tuple(bound.tolist()) for bound in bounds))


@dataclass(frozen=True)
class Source:
    """Episodes of somebody else's file or folder.

    Attributes:
      kind: the format, in words.
      where: the file or folder.
      spec: as the file says, as `Reading` says, and as most episodes show.
      names: of the episodes, in order.
      load: (name) -> Episode, unchecked.
      ignored: fields of the file that are not read.
      notes: what a reader should know, such as rows that make no decision.
    """

    kind: str
    where: Path
    spec: Spec
    names: tuple[str, ...]
    load: Callable[[str], Episode]
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def read(self, name: str) -> Episode:
        """One episode, checked against the spec; `DataError` names it and the field that is wrong."""
        where = f"{self.where}: {name}"
        episode = guarded(where, self.load, name)
        missing = [key for key in self.spec.names if key not in episode.observations]
        if missing:
            raise DataError(f"{where}: the observations {missing} are missing; it has {sorted(episode.observations)}.")
        kept = replace(episode, observations={key: episode.observations[key] for key in self.spec.names})
        kept.check(self.spec, where)
        return kept


def source_of(
    kind: str,
    where: Path,
    names: tuple[str, ...],
    load: Callable[[str], Episode],
    reading: Reading,
    *,
    environment: str,
    glance: Callable[[str], Glance] | None = None,
    action: ContinuousAction | DiscreteAction | None = None,
    stated: Spec | None = None,
    seconds_per_step: float = 1.0,
    ignored: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Source:
    """A `Source` whose spec is `stated`, or taken from the first readable episode, of the shapes that most have where a `glance` shows them.

    `DataError` of the first episode where none can be read.
    """
    if not names:
        raise DataError(f"{where}: it holds no episode.")
    likely, choices = _commonest(names, reading, glance) if glance is not None else (names, 0)
    first, problems = None, []
    for name in likely:
        try:
            first = guarded(f"{where}: {name}", load, name)
            break
        except DataError as error:
            problems.append(error)
    if first is None:
        raise problems[0]
    require_known(where, reading.observations, first.observations)
    shapes = {name: tuple(array.shape[1:]) for name, array in first.observations.items()}
    if stated is None or dict(stated.observation) != shapes:
        likely_action = action or _likely_action(first.actions, choices)
        units = tuple((name, "") for name in shapes)
        stated = Spec(environment, tuple(shapes.items()), likely_action, seconds_per_step=seconds_per_step, units=units)
        notes += reading.assumed(likely_action) if action is None else ()
    spec = reading.spec(stated, str(where))
    left = tuple(name for name in first.observations if name not in spec.names)
    return Source(kind, where, spec, names, load, ignored=(*left, *ignored), notes=notes)


def _likely_action(actions: np.ndarray, choices: int) -> ContinuousAction | DiscreteAction:
    """The action space of an episode's `actions` in a file that does not say: of as many `choices` at least if they are integers."""
    if actions.ndim == 1 and actions.dtype.kind in "iu":
        return DiscreteAction(max(choices, int(actions.max(initial=0)) + 1))
    size = actions.shape[1] if actions.ndim == 2 else 1
    return ContinuousAction((-1.0,) * size, (1.0,) * size)


def _commonest(names: Sequence[str], reading: Reading, glance: Callable[[str], Glance]) -> tuple[Sequence[str], int]:
    """The names, those first whose fields have the shapes that most have, and how many choices there are among their actions."""
    looks: dict[str, tuple] = {}
    choices: dict[str, int] = {}
    for name in names:
        with contextlib.suppress(DataError):  # which is said when it is read
            shapes, actions = guarded(name, glance, name)
            kept = frozenset((key, shape) for key, shape in shapes.items() if key in (reading.observations or shapes))
            looks[name] = kept, None if actions is None else actions.shape[1:]
            choices[name] = int(actions.max(initial=0)) + 1 if actions is not None and actions.dtype.kind in "iu" else 0
    if not looks:
        return names, 0
    most = Counter(looks.values()).most_common(1)[0][0]
    odd = {name for name in names if looks.get(name) != most}
    return sorted(names, key=odd.__contains__), max(choices[name] for name in names if name not in odd)


def episode_from_rows(
    where: str,
    observations: Mapping[str, np.ndarray],
    actions: np.ndarray | None,
    rewards: np.ndarray | None,
    *,
    terminated: bool,
    seed: int,
    action_free: bool = False,
) -> Episode:
    """An episode from N rows of actions and N or N+1 of observations.

    With N observations the last action's outcome is unknown: that row gives its observation only, and an end that the
    outcome would have shown is cut short instead (truncated).
    """
    if not observations:
        raise DataError(f"{where}: it has no observation.")
    rows = max(len(array) for array in observations.values())
    if action_free:
        actions = np.zeros((max(rows - 1, 0), 0), np.float32)
    elif actions is None or actions.dtype == object or actions.size == 0:
        raise DataError(f"{where}: actions are missing or empty. To learn from observation alone, convert with --action-free.")
    if actions.ndim == 1 and actions.dtype.kind in "fb":
        actions = actions[:, None] if actions.dtype.kind == "f" else actions.astype(np.int32)
    outcome = rows == len(actions) + 1
    if not outcome and rows != len(actions):
        raise DataError(f"{where}: {rows} observations for {len(actions)} actions: expected as many, or one more.")
    count = len(actions) if outcome else len(actions) - 1
    if rewards is not None and len(rewards) not in (count, len(actions)):
        raise DataError(f"{where}: {len(rewards)} rewards for {len(actions)} actions: expected as many.")
    if count < 1:
        raise DataError(f"{where}: {rows} observations and {len(actions)} actions make no decision: expected two rows or more.")
    ended = terminated and outcome
    return Episode(
        observations={name: np.asarray(array) for name, array in observations.items()},
        actions=actions[:count],
        costs=None if rewards is None else -np.asarray(rewards, np.float32)[:count],
        terminated=ended,
        truncated=not ended,
        seed=seed,
    )


def found(names: tuple[str, ...], there: Container[str]) -> str | None:
    """The first of the names that something goes by."""
    return next((name for name in names if name in there), None)


def guarded(where: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a reader; whatever a foreign library raises over damaged bytes becomes a `DataError` naming `where`."""
    try:
        return function(*arguments)
    except (DataError, SpecError):
        raise
    except Exception as error:  # h5py, pyarrow, av and PIL raise dozens of types over foreign bytes
        raise DataError(f"{where}: damaged, or not laid out as expected ({type(error).__name__}: {error}).") from error


def require_known(where: Path, wanted: Iterable[str], there: Iterable[str]) -> None:
    """Raise `DataError` for a quantity that nobody has."""
    unknown = sorted(set(wanted) - set(there))
    if unknown:
        raise DataError(f"{where}: it has no observations {unknown}; it has {sorted(there)}.")


def require(module: str) -> ModuleType:
    """An optional package of the `data` extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise DataError(f"reading or writing this format needs {package}: pip install 'sailplan[data]'.") from error
