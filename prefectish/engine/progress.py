"""One flow run, sans-io: receipts in, jobs out, then the verdict.

The loop of a run is::

    jobs = progress.start(moment)
    while not progress.done:
        session.submit(jobs)
        jobs = progress.advance(session.receipts(...), moment)

Nothing here does I/O, sleeps, or asks a clock: the time comes with each call as a :class:`Moment`. What a receipt
changes:

1. Each record is taken once: the job it belongs to must still await that position (a fence against late records).
2. A final state goes into the step's table. It may open gates of other lanes, add rows to a flattened map, end the step
   (``finishing``).
3. A step that ended may make other steps known; their groups are considered again (``opening``).
4. A state that waits (a retry, a pause, an input that is not final) stays with its branch, which leaves the window. A
retry
   is a timer here, and becomes a new job when it is due.
5. Places in the window go to the deepest lane that has a row, so a branch is finished before another is begun
   (``admission``).
6. A job that was lost with its worker makes a suspect, which runs again alone (``suspects``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import Any

from prefectish.caching.lookups import is_asked
from prefectish.engine import lanes as tables
from prefectish.engine.admission import Admission, note_time
from prefectish.engine.cached import remember
from prefectish.engine.capture import Value, capture
from prefectish.engine.executor import STEP, Held, Job, Lost, Receipt, Record
from prefectish.engine.finishing import Finisher
from prefectish.engine.lanes import Branch, Lane, StepRun
from prefectish.engine.limits import Limits
from prefectish.engine.opening import Notify, Opener
from prefectish.engine.plan import Plan
from prefectish.engine.policy import NEVER_STARTED
from prefectish.engine.recall import Recall
from prefectish.engine.recaller import Recaller
from prefectish.engine.recorder import Event
from prefectish.engine.state import (
    Cached,
    Cancelled,
    Crashed,
    Failed,
    Mapped,
    Paused,
    Pending,
    Resume,
    Retrying,
    Running,
    Scheduled,
    State,
    TimedOut,
)
from prefectish.engine.suspects import Suspect, Suspects
from prefectish.engine.timers import Timers
from prefectish.engine.verdict import CRASHED, finished, flow_state
from prefectish.engine.widths import element_width, measure
from prefectish.errors import RemoteError

NOTHING: Mapping[int, State] = {}
#: Mean time of a branch, in seconds, beyond which the owner wants each of its records as its step ends.
SLOW_BRANCH = 0.5
#: How often an input that was lost with its worker is sent again, at least.
RESENDS = 3


class Moment:
    """Now: seconds of a monotonic clock, and the wall clock that states show, asked only if a state shows it."""

    __slots__ = ("_read_wall", "_wall", "seconds")

    def __init__(self, seconds: float, read_wall: Callable[[], datetime]) -> None:
        self.seconds = seconds
        self._read_wall = read_wall
        self._wall: datetime | None = None

    @property
    def wall(self) -> datetime:
        """Return the aware time now, the same however often it is asked."""
        if self._wall is None:
            self._wall = self._read_wall()
        return self._wall


class Progress:
    """The state table of one run.

    Parameters
    ----------
    plan : the compiled flow.
    facts : facts of the run, for the context of every body.
    notify : called where the owner makes a transition (parents of maps, crashes); returns the state after the handlers.
    starts : state a step starts from, by step number: finished states are kept, waiting ones go on.
    window : branches of maps open at once, at most.
    slots : threads that run bodies, for the size of bundles.
    tag_limits : children of all tasks with a tag that run at once, at most.
    keep : numbers of the steps whose large results are kept.
    record : keep events for a history.
    recall : what is known of the run from before, if it is resumed.

    Attributes
    ----------
    events : what happened since the loop took them away; None if nobody records.
    in_flight : jobs that were submitted and not reported.
    cancelled : jobs that were given up; the loop tells the session and takes them away.
    """

    def __init__(
        self,
        plan: Plan,
        facts: Mapping[str, Any],
        *,
        notify: Notify,
        starts: Mapping[int, State] | None = None,
        window: int = 1,
        slots: int = 1,
        tag_limits: Mapping[str, int] | None = None,
        keep: Collection[int] = (),
        record: bool = False,
        recall: Recall | None = None,
    ) -> None:
        self._recaller = None if recall is None else Recaller(recall)
        self.plan = plan
        self.notify = notify
        self.events: list[Event] | None = [] if record else None
        self.runs = [StepRun(step) for step in plan.steps]
        self.opener = Opener(plan, self.runs, facts, notify, keep, keyed=record)
        self.admission = Admission(window, slots, Limits(plan, tag_limits))
        self.finisher = Finisher(plan, self.runs, self.opener.spaces, facts, self.admission.queue, keep)
        self.suspects = Suspects()
        self.lanes: dict[int, Lane] = {}
        self.in_flight = 0
        self.cancelled: list[Job] = []
        self._timers: Timers[tuple[Lane, Branch, int]] = Timers()
        self._deadlines: Timers[Callable[[Moment], None]] = Timers()
        self._ends: dict[str | None, tuple[float, str]] = {}
        self._jobs: list[Job] = []
        self._held_back: list[tuple[Lane, Branch]] = []
        self._bundles: dict[int, int] = {}
        self._bundle_count = 0
        self._groups = {group.number: group for group in plan.groups}
        self._ended = False
        self._lost: Lost | None = None
        self._draining = False
        self._now: Moment
        for number, state in sorted((starts or {}).items(), key=itemgetter(0)):  # sources first
            self._give(self.runs[number], state)

    # -- the calls of the loop -------------------------------------------------------------------------------------

    def start(self, now: Moment) -> list[Job]:
        """Return the first jobs."""
        for run in self.runs:
            if run.step.literal is not None:
                run.state, run.final = run.step.literal, True
        self.finisher.touched.update(self._groups)
        return self.advance((), now)

    def advance(self, receipts: Iterable[Receipt], now: Moment) -> list[Job]:
        """Take receipts and return the jobs that can run now."""
        self._now = now
        for receipt in receipts:
            self._take(receipt, now)
        if self._ended:
            return []
        self._fire(now)
        self._admit(now)
        self._timers.drop(_is_given_up)
        jobs, self._jobs = self._jobs, []
        return jobs

    @property
    def next_due(self) -> float | None:
        """When something is due, in seconds of the monotonic clock; None if nothing is."""
        if not (self._timers or self._deadlines or self.suspects.busy or self.admission.limits.waiting):
            return None
        due = (
            self._timers.next_due,
            self._deadlines.next_due,
            self.admission.limits.next_start(),
            self.suspects.due(),
        )
        return min((d for d in due if d is not None), default=None)

    @property
    def done(self) -> bool:
        """Whether nothing runs and nothing will: all tasks are finished, or wait for somebody outside."""
        if self._ended:
            return True
        if self._draining:
            return False
        return not (self.in_flight or self._timers or self._jobs or self.suspects.busy or self.admission.stuck)

    @property
    def raised(self) -> BaseException | None:
        """The first ordinary error of a task, under ``raise_on_exception``."""
        return self.finisher.raised

    def states(self) -> list[State]:
        """Return the state of each step as it is now, in the order of the plan."""
        return [run.snapshot() for run in self.runs]

    def verdict(self) -> State:
        """Return the state of the flow."""
        if self._lost is not None:
            return Failed(f"The run was cut short: {self._lost.detail}.", context={"exit_code": CRASHED})
        return flow_state(self.plan, self.states())

    def held(self) -> list[Held]:
        """Return the results that are still held where they were made."""
        states = (state for run in self.runs for state in run.children or ())
        found = (state._result for state in states if state is not None)
        return [result for result in found if isinstance(result, Held) and result.handle is not None]

    def limit_time(self, seconds: float, now: Moment) -> None:
        """End the run after so many seconds: open tasks are TimedOut, those not started Cancelled."""
        text = f"the flow run took longer than its timeout of {seconds:g} s"
        due = now.seconds + seconds
        self._ends[None] = due, text

        def stop(then: Moment) -> None:
            self.end(lambda run, row: TimedOut(text, TimeoutError(text)), NEVER_STARTED, then)

        self._deadlines.at(due, stop)

    def time_left(self, slug: str, now: Moment) -> tuple[float, str] | None:
        """Return the seconds that the map of a task and the run have left, and what to say then; None for no limit."""
        ends = [self._ends[name] for name in (None, slug) if name in self._ends]
        if not ends:
            return None
        due, text = min(ends)
        return due - now.seconds, text

    def paused(self) -> list[tuple[int, int, str]]:
        """Return what waits for somebody outside: number of the step, row, and name."""
        return [
            (lane.runs[position].step.number, branch.row, lane.spec.steps[position].label(branch.row))
            for lane in self.lanes.values()
            for branch in lane.branches.values()
            for position, state in branch.starts.items()
            if isinstance(state, Paused) and branch.waiting >> position & 1
        ]

    def resume(self, which: Iterable[tuple[int, int]], now: Moment) -> list[Job]:
        """Resume paused tasks, given by step number and row, and return the jobs that can run now."""
        for number, row in which:
            lane = self.runs[number].lane
            branch = lane.branches.get(row) if lane is not None else None
            if lane is None or branch is None:
                continue
            position = lane.position[number]
            paused = branch.starts[position]
            branch.starts = {**branch.starts, position: Resume("Resumed.", context=paused.context)}
            branch.waiting &= ~(1 << position)
            self._resubmit(lane, branch, now)
        return self.advance((), now)

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
                branch.seconds += record.seconds
                self._record(lane, branch, position, record, now)
        if receipt.lost is not None:
            self._lose(lane, branch, job, receipt.lost, now)
        if not job.awaiting:
            self._land(lane, job, now)
        self._after(lane, branch, now)

    def _land(self, lane: Lane, job: Job, now: Moment) -> None:
        """Note that a job has nothing more to report."""
        self._leave(lane, job)
        suspect = self.suspects.current
        if job.solo and suspect is not None and not self._step_alone(suspect):
            self.suspects.clear(now.seconds)

    def _leave(self, lane: Lane, job: Job) -> None:
        """Give back the place of a job that is not awaited any more; the branches of a bundle had one together."""
        self.in_flight -= 1
        if job.bundle is not None:
            self._bundles[job.bundle] -= 1
            if self._bundles[job.bundle]:
                return
            del self._bundles[job.bundle]
            lane.bundles -= 1
            self.admission.queue(lane)
        if not job.solo:  # what runs alone took no place
            self.admission.give_back(lane)

    def _record(self, lane: Lane, branch: Branch, position: int, record: Record, now: Moment) -> None:
        state = record.state
        if self.events is not None and type(state) is not Pending:
            start = branch.starts.get(position)
            attempt = start.run_count + 1 if isinstance(start, Retrying) else 1
            number = lane.runs[position].step.number
            self.events.append(
                Event(number, branch.row, attempt, state, record.seconds, now.wall, record.worker, record.item_key)
            )
        if state.is_finished():
            branch.final |= 1 << position
            self.finisher.row(lane.runs[position], branch.row, state, record.width)
        elif isinstance(state, Scheduled):
            self._wait(lane, branch, position, state, record.due_in, now)
        elif type(state) is not Pending:
            # a state that a handler or ENDRUN left: neither final nor due, so it waits for somebody outside
            self._wait(lane, branch, position, state, None, now)

    def _wait(self, lane: Lane, branch: Branch, position: int, state: State, due_in: float | None, now: Moment) -> None:
        """Keep a waiting state with its branch, and a timer if it is due some time."""
        if lane.stopped and due_in is not None:
            branch.final |= 1 << position
            self._end_row(lane.runs[position], branch.row, state, Cancelled("retry cancelled: its map was stopped"))
            return
        bit = 1 << position
        branch.waiting |= bit
        if due_in is not None:
            # The worker's clock may be off: its "in 3 seconds" counts from the owner's now.
            state = state.replace(start_time=now.wall + timedelta(seconds=due_in))
            self._timers.at(now.seconds + due_in, (lane, branch, bit))
        branch.starts = {**branch.starts, position: state}

    def _after(self, lane: Lane, branch: Branch, now: Moment) -> None:
        """Close a branch whose steps are all final; submit what else of it can run."""
        if branch.final == lane.full:
            if lane.branches.pop(branch.row, None) is not None:
                lane.done += 1
                note_time(lane, branch.seconds)
        elif lane.full & ~(branch.final | branch.flying | branch.waiting):
            self._resubmit(lane, branch, now)
        if branch.counted and not branch.flying:
            branch.counted = False
            self.admission.open -= 1

    def _fire(self, now: Moment) -> None:
        """Do what is due."""
        while (end := self._deadlines.pop(now.seconds)) is not None:
            end(now)
        while (due := self._timers.pop(now.seconds)) is not None:
            lane, branch, bit = due
            if branch.waiting & bit:
                branch.waiting ^= bit
                self._resubmit(lane, branch, now)

    # -- submitting ------------------------------------------------------------------------------------------------

    def _resubmit(self, lane: Lane, branch: Branch, now: Moment) -> None:
        """Submit the steps of a branch that are not final and whose inputs are, or will be by this same job."""
        positions = self._startable(lane, branch)
        if not positions:
            return
        if self.suspects.busy:
            self._held_back.append((lane, branch))
        elif self.admission.permit(lane, now.seconds):
            self._send(lane, branch, positions)
        else:
            self.admission.waiting.append((lane, branch))

    def _startable(self, lane: Lane, branch: Branch) -> tuple[int, ...]:
        held = branch.final | branch.flying | branch.waiting
        positions: list[int] = []
        for position, spec in enumerate(lane.spec.steps):
            if not held >> position & 1 and all(
                branch.final >> p & 1 or p in positions for kind, p in spec.wiring if kind == STEP
            ):
                positions.append(position)
        return tuple(positions)

    def _send(self, lane: Lane, branch: Branch, positions: tuple[int, ...], solo: bool = False) -> Job:
        """Submit steps of a branch as a job."""
        full = len(positions) == len(lane.runs)
        given = NOTHING if full else self._given(lane, branch, positions)
        starts = branch.starts and {p: s for p, s in branch.starts.items() if p in positions}
        index = -1 if lane.space is None else branch.row
        every_step = solo or (lane.mean or 0.0) > SLOW_BRANCH
        job = Job(lane.spec, index, branch.submissions, positions, branch.items, given, starts, solo, every_step)
        branch.submissions += 1
        branch.jobs = [j for j in branch.jobs if j.awaiting]
        branch.jobs.append(job)
        mask = lane.full if full else sum(1 << p for p in positions)
        job.awaiting = mask
        branch.flying |= mask
        self.in_flight += 1
        if lane.space is not None and not branch.counted:
            branch.counted = True
            self.admission.open += 1
        self._jobs.append(job)
        return job

    def _given(self, lane: Lane, branch: Branch, positions: tuple[int, ...]) -> Mapping[int, State]:
        """Return the final states of a branch that these steps of it read."""
        sources = {p for position in positions for kind, p in lane.spec.steps[position].wiring if kind == STEP}
        given: dict[int, State] = {}
        for p in sources:
            if branch.final >> p & 1:
                children = lane.runs[p].children
                state = children[branch.row] if children is not None else None
                assert state is not None, "a final step of a branch has a state"
                given[p] = state
        return given

    # -- lanes -----------------------------------------------------------------------------------------------------

    def _consider(self, now: Moment) -> None:
        """Open what has become known, until nothing more does."""
        touched = self.finisher.touched
        while touched:
            group = touched.pop()
            lane, ended = self.opener.consider(self._groups[group])
            for run in ended:
                self.finisher.ended(run)
            if lane is None:
                continue
            touched.add(group)
            self.lanes[lane.spec.ident] = lane
            lane.limited = any(self.admission.limits.limited(run.step.number) for run in lane.runs)
            for run in lane.runs:
                self.finisher.touch_consumers(run)
            if lane.gates:
                width = lane.space.width if lane.space is not None else 1
                for row in range(width or 0):
                    lane.open_gate(row)
            self.admission.queue(lane)
            for run in lane.runs:
                if not run.left:
                    self.finisher.step(run)

    def _admit(self, now: Moment) -> None:
        """Start what has a place: suspects alone, else single steps, and rows of maps."""
        finisher, admission = self.finisher, self.admission
        if self._draining:
            if not self.in_flight:
                self.end(lambda run, row: Cancelled("cancelled"), NEVER_STARTED, now)
            return
        if self.suspects.busy:
            self._start_suspect(now)
            if self.suspects.busy:
                return
        if self._held_back or admission.waiting:
            self._let_go_on(now)
        while True:
            if finisher.stopping:
                self._stop_maps(now)
            if finisher.touched:  # rows that start from a final state, and iterators that end, make more known
                self._consider(now)
            lane = admission.next_lane()
            if lane is None:
                break
            self._begin_next(lane, now)
        admission.come_back()

    def _let_go_on(self, now: Moment) -> None:
        """Submit what waited for suspects to be cleared, or for a place under a limit."""
        held, self._held_back = self._held_back, []
        for lane, branch in held:
            self._resubmit(lane, branch, now)
        waiting = self.admission.waiting
        for _ in range(len(waiting)):
            lane, branch = waiting.popleft()
            self._resubmit(lane, branch, now)

    def _begin_next(self, lane: Lane, now: Moment) -> None:
        """Start the next row of a lane, or a bundle of rows; the lane stays queued until it has none."""
        size = self.admission.bundle_size(lane)
        if not size:
            return  # it is queued again when a bundle of it has ended
        if not self.admission.permit(lane, now.seconds):
            self.admission.stand_aside(lane)
            return
        jobs: list[Job] = []
        for _ in range(size):
            row = 0 if lane.space is None else self._next_row(lane)
            if row is None:
                break
            job = self._begin(lane, row, now)
            if job is not None:
                jobs.append(job)
        if not jobs:
            self.admission.give_back(lane)
        if lane.space is not None and (jobs or row is not None):
            self.admission.queue(lane)
        if lane.spec.batch is not None and jobs:
            self._bundle(lane, jobs)

    def _next_row(self, lane: Lane) -> int | None:
        """Return the next row to start; rows of a stopped map end here instead."""
        while True:
            row = self.admission.next_row(lane, self.finisher)
            if row is None or not self._is_stopped(lane, row):
                return row
            self._never_start(lane, row)

    def _bundle(self, lane: Lane, jobs: list[Job]) -> None:
        self._bundle_count += 1
        self._bundles[self._bundle_count] = len(jobs)
        lane.bundles += 1
        for job in jobs:
            job.bundle = self._bundle_count

    def _begin(self, lane: Lane, row: int, now: Moment) -> Job | None:
        """Open a branch and submit it whole; steps with a start state of their own may be final, or wait."""
        branch = Branch(row, tuple([pick(row) for pick in lane.pickers]))
        lane.branches[row] = branch
        if not lane.started:
            self._first_start(lane, now)
        if self._recaller is not None:
            return self._begin_recalled(self._recaller, lane, branch, now)
        if any(run.starts is not None for run in lane.runs):
            return self._begin_from(lane, branch, now)
        return self._send(lane, branch, lane.all_positions)

    def _begin_from(self, lane: Lane, branch: Branch, now: Moment) -> Job | None:
        for position, run in enumerate(lane.runs):
            start = run.start_of(branch.row)
            if start is None or type(start) is Pending:
                continue
            if finished(start):
                branch.final |= 1 << position
                self.finisher.row(run, branch.row, start, _width_of_given(run, start))
            elif isinstance(start, Running) or (isinstance(start, Scheduled) and start.start_time is None):
                self._wait(lane, branch, position, start, None, now)
            elif isinstance(start, Scheduled) and (left := _seconds_until(start, now)) > 0:
                self._wait(lane, branch, position, start, left, now)
            else:
                branch.starts = {**branch.starts, position: start}
        positions = self._startable(lane, branch)
        job = self._send(lane, branch, positions) if positions else None
        self._after(lane, branch, now)
        return job

    def _begin_recalled(self, recaller: Recaller, lane: Lane, branch: Branch, now: Moment) -> Job | None:
        """Open a branch of a run that is resumed: what is kept is final, the rest runs."""
        for position, kept in recaller.kept(lane, branch, self.plan, self.runs).items():
            run = lane.runs[position]
            branch.final |= 1 << position
            if self.events is not None:
                number, row, key = run.step.number, branch.row, recaller.item_key(lane, branch.row)
                record = (kept.attempts, kept.state, kept.seconds, now.wall, kept.worker, key)
                self.events.append(Event(number, row, *record))
            self.finisher.row(run, branch.row, kept.state, _width_of_given(run, kept.state))
        positions = self._startable(lane, branch)
        job = self._send(lane, branch, positions) if positions else None
        self._after(lane, branch, now)
        return job

    def _first_start(self, lane: Lane, now: Moment) -> None:
        """Start the clocks of maps with a time limit."""
        lane.started = True
        for position, run in enumerate(lane.runs):
            limit = run.step.task.map_timeout
            if limit is not None and run.step.mapped:
                text = f"{run.step.slug} took longer than its map_timeout of {limit:g} s"
                due = now.seconds + limit
                self._ends[run.step.slug] = due, text
                self._deadlines.at(due, partial(self._map_timed_out, lane, position, text))

    def _give(self, run: StepRun, state: State) -> None:
        """Start a step from `state`: a finished one is kept, any other is where the step goes on."""
        run.state = state
        if type(state) is Cached and is_asked(run.step.task):
            remember(run.step.task, state)  # whether it still stands for the run is the cache's to say
            run.state = tables.NOT_RUN
            return
        if isinstance(state, Mapped) and run.step.mapped:
            run.starts = state
            if state.map_states and finished(state) and not self._may_grow(run):
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

    def _may_grow(self, run: StepRun) -> bool:
        """Whether a flattened map has elements to come, because the caller gave its source unfinished."""
        space = self.plan.spaces[run.step.space] if run.step.space is not None else None
        if space is None or not space.grows:
            return False
        source = self.runs[space.tokens[0].source]
        return not source.final and (source.starts is not None or source.blocked)

    # -- losses ----------------------------------------------------------------------------------------------------

    def _lose(self, lane: Lane, branch: Branch, job: Job, lost: Lost, now: Moment) -> None:
        """Deal with a job that the infrastructure lost: a suspect, another try, or a crash."""
        awaited = job.awaiting
        branch.flying &= ~awaited
        job.awaiting = 0
        if lost.fatal:
            self._end_crashed(lost, now)
            return
        position = lost.position if lost.position is not None and awaited >> lost.position & 1 else _first(awaited)
        if lost.cause == "killed-worker" and job.bundle is not None:
            return  # the branches of a bundle that was lost are submitted again one by one
        suspect = Suspect(lane, branch, position)
        if lost.cause == "killed-worker" and not job.solo:
            branch.waiting |= 1 << position
            self.suspects.add(suspect, now.seconds)
            return
        retries: int = lane.runs[position].step.task.crash_retries
        if not self.suspects.convict(suspect, max(retries, RESENDS) if lost.cause == "input-lost" else retries):
            if job.solo:
                branch.waiting |= 1 << position
                self.suspects.add(suspect, now.seconds)
            return
        branch.final |= 1 << position
        run = lane.runs[position]
        self._end_row(run, branch.row, branch.starts.get(position, tables.NOT_RUN), _crashed(run, branch.row, lost))

    def _start_suspect(self, now: Moment) -> None:
        """Run a suspect alone, once what runs beside it has ended or had its time."""
        while self.suspects.current is None:
            suspect = self.suspects.next(self.in_flight, now.seconds)
            if suspect is None:
                return
            suspect.branch.waiting &= ~(1 << suspect.position)
            if not self._step_alone(suspect):
                self.suspects.clear(now.seconds)

    def _step_alone(self, suspect: Suspect) -> bool:
        """Submit the next step of a suspect's branch that has to run before it is cleared; False if there is none."""
        lane, branch, target = suspect
        if self._ended or (branch.final | branch.waiting) >> target & 1:
            return False
        needed = _ancestors(lane, target)
        startable = [p for p in self._startable(lane, branch) if p in needed]
        if not startable:
            return False
        self._send(lane, branch, (startable[0],), solo=True)
        return True

    # -- stopping --------------------------------------------------------------------------------------------------

    def _stop_maps(self, now: Moment) -> None:
        """Act on maps that gave up: nothing new starts, retries are dropped, and running children too if asked."""
        stopping = self.finisher.stopping
        while stopping:
            ident, action = stopping.popitem()
            lane = self.lanes[ident]
            lane.stopped = action
            if lane.space is not None and lane.space.source is not None:
                lane.space.source, lane.space.closed = None, True
            for branch in list(lane.branches.values()):
                self._stop_branch(lane, branch, drop=action == "cancel", now=now)
            self.admission.queue(lane)
            if lane.space is not None and lane.space.closed:
                for run in lane.runs:
                    self.finisher.step(run)

    def _stop_branch(self, lane: Lane, branch: Branch, drop: bool, now: Moment) -> None:
        """Cancel the waiting steps of an open branch, and with `drop` the running ones."""
        if drop:
            self._give_up(lane, branch, lane.full)
        for position, run in enumerate(lane.runs):
            bit = 1 << position
            waiting = branch.waiting & bit and position in branch.starts and _is_due_some_time(branch.starts[position])
            if not branch.final & bit and (waiting or drop):
                branch.final |= bit
                branch.waiting &= ~bit
                text = "cancelled: its map was stopped" if drop else "retry cancelled: its map was stopped"
                self._end_row(run, branch.row, branch.starts.get(position, tables.NOT_RUN), Cancelled(text))
        self._after(lane, branch, now)

    def _is_stopped(self, lane: Lane, row: int) -> bool:
        if lane.stopped:
            return True
        return any(gate.children is not None and gate.children[row] is NEVER_STARTED for gate in lane.gates)

    def _never_start(self, lane: Lane, row: int) -> None:
        """End a row of a stopped map without starting it."""
        for run in lane.runs:
            self._end_row(run, row, run.start_of(row) or tables.NOT_RUN, NEVER_STARTED)
        lane.done += 1

    def _map_timed_out(self, lane: Lane, position: int, text: str, now: Moment) -> None:
        """End a map whose time is up: open children are TimedOut, those not started are Cancelled."""
        run = lane.runs[position]
        if run.final:
            return
        lane.stopped = lane.stopped or "stop"
        for branch in list(lane.branches.values()):
            self._end_position(lane, branch, position, TimedOut(text, TimeoutError(text)), now)
        self.admission.queue(lane)

    def _give_up(self, lane: Lane, branch: Branch, mask: int) -> None:
        """Stop awaiting positions of a branch; a job that awaits nothing more is cancelled."""
        branch.flying &= ~mask
        branch.waiting &= ~mask
        for job in branch.jobs:
            if job.awaiting & mask:
                job.awaiting &= ~mask
                if not job.awaiting:
                    self.cancelled.append(job)
                    self._leave(lane, job)
                    if job.solo:
                        self.suspects.clear(self._now.seconds)

    def drain(self, now: Moment) -> None:
        """Start nothing more, let what runs end, and then end the run."""
        self._draining = True
        for lane in self.lanes.values():
            for branch in list(lane.branches.values()):
                self._stop_branch(lane, branch, drop=False, now=now)

    def cancel(self, slug: str, row: int | None, now: Moment) -> None:
        """Cancel a task that is not finished, or one child of it; what follows it decides by its trigger.

        Parameters
        ----------
        slug : of the step.
        row : of the child; None for all children, also those to come.
        """
        run = next(run for run in self.runs if run.step.slug == slug)
        lane = run.lane
        if run.final:
            return
        if lane is None:
            run.state, run.final = self.notify(run, run.state, Cancelled("cancelled")), True
            self.finisher.ended(run)
            return
        position = lane.position[run.step.number]
        for branch in [b for b in lane.branches.values() if row is None or b.row == row]:
            self._end_position(lane, branch, position, Cancelled("cancelled"), now)
        if row is None:
            lane.stopped = lane.stopped or "stop"
            self.admission.queue(lane)

    def _end_position(self, lane: Lane, branch: Branch, position: int, state: State, now: Moment) -> None:
        """End one step of an open branch from outside; what reads it in the branch is submitted again."""
        if branch.final >> position & 1:
            return
        gone = 1 << position | sum(1 << p for p in range(len(lane.runs)) if position in _ancestors(lane, p))
        self._give_up(lane, branch, gone)
        branch.final |= 1 << position
        self._end_row(lane.runs[position], branch.row, branch.starts.get(position, tables.NOT_RUN), state)
        self._after(lane, branch, now)

    def end(self, open_state: Callable[[StepRun, int], State], rest: State, now: Moment) -> None:
        """End the run now: every child gets a state, nothing more is started, no trigger is asked.

        Parameters
        ----------
        open_state : state of a child whose branch is open.
        rest : state of everything that was never started.
        """
        self._ended = True
        self._now = now
        for lane in self.lanes.values():
            for branch in list(lane.branches.values()):
                self._end_branch(lane, branch, open_state)
            lane.branches.clear()
        for run in self.runs:
            if not (run.final or run.blocked):
                self._end_step(run, rest)
        self._timers.clear()
        self._deadlines.clear()
        self._jobs.clear()

    def _end_branch(self, lane: Lane, branch: Branch, state: Callable[[StepRun, int], State]) -> None:
        self._give_up(lane, branch, lane.full)
        for position, run in enumerate(lane.runs):
            if not branch.final >> position & 1:
                branch.final |= 1 << position
                old = branch.starts.get(position, tables.NOT_RUN)
                self._end_row(run, branch.row, old, state(run, branch.row))

    def _end_step(self, run: StepRun, rest: State) -> None:
        """Give what was never started of a step its state."""
        if run.space is not None:
            run.space.closed = True
        if run.children is None:
            run.state, run.final = self.notify(run, run.state, rest), True
            return
        for row, state in enumerate(run.children):
            if state is None:
                self._end_row(run, row, run.start_of(row) or tables.NOT_RUN, rest)
        self.finisher.step(run)

    def _end_crashed(self, lost: Lost, now: Moment) -> None:
        """End the run because nothing of it can run; without a scheduler every child of an open map is lost."""
        self._lost = lost
        if lost.cause == "scheduler-lost":
            for run in self.runs:
                for row, state in enumerate(run.children or ()):
                    if state is None and run.lane is not None and row not in run.lane.branches:
                        self._end_row(run, row, run.start_of(row) or tables.NOT_RUN, _crashed(run, row, lost))
        self.end(lambda run, row: _crashed(run, row, lost), NEVER_STARTED, now)

    def _end_row(self, run: StepRun, row: int, old: State, state: State) -> None:
        """Give a row a final state that the owner decides; handlers see it."""
        state = self.notify(run, old, state)
        if self.events is not None:
            self.events.append(Event(run.step.number, row, 0, state, 0.0, self._now.wall, None, None))
        self.finisher.row(run, row, state, None)


def _crashed(run: StepRun, row: int, lost: Lost) -> Crashed:
    label = f"{run.step.slug}[{row}]" if run.step.mapped else run.step.slug
    if lost.deaths:
        text = f"worker died {lost.deaths} times while running {label}"
        if lost.detail:
            text = f"{text} ({lost.detail})"
    else:
        text = f"{label} was lost: {lost.detail or lost.cause}"
    # A fan-in that takes whatever comes sees an exception in this child's place, as of any that failed.
    error = RemoteError(lost.cause.title().replace("-", ""), text)
    return Crashed(text, error, cause=lost.cause, evidence={"worker": lost.worker} if lost.worker else None)


def _ancestors(lane: Lane, position: int) -> set[int]:
    """Return the positions of a lane that `position` reads, directly or not, and itself."""
    found = {position}
    todo = [position]
    while todo:
        for kind, p in lane.spec.steps[todo.pop()].wiring:
            if kind == STEP and p not in found:
                found.add(p)
                todo.append(p)
    return found


def _is_given_up(due: tuple[Lane, Branch, int]) -> bool:
    """Whether a timer is of a retry that was cancelled."""
    _, branch, bit = due
    return not branch.waiting & bit


def _is_due_some_time(state: State) -> bool:
    return isinstance(state, Scheduled) and state.start_time is not None


def _seconds_until(state: Scheduled, now: Moment) -> float:
    return 0.0 if state.start_time is None else (state.start_time - now.wall).total_seconds()


def _width_of_given(run: StepRun, state: State) -> Any:
    """Return what a map over a state that was not made in this run has to know; None if nobody asks, or it is gone."""
    depth = run.step.measure
    if not state.is_successful() or not depth or (run.step.mapped and depth < 2):
        return None
    outcome = capture(lambda: element_width(state.result) if run.step.mapped else measure(state.result, depth))
    return outcome.value if isinstance(outcome, Value) else None


def _first(mask: int) -> int:
    return (mask & -mask).bit_length() - 1
