"""The tables of one flow run: what happened so far, step by step and row by row.

`StepState`
    One for each step of the plan: its state, or the states of its children by row.
`MapState`
    One for each map domain: its width so far, and where the item of each row is found.
`StepChain`
    Steps of one group that started together, a chain of fused steps: they run as one job for each row. A chain of
    single steps has one row.
`MapRow`, in `open_rows`
    One open row of a chain: which of its steps are final, submitted, or waiting. It is dropped with its last step.
`RunState`
    All of them, with the counters, timers and queues of the run.

A *row* is a position in the order in which children came up. It is the map index, except in a flattened map whose
upstream children end out of order: there rows are numbered as they come, and the states are put in map order when the
map is complete.

Everything here is data. :mod:`prefectish.engine.scheduling.changes` writes it, and no other module; what has to hold
between two turns of the loop is stated in :mod:`prefectish.engine.scheduling.invariants`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from heapq import heappop, heappush
from typing import Any, Protocol

from prefectish.engine import clock as clocks
from prefectish.engine.capture import Error, capture
from prefectish.engine.clock import Now
from prefectish.engine.jobs.bundle import Bundle
from prefectish.engine.jobs.failures import KeptFailures
from prefectish.engine.jobs.job import CALL, STEP, ChainSpec, Job
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.map_domain import UNMAPPABLE, Measure, measure
from prefectish.engine.plan.reduction import ReductionTree
from prefectish.engine.plan.steps import Group, MapDomain, Plan, Step
from prefectish.engine.scheduling.events import AttemptEvent, FailureEvent
from prefectish.engine.scheduling.open_rows import MapRow as MapRow
from prefectish.engine.scheduling.open_rows import OpenRows
from prefectish.engine.scheduling.timers import Timers
from prefectish.engine.state import Cancelled, Mapped, Pending, State
from prefectish.engine.state_column import OPEN, StateColumn
from prefectish.engine.task_counts import NOT_STARTED, TASK_NAME
from prefectish.engine.worker.decide import unread_item
from prefectish.engine.worker.logs.relay import AttemptLog
from prefectish.errors import describe

#: State of what was not submitted so far.
NOT_RUN = Pending("not run")
#: State of a child that was never started because its map, or its run, was stopped.
NEVER_STARTED = Cancelled(NOT_STARTED)


class AdmissionMode(IntEnum):
    """Whether rows of a chain may start."""

    OPEN = 0
    #: No new row starts; retries that wait are cancelled.
    STOP = 1
    #: Submitted rows are abandoned too.
    CANCEL = 2


class Watcher(Protocol):
    """Receives the final states of the rows of a step, and of the step; a flow function waits for them."""

    def opened(self) -> None:
        """Note that the step has rows, though maybe not all of them yet."""

    def row(self, row: int, state: State, width: Any) -> None:
        """Note the final state of a row, and its length for a map over the result."""

    def succeeded(self, rows: Sequence[int]) -> None:
        """Note rows that plainly succeeded; the step has their states."""

    def waits(self, row: int, state: State) -> None:
        """Note that a row waits for a decision from outside, such as an approval."""

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
    measurement
        Length of the result for a map over it, see ``map_domain.measure``; None until known.
    widths
        Of a mapped step whose results are flattened: the length of each row's result that is a list.
    starts
        States the step or its rows start from, given by the caller.
    dependents
        Chains whose rows start after the same row of this step.
    failure_events
        Rows that failed so far.
    kinds
        Number of the rows that ended so far in another state than a plain success, by its class.
    rerun
        In a resumed run, whether any of it had to run because it was not finished before.
    reads
        Steps it reads whose results are held on workers.
    cancelled_early
        Rows that were cancelled before they began.
    watcher
        Receives the states of its rows and its own; None for no watcher.
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
        self.children: StateColumn | None = None
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

    def measured(self, elements: bool = False) -> Any:
        """Return ``map_domain.measure`` of the step's result, of a state that is final and not Mapped."""
        if self.measurement is None or (elements and len(self.measurement) < 3):
            outcome = capture(lambda: measure(self.state.result, 2 if elements else 1))
            if isinstance(outcome, Error):
                way_out = f"a list: reading it raised {describe(outcome.exception)}"
                self.measurement = (UNMAPPABLE, "value that cannot be read", way_out)
            else:
                self.measurement = outcome.value
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
        cells = [self._waiting(row) if cell is OPEN else cell for row, cell in enumerate(self.children.cells)]
        order = self.map_state.order() if self.map_state else None
        states = StateColumn(cells if order is None else [cells[row] for row in order])
        name = {TASK_NAME: self.step.task.name}
        return Mapped(
            "Mapped tasks submitted for execution.", map_states=states, n_map_states=len(states), context=name
        )

    @property
    def outcome(self) -> State:
        """What a step that ended is for those that read it whole: of a reduction, what all was combined to."""
        root = None if self.map_state is None or self.map_state.tree is None else self.map_state.tree.root
        return self.state if root is None or self.children is None else self.children[root] or self.state

    def state_of(self, row: int) -> State:
        """Return the state of a row as it is now."""
        return (self.children[row] if self.children is not None else None) or self._waiting(row)

    def has(self, row: int) -> bool:
        """Whether a row is final."""
        return self.children is not None and self.children.cells[row] is not OPEN

    def _waiting(self, row: int) -> State:
        waiting = None
        if self.chain is not None and (map_row := self.chain.open_rows.get(row)) is not None:
            waiting = map_row.starts.get(self.chain.position[self.step.number])
        return waiting or self.start_of(row) or NOT_RUN


class MapState:
    """The width of a map domain so far.

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
        Of a flattened map of a map: the state of that map's domain.
    before
        Of a flattened map that continues from states the caller gave: where the element of each path stood among them;
        paths are those of the run that the states come from.
    items
        Items that were pulled from the iterator, by row.
    next_source
        Of a flattened map that grows in the order of what it flattens, since results are named: the row that is next.
    streams
        Whether rows come up as a generator yields their items.
    tree
        Of a reduction: which rows read what; None otherwise.
    """

    __slots__ = (
        "before", "below", "closed", "domain", "items", "members", "next_source", "paths", "source", "streams", "tree",
        "width",
    )  # fmt: skip

    def __init__(self, domain: MapDomain, paths: list[tuple[int, ...]] | None = None) -> None:
        self.domain = domain
        self.width: int | None = None
        self.closed = False
        self.members: list[StepState] = []
        self.paths = paths
        self.source: Iterator[Any] | None = None
        self.below: MapState | None = None
        self.before: dict[tuple[int, ...], int] | None = None
        self.items: dict[int, Any] = {}
        self.next_source: int | None = None
        self.streams = False
        self.tree: ReductionTree | None = None

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


class Stream:
    """What a generator has yielded so far.

    Attributes
    ----------
    count
        Items so far.
    items
        Those of them that were not taken yet.
    listener
        Takes them as they come; None as long as nothing maps over them.
    """

    __slots__ = ("count", "items", "listener")

    def __init__(self) -> None:
        self.count = 0
        self.items: list[Any] = []
        self.listener: Callable[[Sequence[Any]], None] | None = None

    def listen(self, listener: Callable[[Sequence[Any]], None]) -> None:
        """Have items taken, those that came before first."""
        self.listener = listener
        items, self.items = self.items, []
        listener(items)


def _item_or_error(read: Callable[[int], Any], row: int) -> Any:
    outcome = capture(read, row)
    return unread_item((row,), outcome.exception) if isinstance(outcome, Error) else outcome.value


def _column(read: Callable[[int], Any], rows: range) -> Sequence[Any]:
    """Return the items of rows; a list that is read directly gives a part of itself."""
    values: Any = getattr(read, "__self__", None)
    if type(values) not in (list, tuple, range):
        return [read(row) for row in rows]
    part: Sequence[Any] = values[rows.start : rows.stop]
    # It may be a list of the caller, and be shorter now.
    return part if len(part) == len(rows) else [_item_or_error(read, row) for row in rows]


class StepChain:
    """Steps of one group that started together: a chain of fused steps.

    Attributes
    ----------
    step_states
        Its steps, in topological order; ``position`` maps a step's number to its place here.
    all_positions, full
        All positions, as a tuple and as a mask.
    started
        Whether a row of it was started.
    readers
        One for each input that differs by row: it gives the item of a row.
    dependencies
        Mapped steps outside the chain whose row must be final before the chain's row can start.
    opened
        Rows started so far, of a chain without dependencies.
    order
        Rows in the order in which they start, if that is not the map's; of a chain without dependencies.
    ready
        Rows whose dependencies are final, smallest first, of a chain with dependencies.
    next_in_order
        Of a chain whose rows start in order, since a name of one is made of what it reads: the row that is next.
    open_rows
        Rows that were started and are not final.
    done
        Rows that are final.
    mean, longest
        Observed mean and longest time of a row in seconds; None and 0 if none has ended.
    last_batch_size, batches
        Size of the last batch, and batches under way.
    has_cancelled_early
        Some rows of its steps were cancelled before they began.
    has_starts
        The caller gave states from which some of its rows start.
    in_bundles
        Whether its rows begin in bundles, of which nothing else is known.
    limited
        Whether its rows need a slot under a limit.
    stopped
        Mask of the positions whose maps were stopped: what of them has not begun never does.
    probe_first
        Whether its rows probe the cache before they take a slot under its limits: a cache hit needs none.
    probing
        Rows that were begun so and have no slot yet.
    to_batch
        Those of them that found nothing, and run in batches.
    row_by_row
        Whether the end of a row decides what runs next, so that where one job runs at a time no other has begun.
    resubmit_from
        Number of the next submission of rows that were taken back, to begin again.
    precedence
        Of what comes during a run: ``CALL``, or how many open maps it reads, one through the other.
    arrival
        When it, or the map that it reads, was asked for: smaller ones came first.
    turn
        Of its newest job, in a run whose maps take turns; None before the first one.
    """

    __slots__ = (
        "admission_mode", "all_positions", "arrival", "batches", "dependencies", "done", "full",
        "has_cancelled_early", "has_starts", "in_bundles", "last_batch_size", "limited", "longest", "map_state", "mean",
        "next_in_order", "open_rows", "opened", "order", "position", "precedence", "priority", "probe_first", "probing",
        "queued", "readers", "ready", "resubmit_from", "row_by_row", "spec", "stage", "started", "step_states",
        "stopped", "to_batch", "turn",
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
        self.readers: list[Callable[[int], Any]] = []
        self.dependencies: list[StepState] = []
        self.opened = 0
        self.order: Sequence[int] | None = None
        self.ready: list[int] = []
        self.next_in_order: int | None = None
        self.done = 0
        self.queued = False
        self.has_starts = False
        self.in_bundles = False
        self.row_by_row = False
        self.limited = False
        self.stopped = 0
        self.resubmit_from: dict[int, int] = {}
        self.probe_first = False
        self.probing = 0
        self.to_batch: deque[MapRow] = deque()
        self.priority = 0.0
        self.precedence = 0
        self.arrival = 0
        self.turn: int | None = None
        self.open_rows = OpenRows()
        self.spec: ChainSpec
        self.mean: float | None = None
        self.longest = 0.0
        self.last_batch_size = 0
        self.batches = 0
        self.admission_mode = AdmissionMode.OPEN

    @property
    def reads_open_map(self) -> bool:
        """Whether its rows follow those of a map that was open when it started."""
        return 0 < self.precedence < CALL

    def find_ready(self) -> None:
        """Find the rows that are ready at the beginning, of a chain with dependencies."""
        width = self.map_state.width if self.map_state is not None else 1
        if self.dependencies:
            self.check_rows(range(width or 0))

    def check_rows(self, rows: range) -> None:
        """Note which of these rows, which came up later, are ready."""
        for row in rows:
            self.dependency_finished(row, self.dependencies[0])

    def dependency_finished(self, row: int, of: StepState) -> bool:
        """Note that `row` is final of a step that the chain waits for; return whether it is of all, and so is ready."""
        width = self.map_state.width if self.map_state is not None else 1
        is_ready = row < (width or 0) and all(d.has(row) for d in self.dependencies)
        if is_ready:
            heappush(self.ready, row)
        return is_ready

    def key_of(self, row: int) -> str | None:
        """Return the key of a row that came with one; None where it is made from the item."""
        return None

    def combines(self, step_state: StepState) -> bool:
        """Whether its rows combine children of a step."""
        return False

    def reads_full_groups(self, row: int) -> bool:
        """Whether what a row reads does not depend on how long the map is whose children it combines."""
        return True

    def reads_of(self, row: int) -> Sequence[tuple[int, int | None]]:
        """Return the steps and rows (None: all) that this row reads and others of the chain do not."""
        return ()

    def reads_unstarted(self, row: int) -> bool:
        """Whether something that this row waits for was never started."""
        return any(d.children is not None and d.children[row] is NEVER_STARTED for d in self.dependencies)

    def items_of(self, row: int) -> tuple[Any, ...]:
        """Return the inputs of a row that starts."""
        try:
            return tuple([read(row) for read in self.readers])
        except IndexError:  # a list of the caller that is read directly, and that is shorter now
            return tuple([_item_or_error(read, row) for read in self.readers])

    def columns_of(self, rows: range) -> tuple[Sequence[Any], ...]:
        """Return the inputs of rows that start, a column for each reader."""
        return tuple([_column(read, rows) for read in self.readers])

    @property
    def has_ready_row(self) -> bool:
        """Whether a row of a chain with dependencies can start."""
        return bool(self.ready) and (self.next_in_order is None or self.ready[0] <= self.next_in_order)

    def next_row(self) -> int | None:
        """Return the next row to start, None if none is ready now."""
        if self.dependencies:
            if not self.has_ready_row:
                return None
            row = heappop(self.ready)
            if row == self.next_in_order:
                self.next_in_order += 1
            return row
        row = self.opened
        width = 1 if self.map_state is None else self.map_state.width
        if width is not None and row < width:
            self.opened = row + 1
            return row if self.order is None else self.order[row]
        return None

    def next_rows(self, size: int) -> range:
        """Return the next rows to start, at most so many, of a chain without dependencies that goes in map order."""
        assert self.map_state is not None and self.map_state.width is not None
        first, self.opened = self.opened, min(self.opened + size, self.map_state.width)
        return range(first, self.opened)

    def ancestors(self, position: int) -> set[int]:
        """Return the positions that `position` reads, directly or not, and itself."""
        found = {position}
        todo = [position]
        while todo:
            for kind, p in self.spec.steps[todo.pop()].wiring:
                if kind == STEP and p not in found:
                    found.add(p)
                    todo.append(p)
        return found


class RunState:
    """Steps, chains, counters and timers of a run.

    Attributes
    ----------
    step_states
        One for each step of the plan, by number.
    map_states
        One for each map domain of the plan, by number.
    chains
        Chains by their number.
    events
        Attempts that ended since the loop took the last ones; None if no history is written.
    logs
        What bodies logged, likewise.
    kept_failures
        What is kept of failures, by the name of their task and whether they are final.
    failure_events
        What failed or is retried after a failure, likewise.
    submitted_jobs
        Jobs that were submitted and have not reported.
    jobs
        Jobs for the session, since the last turn.
    cancelled
        Jobs that were abandoned; the loop cancels them in the session and takes them away.
    timers
        Rows that wait for a time, with the bit of the step that does.
    deadlines
        Ends of time limits, and what to do then.
    touched
        Groups to consider, because one of their inputs became known.
    recalled
        Jobs to be taken back as far as they have not begun; the loop does so, and empties it.
    after_recall
        What is to be done once that is known.
    ending
        The time of the run is up, and nothing is started.
    stopping
        Modes of chains whose map gave up, by number of the chain, until they are acted on.
    streams
        What generators have yielded that run, by number of the step and row.
    raised
        The first ordinary error of a task, kept under ``raise_on_exception``.
    watched
        Rows for which others wait, by number of the step and row.
    watched_ended
        Those of them that have ended, until they are acted on: place, state, length of the result, and a reference of
        its own to a result that is held.
    over
        The run has ended; receipts are ignored.
    paused
        Nothing is started until the run is resumed.
    now
        The time of this turn.
    """

    __slots__ = (
        "after_recall", "cancelled", "chains", "deadlines", "ending", "events", "failure_events", "groups", "jobs",
        "kept_failures", "logs", "map_states", "now", "over", "paused", "plan", "raised", "recalled", "step_states",
        "stopping", "streams", "submitted_jobs", "timers", "touched", "watched", "watched_ended",
    )  # fmt: skip

    def __init__(self, plan: Plan, record: bool = False) -> None:
        self.plan = plan
        self.step_states = [StepState(step) for step in plan.steps]
        self.map_states: list[MapState] = []
        for domain in plan.domains:
            self.map_states.append(self._map_state(domain))
        self.groups: dict[int, Group] = {group.number: group for group in plan.groups}
        self.chains: dict[int, StepChain] = {}
        self.events: list[AttemptEvent] | None = [] if record else None
        self.logs: list[AttemptLog] = []
        self.failure_events: list[FailureEvent] = []
        self.kept_failures: dict[tuple[str, bool], KeptFailures] = {}
        self.submitted_jobs = 0
        self.jobs: list[Job | Bundle] = []
        self.cancelled: list[Job] = []
        self.recalled: list[Job] = []
        self.after_recall: list[Callable[[Now], None]] = []
        self.ending = False
        self.timers: Timers[tuple[StepChain, MapRow, int]] = Timers()
        self.deadlines: Timers[Callable[[Now], None]] = Timers()
        self.touched: set[int] = set()
        self.streams: dict[tuple[int, int], Stream] = {}
        self.stopping: dict[int, AdmissionMode] = {}
        self.watched: set[tuple[int, int]] = set()
        self.watched_ended: deque[tuple[tuple[int, int], State, Any, Held | None]] = deque()
        self.raised: BaseException | None = None
        self.over = False
        self.paused = False
        self.now = Now(clocks.current.seconds(), clocks.now)

    def add_domain(self, domain: MapDomain) -> MapState:
        """Note a map domain of a plan that grows."""
        map_state = self._map_state(domain)
        self.map_states.append(map_state)
        return map_state

    def _map_state(self, domain: MapDomain) -> MapState:
        map_state = MapState(domain)
        if domain.grows and domain.sources[0].domain is not None:
            map_state.below = self.map_states[domain.sources[0].domain]
        return map_state

    def find(self, slug: str) -> StepState:
        """Return the step with a slug."""
        return next(step_state for step_state in self.step_states if step_state.step.slug == slug)


def chains_of(map_state: MapState) -> Iterable[StepChain]:
    """Return the chains that run over a map domain."""
    return {id(m.chain): m.chain for m in map_state.members if m.chain is not None}.values()
