"""One flow run, sans-io: receipts in, jobs out, then the verdict.

The loop of a run is::

    jobs = progress.start(moment)
    while not progress.done:
        session.submit(jobs)
        jobs = progress.advance(session.receipts(...), moment)

Nothing here does I/O, sleeps, or asks a clock: the time comes with each call as a :class:`Moment`. What a receipt changes:

1. Each record is taken once: the job it belongs to must still await that position (a fence against late records).
2. A final state goes into the step's table. It may open gates of other lanes, add rows to a flattened map, end the step.
3. A step that ended may make other steps known; their groups are considered again (``opening``).
4. A state that waits (a retry, a pause, an input that is not final) stays with its branch, which leaves the window. A retry
   is a timer here, and becomes a new job when it is due.
5. Places in the window go to the deepest lane that has a row, so a branch is finished before another is begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Any, NamedTuple

from prefectish.engine import lanes as tables
from prefectish.engine.executor import Job, Lost, Receipt, Record
from prefectish.engine.lanes import Branch, Lane, SpaceRun, StepRun
from prefectish.engine.opening import Notify, Opener, grow
from prefectish.engine.plan import Plan
from prefectish.engine.state import Crashed, Mapped, Pending, Running, Scheduled, State
from prefectish.engine.verdict import finished, flow_state
from prefectish.engine.widths import SCALAR

NOTHING: Mapping[int, State] = {}


class Moment(NamedTuple):
    """Now: seconds of a monotonic clock, and the wall clock that states show."""

    seconds: float
    wall: datetime


class Progress:
    """The state table of one run.

    Parameters
    ----------
    plan : the compiled flow.
    facts : facts of the run, for the context of every body.
    notify : called where the owner makes a transition (parents of maps, crashes); returns the state after the handlers.
    starts : state a step starts from, by step number: finished states are kept, waiting ones go on.
    window : branches of maps open at once, at most.
    """

    def __init__(
        self,
        plan: Plan,
        facts: Mapping[str, Any],
        *,
        notify: Notify,
        starts: Mapping[int, State] | None = None,
        window: int = 1,
    ) -> None:
        self.plan = plan
        self.notify = notify
        self.window = window
        self.runs = [StepRun(step) for step in plan.steps]
        self.opener = Opener(plan, self.runs, facts, notify)
        self.lanes: dict[int, Lane] = {}
        self.in_flight = 0
        self.raised: BaseException | None = None
        self._raise = bool(facts.get("raise_on_exception"))
        self._open = 0
        self._singles: list[tuple[int, int]] = []
        self._mapped: list[tuple[int, int]] = []
        self._timers: list[tuple[float, int, Lane, Branch, int]] = []
        self._timer_count = 0
        self._jobs: list[Job] = []
        self._touched: set[int] = set()
        self._groups = {group.number: group for group in plan.groups}
        self._growing: dict[int, list[SpaceRun]] = {}
        for space in self.opener.spaces:
            if space.space.grows:
                self._growing.setdefault(space.space.tokens[0].source, []).append(space)
        for number, state in (starts or {}).items():
            self._give(self.runs[number], state)

    # -- the three calls of the loop -----------------------------------------------------------------------------------

    def start(self, now: Moment) -> list[Job]:
        """Return the first jobs."""
        for run in self.runs:
            if run.step.literal is not None:
                run.state, run.final = run.step.literal, True
        self._touched.update(g.number for g in self.plan.groups)
        return self.advance((), now)

    def advance(self, receipts: Iterable[Receipt], now: Moment) -> list[Job]:
        """Take receipts and return the jobs that can run now."""
        for receipt in receipts:
            self._take(receipt, now)
        self._fire(now)
        self._admit(now)
        jobs, self._jobs = self._jobs, []
        return jobs

    @property
    def next_due(self) -> float | None:
        """When the next timer is due, in seconds of the monotonic clock; None if there is none."""
        return self._timers[0][0] if self._timers else None

    @property
    def done(self) -> bool:
        """Whether nothing runs and nothing will: all tasks are finished, or wait for somebody outside."""
        return not (self.in_flight or self._timers or self._jobs)

    def states(self) -> list[State]:
        """Return the state of each step as it is now, in the order of the plan."""
        return [run.snapshot() for run in self.runs]

    def verdict(self) -> State:
        """Return the state of the flow."""
        return flow_state(self.plan, self.states())

    # -- receipts --------------------------------------------------------------------------------------------------

    def _take(self, receipt: Receipt, now: Moment) -> None:
        job = receipt.job
        if not job.awaiting:
            return
        lane = self.lanes[job.lane.ident]
        branch = lane.branches[job.index if job.index > 0 else 0]
        for position, record in receipt.records:
            bit = 1 << position
            if job.awaiting & bit:
                job.awaiting ^= bit
                branch.flying ^= bit
                self._record(lane, branch, position, record, now)
        if receipt.lost is not None:
            self._lose(lane, branch, job, receipt.lost)
        if not job.awaiting:
            self.in_flight -= 1
        self._after(lane, branch)

    def _record(self, lane: Lane, branch: Branch, position: int, record: Record, now: Moment) -> None:
        state = record.state
        if state.is_finished():
            branch.final |= 1 << position
            self._finish_row(lane.runs[position], branch.row, state, record.width)
        elif isinstance(state, Scheduled):
            self._wait(lane, branch, position, state, record.due_in, now)
        elif type(state) is not Pending:
            # a state that a handler or ENDRUN left: neither final nor due, so it waits for somebody outside
            self._wait(lane, branch, position, state, None, now)

    def _wait(self, lane: Lane, branch: Branch, position: int, state: State, due_in: float | None, now: Moment) -> None:
        """Keep a waiting state with its branch, and a timer if it is due some time."""
        bit = 1 << position
        branch.waiting |= bit
        if due_in is not None:
            # The worker's clock may be off: its "in 3 seconds" counts from the owner's now.
            state = state.replace(start_time=now.wall + timedelta(seconds=due_in))
            self._timer_count += 1
            heappush(self._timers, (now.seconds + due_in, self._timer_count, lane, branch, bit))
        branch.starts = {**branch.starts, position: state}

    def _after(self, lane: Lane, branch: Branch) -> None:
        """Close a branch whose steps are all final; submit what else of it can run."""
        if branch.final == lane.full:
            del lane.branches[branch.row]
            lane.done += 1
        elif lane.full & ~(branch.final | branch.flying | branch.waiting):
            self._resubmit(lane, branch)
        if branch.counted and not branch.flying:
            branch.counted = False
            self._open -= 1

    def _fire(self, now: Moment) -> None:
        while self._timers and self._timers[0][0] <= now.seconds:
            _, _, lane, branch, bit = heappop(self._timers)
            if branch.waiting & bit:
                branch.waiting ^= bit
                self._resubmit(lane, branch)

    def _resubmit(self, lane: Lane, branch: Branch) -> None:
        """Submit the steps of a branch that are not final and whose inputs are, or will be by this same job."""
        held = branch.final | branch.flying | branch.waiting
        positions: list[int] = []
        given: dict[int, State] = {}
        for position, spec in enumerate(lane.spec.steps):
            if held >> position & 1:
                continue
            sources = [p for kind, p in spec.wiring if kind == 0]
            if not all(branch.final >> p & 1 or p in positions for p in sources):
                continue
            positions.append(position)
            for p in sources:
                if branch.final >> p & 1:
                    given[p] = self._child(lane, p, branch.row)
        if positions:
            self._send(
                lane, branch, tuple(positions), given, {p: s for p, s in branch.starts.items() if p in positions}
            )

    def _child(self, lane: Lane, position: int, row: int) -> State:
        children = lane.runs[position].children
        assert children is not None
        state = children[row]
        assert state is not None
        return state

    def _send(
        self,
        lane: Lane,
        branch: Branch,
        positions: tuple[int, ...],
        given: Mapping[int, State],
        starts: Mapping[int, State],
    ) -> None:
        index = -1 if lane.space is None else branch.row
        job = Job(lane.spec, index, branch.submissions, positions, branch.items, given, starts)
        branch.submissions += 1
        mask = lane.full if len(positions) == len(lane.runs) else sum(1 << p for p in positions)
        job.awaiting = mask
        branch.flying |= mask
        self.in_flight += 1
        if lane.space is not None and not branch.counted:
            branch.counted = True
            self._open += 1
        self._jobs.append(job)

    # -- final states ----------------------------------------------------------------------------------------------

    def _finish_row(self, run: StepRun, row: int, state: State, width: Any) -> None:
        assert run.children is not None
        run.children[row] = state
        run.left -= 1
        if run.step.mapped:
            if run.widths is not None:
                run.widths[row] = SCALAR if width is None or not state.is_successful() else width
                self._grow(run, row)
        else:
            run.facts = width
        for lane in run.gated:
            lane.open_gate(row)
            self._queue(lane)
        if self._raise and state.is_failed():
            self._note_error(state)
        if not run.left:
            self._finish_step(run)

    def _grow(self, run: StepRun, row: int) -> None:
        """Add the elements of a finished row to the flattened maps that read it."""
        for space in self._growing.get(run.step.number, ()):
            if space.paths is not None:
                grow(space, run, row)
                for lane in _lanes_of(space):
                    self._queue(lane)

    def _finish_step(self, run: StepRun) -> None:
        """End a step whose rows are all final, if no more rows can come."""
        if run.final or run.left or (run.space is not None and not run.space.closed):
            return
        children = run.children
        assert children is not None
        run.final = True
        if run.step.mapped:
            order = run.space.order() if run.space is not None else None
            states = list(children) if order is None else [children[row] for row in order]
            run.state = Mapped("Mapped tasks ended.", map_states=states, n_map_states=len(states))
        else:
            state = children[0]
            assert state is not None
            run.state = state
        self._touch_consumers(run)
        for space in self._growing.get(run.step.number, ()):
            space.closed = True
            for member in space.members:
                self._finish_step(member)

    def _touch_consumers(self, run: StepRun) -> None:
        steps = self.plan.steps
        self._touched.update(g for c in run.step.consumers if (g := steps[c].group) is not None)

    def _note_error(self, state: State) -> None:
        error = state.result
        if self.raised is None and isinstance(error, Exception):
            self.raised = error

    # -- lanes -----------------------------------------------------------------------------------------------------

    def _consider(self, now: Moment) -> None:
        """Open what has become known, until nothing more does."""
        while self._touched:
            lane, ended = self._open_lane(self._touched.pop())
            for run in ended:
                self._touch_consumers(run)
            if lane is None:
                continue
            for run in lane.runs:
                self._touch_consumers(run)
            if lane.gates:
                width = lane.space.width if lane.space is not None else 1
                for row in range(width or 0):
                    lane.open_gate(row)
            self._queue(lane)
            for run in lane.runs:
                if not run.left:
                    self._finish_step(run)

    def _open_lane(self, group: int) -> tuple[Lane | None, Sequence[StepRun]]:
        lane, ended = self.opener.consider(self._groups[group])
        if lane is not None:
            self.lanes[lane.spec.ident] = lane
            self._touched.add(group)
        return lane, ended

    def _queue(self, lane: Lane) -> None:
        """Put a lane among those that may have a row to start; the deepest come first."""
        if not lane.queued:
            lane.queued = True
            heappush(self._singles if lane.space is None else self._mapped, (-lane.stage, lane.spec.ident))

    def _admit(self, now: Moment) -> None:
        """Start rows: single steps at once, branches of maps as the window has places."""
        while True:
            self._consider(now)  # rows that start from a final state, and iterators that end, make more known
            if self._singles:
                self._begin(self._next(self._singles), 0, now)
            elif self._mapped and self._open < self.window:
                self._begin_row(self._next(self._mapped), now)
            else:
                return

    def _begin_row(self, lane: Lane, now: Moment) -> None:
        """Start the next row of a lane, which stays queued until it has none."""
        row = self._next_row(lane)
        if row is not None:
            self._queue(lane)
            self._begin(lane, row, now)

    def _next(self, heap: list[tuple[int, int]]) -> Lane:
        lane = self.lanes[heappop(heap)[1]]
        lane.queued = False
        return lane

    def _next_row(self, lane: Lane) -> int | None:
        space = lane.space
        assert space is not None
        row = lane.next_row()
        if row is not None or lane.gates or space.source is None:
            return row
        if tables.pull(space):
            for run in space.members:
                assert run.children is not None
                run.children.append(None)
                run.left += 1
            assert space.width is not None
            space.width += 1
        elif not space.closed:
            space.closed = True
        if space.closed:
            for run in space.members:
                self._finish_step(run)
        for other in _lanes_of(space):
            if other is not lane and not other.gates:
                self._queue(other)
        return lane.next_row()

    def _begin(self, lane: Lane, row: int, now: Moment) -> None:
        """Open a branch and submit it whole; steps with a start state of their own may be final, or wait."""
        branch = Branch(row, tuple([pick(row) for pick in lane.pickers]))
        lane.branches[row] = branch
        if any(run.starts is not None for run in lane.runs):
            self._begin_from(lane, branch, now)
        else:
            self._send(lane, branch, tuple(range(len(lane.runs))), NOTHING, NOTHING)

    def _begin_from(self, lane: Lane, branch: Branch, now: Moment) -> None:
        for position, run in enumerate(lane.runs):
            start = run.start_of(branch.row)
            if start is None or type(start) is Pending:
                continue
            if finished(start):
                branch.final |= 1 << position
                self._finish_row(run, branch.row, start, _width_of_given(run, start))
            elif isinstance(start, Running):
                self._wait(lane, branch, position, start, None, now)
            elif isinstance(start, Scheduled) and start.start_time is None:
                self._wait(lane, branch, position, start, None, now)
            elif isinstance(start, Scheduled) and start.start_time > now.wall:
                self._wait(lane, branch, position, start, (start.start_time - now.wall).total_seconds(), now)
            else:
                branch.starts = {**branch.starts, position: start}
        self._after(lane, branch)

    # -- states that the caller gave, states that the infrastructure gives -------------------------------------------

    def _give(self, run: StepRun, state: State) -> None:
        """Start a step from `state`: a finished one is kept, any other is where the step goes on."""
        run.state = state
        if isinstance(state, Mapped) and run.step.mapped:
            run.starts = state
            if state.map_states and finished(state):
                run.final, run.children = True, list(state.map_states)
        elif state.is_finished():
            run.final = True
        elif state.is_running():
            run.blocked = True
        else:
            run.starts = state
        if run.final and run.widths is not None and run.children is not None:
            run.widths.update((row, _width_of_given(run, s)) for row, s in enumerate(run.children) if s is not None)
        if not run.final and not run.blocked and isinstance(state, Mapped):
            run.state = tables.NOT_RUN

    def _lose(self, lane: Lane, branch: Branch, job: Job, lost: Lost) -> None:
        """End the step that the infrastructure lost; the rest of the branch is submitted with its state as an input."""
        position = lost.position if lost.position is not None else _first(job.awaiting)
        branch.flying &= ~job.awaiting
        job.awaiting = 0
        run = lane.runs[position]
        label = lane.spec.steps[position].label(job.index)
        if lost.deaths:
            text = f"worker died {lost.deaths} times while running {label}"
        else:
            text = f"{label} was lost: {lost.detail or lost.cause}"
        crashed = Crashed(text, cause=lost.cause, evidence={"worker": lost.worker} if lost.worker else None)
        state = self.notify(run, branch.starts.get(position, tables.NOT_RUN), crashed)
        branch.final |= 1 << position
        self._finish_row(run, branch.row, state, None)


def _lanes_of(space: SpaceRun) -> Iterable[Lane]:
    return {id(m.lane): m.lane for m in space.members if m.lane is not None}.values()


def _width_of_given(run: StepRun, state: State) -> Any:
    from prefectish.engine.widths import element_width, measure

    if not state.is_successful() or not run.step.measure:
        return None
    return element_width(state.result) if run.step.mapped else measure(state.result, run.step.measure)


def _first(mask: int) -> int:
    return (mask & -mask).bit_length() - 1
