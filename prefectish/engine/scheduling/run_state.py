"""The mutable tables of one flow run: what happened so far, step by step and branch by branch.

`StepState`
    One a step of the plan: its state, or the states of its children by row.
`MapState`
    One a space: how wide it is so far, and where the item of each row is found.
`StepChain`
    Steps of one group that started together. The rows of a chain are its branches; a chain of single steps has one row.
`MapRow`
    One open row of a chain: which of its steps are final, in flight, or waiting. It goes away with its last step.

A *row* is a position in the order in which branches came up. It is the map index, except in a flattened map whose
upstream children end out of order: there rows are numbered as they come and the states are put in order when the map
is complete.

Only :class:`prefectish.engine.scheduling.progress` writes these tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from operator import getitem
from typing import Any, Protocol

from prefectish.engine.capture import Error, capture
from prefectish.engine.jobs.job import ChainSpec, Job, Pick
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.map_domain import Measure, measure
from prefectish.engine.plan.steps import MapDomain, Step
from prefectish.engine.state import Deferred, Failed, Mapped, Pending, State, Success
from prefectish.engine.worker.decide import unread_item
from prefectish.errors import text_of

NOT_RUN = Pending("not run")
_IN_MEMORY = (list, tuple, range, str)


class Watcher(Protocol):
    """Somebody outside who waits for the rows of a step, or for all of it."""

    def opened(self) -> None:
        """Note that the step has rows, though maybe not all of them yet."""

    def row(self, row: int, state: State, width: Any) -> None:
        """Note the final state of a row, and what a map over its result has to know."""

    def waits(self, row: int, state: State) -> None:
        """Note that a row waits for somebody outside."""

    def ended(self, state: State) -> None:
        """Note the final state of the step."""


class StepState:
    """What happened to one step so far.

    Attributes
    ----------
    state
        Final state of the step (for a mapped step: of its parent), or its start state.
    final
        Whether the step and all of its children are finished.
    children
        State of each row, None while it is not final; None as a whole until the step is decided, and for a step that
        ended without children.
    left
        Rows that are not final yet.
    facts
        What a map over the result has to know, see ``widths.measure``; None until known.
    widths
        Of a mapped step that somebody flattens: the width of each row's result.
    starts
        States the step or its rows start from, given by the caller.
    gated
        Chains that wait for rows of this step.
    failures
        Rows that failed so far.
    kinds
        Number of the rows that ended so far in another state than a plain success, by its class.
    dirty
        In a run that is resumed, whether anything of it had to run because it was not finished before.
    reads
        Steps it reads whose results are held on workers.
    withdrawn
        Rows that were cancelled before they began.
    watcher
        Told of its rows and of its end, None if nobody asked.
    """

    __slots__ = (
        "blocked", "cancelled_early", "chain", "children", "dependents", "failures", "final", "kinds", "left",
        "map_state", "measurement", "reads", "rerun", "starts", "state", "step", "watcher", "widths",
    )  # fmt: skip

    def __init__(self, step: Step) -> None:
        self.watcher: Watcher | None = None
        self.cancelled_early: set[int] = set()
        self.step = step
        self.state: State = NOT_RUN
        self.final = False
        self.blocked = False
        self.children: list[State | None] | None = None
        self.left = 0
        self.measurement: Any = None
        self.widths: dict[int, int] | None = {} if step.mapped and step.measure >= Measure.ELEMENTS else None
        self.starts: State | None = None
        self.dependents: list[StepChain] = []
        self.chain: StepChain | None = None
        self.map_state: MapState | None = None
        self.failures = 0
        self.kinds: dict[type[State], int] = {}
        self.rerun = False
        self.reads: list[StepState] = []

    def measured(self) -> Any:
        """Return ``widths.measure`` of the step's result, of a state that is final and not Mapped."""
        if self.measurement is None:
            outcome = capture(lambda: measure(self.state.result, self.step.measure))
            self.measurement = (-1, "value that cannot be read", ()) if isinstance(outcome, Error) else outcome.value
        return self.measurement

    def start_of(self, row: int) -> State | None:
        """Return the state from which a row starts if the caller gave one."""
        given = self.starts
        if not isinstance(given, Mapped) or not self.step.mapped:
            return given
        states = given.map_states or []
        place = row if self.map_state is None else self.map_state.place_before(row)
        return states[place] if place is not None and place < len(states) else None

    def snapshot(self) -> State:
        """Return the state of the step as it is now, with all of its children."""
        if self.children is None or not self.step.mapped:
            return self.state if self.children is None else self.children[0] or self._waiting(0)
        if self.final:
            return self.state
        states = [child or self._waiting(row) for row, child in enumerate(self.children)]
        order = self.map_state.order() if self.map_state else None
        if order is not None:
            states = [states[row] for row in order]
        return Mapped("Mapped tasks submitted for execution.", map_states=states, n_map_states=len(states))

    def state_of(self, row: int) -> State:
        """Return the state of a row as it is now."""
        return (self.children[row] if self.children is not None else None) or self._waiting(row)

    def _waiting(self, row: int) -> State:
        map_row = self.chain.open_rows.get(row) if self.chain else None
        if map_row is not None and self.chain is not None:
            waiting = map_row.starts.get(self.chain.position[self.step.number])
            if waiting is not None:
                return waiting
        return self.start_of(row) or NOT_RUN


class MapState:
    """How wide a space is so far.

    Attributes
    ----------
    width
        Rows so far.
    closed
        Whether no more rows can come.
    members
        Mapped steps that were decided to run over it.
    paths
        Of a flattened map: where each row's element is, ``(i,)`` or ``(i, j)``; None otherwise.
    source
        Iterator that rows are pulled from; None otherwise.
    below
        Of a flattened map of a map: the space of that map.
    before
        Of a flattened map that goes on from states the caller gave: where the element of each path stood among them;
        paths are those of the run that the states come from.
    """

    __slots__ = ("before", "below", "closed", "domain", "items", "members", "paths", "source", "width")

    def __init__(self, domain: MapDomain) -> None:
        self.domain = domain
        self.width: int | None = None
        self.closed = False
        self.members: list[StepState] = []
        self.paths: list[tuple[int, ...]] | None = None
        self.source: Iterator[Any] | None = None
        self.below: MapState | None = None
        self.before: dict[tuple[int, ...], int] | None = None
        self.items: dict[int, Any] = {}

    def place_before(self, row: int) -> int | None:
        """Return where a row stood among the states that the caller gave, None if it was not there.

        Rows of a flattened map are numbered as they come up, which need not be as they came up before.
        """
        if self.before is None or self.paths is None:
            return row
        source, *rest = self.paths[row]
        place = source if self.below is None else self.below.place_before(source)
        return None if place is None else self.before.get((place, *rest))

    def order(self) -> list[int] | None:
        """Return the rows in map order, None if they came up in it."""
        if not self.domain.grows or self.paths is None:
            return None
        paths = self.paths
        below = self.below.order() if self.below is not None else None
        if below is None:
            order = sorted(range(len(paths)), key=paths.__getitem__)
        else:  # paths begin with rows of the map below, which came up out of order too
            place = {row: n for n, row in enumerate(below)}
            order = sorted(range(len(paths)), key=lambda row: (place[paths[row][0]], *paths[row][1:]))
        return None if order == list(range(len(paths))) else order


class MapRow:
    """One open row: bit masks over the positions of its chain.

    Attributes
    ----------
    items
        The branch's own inputs, kept for resubmission.
    submissions
        Jobs submitted so far.
    final, flying, waiting
        Positions that are final; in a job; held by a timer, a pause or a missing input.
    starts
        States from which positions start when submitted again.
    jobs
        Its jobs that may still report.
    seconds
        Time its steps took so far.
    counted
        Whether it takes a place in the window.
    ahead
        Whether it was begun ahead of its place under a limit, and has none yet.
    """

    __slots__ = (
        "counted", "final", "items", "jobs", "probing", "row", "seconds", "starts", "submissions", "submitted",
        "waiting",
    )  # fmt: skip

    def __init__(self, row: int, items: tuple[Any, ...]) -> None:
        self.row = row
        self.items = items
        self.submissions = 0
        self.final = 0
        self.submitted = 0
        self.waiting = 0
        self.starts: Mapping[int, State] = {}
        self.jobs: list[Job] = []
        self.seconds = 0.0
        self.counted = False
        self.probing = False


class StepChain:
    """Steps of one group that started together.

    Attributes
    ----------
    runs
        Its steps, in topological order; ``position`` maps a step's number to its place here.
    all_positions, full
        All positions, as a tuple and as a mask.
    started
        Whether a row of it was started.
    pickers
        One function a per-branch input: row -> item.
    gates
        Mapped steps outside the chain whose row must be final before the chain's row can start.
    opened
        Rows taken so far, of a chain without gates.
    order
        Rows in the order in which they start, if that is not the map's; of a chain without gates.
    ready
        Rows whose gates are open, smallest first, of a chain with gates.
    mean
        Observed mean time of a branch in seconds, None if none has ended.
    last_batch_size, batches
        Size of the last batch, and batches under way.
    withdrawn
        Some rows of its steps were cancelled before they began.
    stopped
        "stop" if no new branch may start, "cancel" if open ones were dropped too, else "".
    late
        Whether its branches are begun before they have a place under its limits, because many may need none.
    ahead
        Branches that were begun so and have none yet.
    again
        Number of the next submission of rows that were taken back, to begin again.
    """

    __slots__ = (
        "admission_mode", "all_positions", "batches", "dependencies", "done", "full", "has_cancelled_early",
        "last_batch_size",
        "limited", "map_state", "mean", "open_rows", "opened", "order", "pickers", "position", "priority",
        "probe_first", "probing", "queued", "ready", "resubmit_from", "spec", "stage", "started", "step_states",
    )  # fmt: skip

    def __init__(self, step_states: list[StepState], stage: int, map_state: MapState | None) -> None:
        self.step_states = step_states
        self.stage = stage
        self.has_cancelled_early = any(step_state.cancelled_early for step_state in step_states)
        self.map_state = map_state
        self.position = {step_state.step.number: position for position, step_state in enumerate(step_states)}
        self.all_positions = tuple(range(len(step_states)))
        self.full = (1 << len(step_states)) - 1
        self.started = False
        self.pickers: list[Callable[[int], Any]] = []
        self.dependencies: list[StepState] = []
        self.opened = 0
        self.order: Sequence[int] | None = None
        self.ready: list[int] = []
        self.done = 0
        self.queued = False
        self.limited = False
        self.resubmit_from: dict[int, int] = {}
        self.probe_first = False
        self.probing = 0
        self.priority = 0.0
        self.open_rows: dict[int, MapRow] = {}
        self.spec: ChainSpec
        self.mean: float | None = None
        self.last_batch_size = 0
        self.batches = 0
        self.admission_mode = ""

    def dependency_finished(self, row: int) -> None:
        """Note that one more gate of `row` is final; the row is ready once all are."""
        width = self.map_state.width if self.map_state is not None else 1
        if row < (width or 0) and all(
            d.children is not None and d.children[row] is not None for d in self.dependencies
        ):
            heappush(self.ready, row)

    def key_of(self, row: int) -> str | None:
        """Return what a row is, where that was said when it came; None where its item says it."""
        return None

    def reads_of(self, row: int) -> Sequence[tuple[int, int | None]]:
        """Return the steps and rows (None: all) that a row reads on its own account."""
        return ()

    def items_of(self, row: int) -> tuple[Any, ...]:
        """Return the inputs of a row that starts."""
        return tuple([pick(row) for pick in self.pickers])

    def next_row(self) -> int | None:
        """Return the next row to start, None if none is ready now."""
        if self.dependencies:
            return heappop(self.ready) if self.ready else None
        row = self.opened
        width = 1 if self.map_state is None else self.map_state.width
        if width is not None and row < width:
            self.opened = row + 1
            return row if self.order is None else self.order[row]
        return None


def list_picker(step_state: StepState) -> Callable[[int], Any]:
    """Return a function that gives item i of a finished, not mapped step: the item itself if it is here.

    A list that is gone, of children that the caller gave, has None for every item.
    """
    state = step_state.state
    value = state._result
    if value is None:
        return lambda row: None
    if type(value) in _IN_MEMORY:
        return lambda row: as_success_if_ambiguous(value[row]) if row < len(value) else None
    if step_state.step.literal is None or isinstance(value, Held):
        return lambda row: Pick(state, (row,))
    if isinstance(value, Deferred):  # the result of a call, in its envelope: it is opened here once, not by each child
        opened = capture(value.get)
        if isinstance(opened, Error):
            fault = Failed(text_of(opened.exception), opened.exception)
            return lambda row: fault
        value = opened.value
    return lambda row: _item_of(value, row)


def _item_of(value: Any, row: int) -> Any:
    """Return an item of something that is here as a whole, so that no child takes all of it along for one item."""
    outcome = capture(getitem, value, row)
    if isinstance(outcome, Error):
        return unread_item((row,), outcome.exception)
    return as_success_if_ambiguous(outcome.value)


def flat_list_picker(step_state: StepState, map_state: MapState) -> Callable[[int], Any]:
    """Return a function that gives the element of each row of a flattened list."""
    state = step_state.state
    value = state._result

    def pick(row: int) -> Any:
        assert map_state.paths is not None
        path = map_state.paths[row]
        if type(value) not in _IN_MEMORY:
            return Pick(state, path)
        item = value[path[0]]
        if len(path) == 1:
            return as_success_if_ambiguous(item)
        return (
            as_success_if_ambiguous(item[path[1]]) if type(item) in _IN_MEMORY else Pick(Success(None, item), path[1:])
        )

    return pick


def flat_children_picker(step_state: StepState, map_state: MapState) -> Callable[[int], Any]:
    """Return a function that gives the element of each row of a flattened map."""

    def pick(row: int) -> Any:
        assert map_state.paths is not None and step_state.children is not None
        path = map_state.paths[row]
        child = step_state.children[path[0]]
        assert child is not None
        if len(path) == 1:
            return child
        value = child._result
        return as_success_if_ambiguous(value[path[1]]) if type(value) in _IN_MEMORY else Pick(child, path[1:])

    return pick


def child_picker(step_state: StepState) -> Callable[[int], Any]:
    """Return a function that gives the state of the child in the same row of another mapped step."""

    def pick(row: int) -> Any:
        assert step_state.children is not None
        return step_state.children[row]

    return pick


def states_picker(states: Sequence[State | None]) -> Callable[[int], Any]:
    """Return a function that gives the state of child i of a finished map, in map order."""
    return lambda row: states[row]


def iterator_picker(map_state: MapState) -> Callable[[int], Any]:
    """Return a function that gives the item that was pulled for a row."""
    return lambda row: map_state.items.pop(row) if len(map_state.members) == 1 else map_state.items[row]


def pull(map_state: MapState) -> bool:
    """Pull one more item from the space's iterator; False if there is none.

    An iterator that raises ends the map with one child that carries the error.
    """
    assert map_state.source is not None and map_state.width is not None
    outcome = capture(next, map_state.source)
    if isinstance(outcome, Error):
        error = outcome.exception
        map_state.source = None
        map_state.closed = True
        if isinstance(error, StopIteration):
            return False
        map_state.items[map_state.width] = Failed(
            f"the iterator that is mapped over raised {type(error).__name__}: {error}", error
        )
    else:
        map_state.items[map_state.width] = as_success_if_ambiguous(outcome.value)
    return True


def as_success_if_ambiguous(item: Any) -> Any:
    """Guard a user's value that could be taken for a state or a reference of ours."""
    return Success(None, item) if isinstance(item, State | Pick) else item
