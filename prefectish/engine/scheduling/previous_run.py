"""What a run that is resumed takes over from its record: finished children are kept, everything else runs.

A child *reruns* if its record is not final, if it was cancelled or crashed, if it failed and failures are to be
retried, if its task changed, or if something it reads reruns or was made after it. Any other child is kept, provided
that its result can be read where it is still needed; one whose result is gone runs again, and what reads it need not.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

from prefectish.engine.plan.item_key import ItemId
from prefectish.engine.plan.steps import Plan, Step
from prefectish.engine.state import Cancelled, Crashed, Failed, State, Success

if TYPE_CHECKING:
    from prefectish.engine.scheduling.events import Recorder


_NO_ENDS = (Crashed, Cancelled)


class RecordedRun(Protocol):
    """The run that is continued, as its history has it."""

    @property
    def id(self) -> str:
        """Return the identifier of the run."""


class Resumption(Protocol):
    """A recorded run to continue: what it ran already, and its place in the history."""

    part: int
    retry_failed: bool

    @property
    def run(self) -> RecordedRun:
        """Return the record of the run."""

    def recall(self, plan: Plan) -> PreviousRun:
        """Become the holder of the run, and return what it takes over."""

    def recorder(self) -> Recorder:
        """Return what records the run from here on."""

    def release(self) -> None:
        """Hold the run no more: nothing of it ran."""


class PreviousResult:
    """A recorded final state.

    Parameters
    ----------
    state
        With a result that reads from the store, or a stand-in that says why it cannot be read.
    is_readable
        Returns whether the result can be read; called once, and only if the result is needed.
    row
        Where the child stood in its map; None if its item had left the list.
    made
        How often the run had been resumed when the attempt ran.
    attempts, seconds, worker
        Of the attempt that made it.

    Attributes
    ----------
    kind
        The class of the state.
    """

    def __init__(
        self,
        state: State,
        is_readable: Callable[[], bool],
        row: int | None,
        generation: int,
        attempts: int,
        seconds: float,
        worker: str | None,
    ) -> None:
        self._state = state
        self.kind: type[State] = type(state)
        self._is_readable = is_readable
        self.row = row
        self.generation = generation
        self.attempts = attempts
        self.seconds = seconds
        self.worker = worker

    @property
    def state(self) -> State:
        """The state."""
        return self._state

    @cached_property
    def readable(self) -> bool:
        """Whether the result can be read."""
        return self._is_readable()


class PreviousChildren(Mapping[ItemId, PreviousResult]):
    """The children of a task that are known from before, which can say of many at once what became of them."""

    @property
    @abstractmethod
    def shares_keys(self) -> bool:
        """Whether several children have one key, so that only all of them together tell which is which."""

    @abstractmethod
    def ended_rows(self, failed: bool) -> Iterator[int]:
        """Yield the rows of children that came to an end of their own, with or without those that failed."""


class PreviousWait(NamedTuple):
    """A recorded state that waits: for its next attempt, or for an approval.

    Attributes
    ----------
    state
        From which the child continues.
    generation
        How often the run had been resumed when the attempt ran that left it.
    row
        The row of the child then; None if that is not known.
    """

    state: State
    generation: int
    row: int | None = None


def _know(step: Step) -> None:
    """Do nothing: all steps are known."""


class PreviousRun:
    """The record of a run.

    Parameters
    ----------
    children
        Recorded final states by slug, then by what the child is.
    waiting
        Recorded states that wait by slug, then by key, those of one key in their order; by row without a key.
    widths
        Recorded number of children by slug.
    changed
        Slugs of tasks that changed since, and whose record does not count.
    retry_failed
        Run failed children again.
    learn
        Called with each step of a plan that grows before its record is asked for; it fills the others.
    since
        By slug, of tasks that have not changed: the first part of the run whose results count.
    chosen
        With `retry_failed`: whether a failed child runs again, by slug, row and state; None for all.
    """

    def __init__(
        self,
        children: Mapping[str, Mapping[ItemId, PreviousResult]],
        waiting: Mapping[str, Mapping[str | int, Sequence[PreviousWait]]],
        widths: Mapping[str, int],
        changed: Collection[str] = frozenset(),
        retry_failed: bool = False,
        learn: Callable[[Step], None] | None = None,
        chosen: Callable[[str, int | None, State], bool] | None = None,
        since: Mapping[str, int] | None = None,
    ) -> None:
        self.learn: Callable[[Step], None] = learn or _know
        self._children = children
        self._waiting = waiting
        self._widths = widths
        self._changed = changed
        self._retry_failed = retry_failed
        self._chosen = chosen
        self._forgotten: set[tuple[str, ItemId]] = set()
        self._ended: dict[str, Counter[str | None]] = {}  # by slug: how many children of each key have a record
        self._since = {} if since is None else since

    def forget(self, slug: str, identity: ItemId) -> None:
        """Let a child run, whatever became of it."""
        self._forgotten.add((slug, identity))

    def find(self, slug: str, identity: ItemId) -> PreviousResult | None:
        """Return the record of a child that may be kept; None if it has to run."""
        if slug in self._changed or (slug, identity) in self._forgotten:
            return None
        found = self._children.get(slug, {}).get(identity)
        if found is None or issubclass(found.kind, _NO_ENDS):
            return None  # it did not come to an end of its own
        if not (self._retry_failed and issubclass(found.kind, Failed)):
            return found
        return None if self._chosen is None or self._chosen(slug, found.row, found.state) else found

    def twins(self, slug: str, key: str) -> dict[int, ItemId | PreviousWait]:
        """Return the children whose items have a key by their rows, in order: what ended, and states that wait.

        None if a row is not known, or several have one.
        """
        if slug in self._changed:
            return {}
        children = self._children.get(slug, {})
        found: dict[int, ItemId | PreviousWait] = {}
        number = 0
        while (record := children.get((key, number))) is not None:
            if record.row is None:
                return {}
            found.setdefault(record.row, (key, number))
            number += 1
        for wait in self._waiting.get(slug, {}).get(key, ()):
            if wait.row is None or wait.row in found:
                return {}
            found[wait.row] = wait
        return dict(sorted(found.items()))

    def unrecorded_since(self, slug: str, identity: ItemId) -> int | None:
        """Return the first part of the run whose result of a child may be used that has no record; None for none."""
        has_record = identity in self._children.get(slug, {})
        return None if has_record or slug in self._changed else self._since.get(slug)

    def kept_results(self, slug: str) -> Iterator[tuple[ItemId, PreviousResult]]:
        """Yield the children of a task that are kept, as far as their own record decides, and that have a result."""
        for identity in self._children.get(slug, {}):
            found = self.find(slug, identity)
            if found is not None and issubclass(found.kind, Success):
                yield identity, found

    def ended_rows(self, slug: str) -> Iterator[int] | None:
        """Yield the rows that most likely are kept, as far as their own record decides; None if it does not."""
        children = self._children.get(slug)
        if slug in self._changed or not isinstance(children, PreviousChildren) or children.shares_keys:
            return None
        return children.ended_rows(not self._retry_failed)

    def start(self, slug: str, identity: ItemId) -> PreviousWait | None:
        """Return the state from which a child without a final one continues; None for the start."""
        if slug in self._changed:
            return None
        key, number = identity
        waiting = self._waiting.get(slug, {}).get(number if key is None else key, ())
        if key is not None and waiting:  # of several with one key those that ended come first
            if slug not in self._ended:
                self._ended[slug] = Counter(other for other, _ in self._children.get(slug, {}))
            number -= self._ended[slug][key]
        place = 0 if key is None else number
        return waiting[place] if 0 <= place < len(waiting) else None

    def same_width(self, slug: str, width: int) -> bool:
        """Whether a map has as many children as it had."""
        return self._widths.get(slug) == width
