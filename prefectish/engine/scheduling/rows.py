"""The jobs of open rows: what of a row can be submitted, what its records change, what it waits for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from heapq import heapreplace
from typing import TYPE_CHECKING, Any

from prefectish.engine.clock import Now, later
from prefectish.engine.jobs.bundle import Bundle, BundleRecords
from prefectish.engine.jobs.envelope import EncodedError
from prefectish.engine.jobs.failures import KeptFailures
from prefectish.engine.jobs.job import CALL, STEP, Job, Record, Upcoming
from prefectish.engine.plan.item_key import ITEM_KEY
from prefectish.engine.scheduling.admission import Admission
from prefectish.engine.scheduling.changes import Changes
from prefectish.engine.scheduling.events import AttemptEvent
from prefectish.engine.scheduling.run_state import NEVER_STARTED, NOT_RUN, MapRow, StepChain, StepState
from prefectish.engine.scheduling.same_key import SameKeys
from prefectish.engine.state import (
    Cancelled,
    Failed,
    Finished,
    Pending,
    Retrying,
    Scheduled,
    State,
    Success,
    plain_success,
)
from prefectish.engine.task_states import SlowChild
from prefectish.engine.worker.attempt_context import BEFORE_TURN, MISS, attempt_number
from prefectish.engine.worker.cache import can_probe
from prefectish.engine.worker.logs.relay import AttemptLog
from prefectish.engine.worker.result_names import UNCLAIMED
from prefectish.kinds import is_a

if TYPE_CHECKING:
    from prefectish.engine.scheduling.crashes import Suspects

#: What the next attempt has to know of how its child started.
_OF_ALL_ATTEMPTS = frozenset({MISS, UNCLAIMED, ITEM_KEY})
NOTHING: Mapping[int, State] = {}
#: Mean time of a row, in seconds, beyond which each of its records is asked for as its step ends.
SLOW_ROW = 0.5
#: Number of children that are kept as those that took longest; any other costs one comparison.
SLOWEST = 20


class Rows:
    """Submits the steps of open rows and takes their records.

    Attributes
    ----------
    held_rows
        Rows that could continue and wait until suspects are cleared, or the run is resumed.
    batches
        Jobs of each batch that are still to report, by the number of the batch.
    slowest
        A heap of seconds, step number and row of the attempts that took longest.
    """

    def __init__(self, changes: Changes, admission: Admission, suspects: Suspects) -> None:
        self.changes = changes
        self.run_state = changes.run_state
        self.admission = admission
        self.suspects = suspects
        self.held_rows: list[tuple[StepChain, MapRow]] = []
        self.batches: dict[int, int] = {}
        self.slowest = [(0.0, -1, -1)] * SLOWEST
        self.same_keys = SameKeys(self)
        self._batch_count = 0

    def record(self, chain: StepChain, map_row: MapRow, position: int, record: Record, now: Now) -> None:
        """Take the record of a step: its state is final, or says what it waits for."""
        if not record.begun:
            return  # its job was recalled: it is as if it had not been submitted
        state = record.state
        if record.lines is not None:
            self.run_state.logs.append(attempt_log(chain, map_row, position, record))
        if record.due_in_seconds is not None and isinstance(state, Scheduled):
            # The worker's clock may be off: its "in 3 seconds" counts from the client's now. A state that could
            # not be pickled has become a failure, which is not due.
            state = state.replace(start_time=later(now.wall, record.due_in_seconds))
        if self.run_state.events is not None or type(state) is not Success:
            state, noted = self._kept(chain.step_states[position].step.name, state)
            self._note(chain, map_row, position, record, noted, now)
        if isinstance(state, Finished):
            if record.seconds > self.slowest[0][0]:
                heapreplace(self.slowest, (record.seconds, chain.step_states[position].step.number, map_row.row))
            self.changes.finish_position(chain, map_row, position, state, record.width)
        elif isinstance(state, Scheduled):
            self.wait(chain, map_row, position, state, record.due_in_seconds, now)
        elif type(state) is Pending:
            if state._context is not None and MISS in state._context:
                self.same_keys.meet(chain, map_row, position, record, now)
        else:
            # a state that a handler or ENDRUN left: neither final nor due, so it waits for a decision from outside
            self.wait(chain, map_row, position, state, None, now)

    def _kept(self, task: str, state: State) -> tuple[State, State]:
        """Return what is kept of a state, and what is noted of it: of a failure, if many were before it, its text."""
        if not isinstance(state, Failed | Retrying):
            return state, state
        known = self.run_state.kept_failures.get(key := (task, state.is_failed()))
        if known is None:
            known = self.run_state.kept_failures[key] = KeptFailures()
        return known.take(state)

    def _note(self, chain: StepChain, map_row: MapRow, position: int, record: Record, state: State, now: Now) -> None:
        """Note the end of an attempt for the history, and a failure for the log."""
        step_state, start = chain.step_states[position], map_row.starts.get(position)
        attempt = attempt_number(start)
        if self.run_state.events is not None and type(state) is not Pending:
            key = record.item_key or chain.key_of(map_row.row)
            self.run_state.events.append(
                AttemptEvent(
                    step_state.step.number,
                    map_row.row,
                    attempt,
                    state,
                    record.seconds,
                    now.wall,
                    record.worker,
                    key,
                    None,
                    record.cost,
                )
            )
        if isinstance(state, Failed | Retrying):
            in_turn = attempt - (0 if start is None else start.context.get(BEFORE_TURN, 0))
            self.changes.note_failure(step_state, map_row.row, in_turn, state, record.due_in_seconds, record.worker)

    def wait(
        self, chain: StepChain, map_row: MapRow, position: int, state: State, due_in_seconds: float | None, now: Now
    ) -> None:
        """Keep a waiting state with its row, and a timer if it is due at a time."""
        if chain.admission_mode and due_in_seconds is not None:
            self.cancel_retry(chain, map_row, position, state)
            return
        if isinstance(state, Retrying) and is_a(state._raw_result, (BaseException, EncodedError)):
            state = state.replace(result=None)  # the error is recorded, and need not travel with the next attempt
        before = map_row.starts.get(position, NOT_RUN)
        known = {name: value for name, value in (before._context or {}).items() if name in _OF_ALL_ATTEMPTS}
        if known:
            state = state.replace(context={**state.context, **known})
        self.changes.wait_row(chain, map_row, position, state)
        if due_in_seconds is not None:
            self.run_state.timers.at(now.seconds + due_in_seconds, (chain, map_row, 1 << position))
        elif (watcher := chain.step_states[position].watcher) is not None:
            watcher.waits(map_row.row, state)

    def cancel_retry(self, chain: StepChain, map_row: MapRow, position: int, waiting: State | None = None) -> None:
        """End a step that waits for a time although its map was stopped."""
        cancelled = Cancelled("retry cancelled: its map was stopped")
        self.changes.end_position(chain, map_row, position, cancelled, waiting)

    def settle_row(self, chain: StepChain, map_row: MapRow, now: Now) -> None:
        """Close a row whose steps are all final; submit what else of it can run."""
        if map_row.final == chain.full:
            self.changes.close_row(chain, map_row)
            return
        if chain.full & ~(map_row.final | map_row.submitted | map_row.waiting):
            if chain.admission_mode:
                self._end_unbegun(chain, map_row)
                if map_row.final == chain.full:
                    self.changes.close_row(chain, map_row)
                    return
            self.resubmit(chain, map_row, now)
        if not map_row.submitted:
            self.changes.leave_window(map_row)

    def _end_unbegun(self, chain: StepChain, map_row: MapRow) -> None:
        """End what has not begun of a row of a stopped chain: all, or the step that was stopped and what reads it."""
        none_begun = not map_row.final and all(map(map_row.is_unbegun, chain.all_positions))
        for position in chain.all_positions:
            bit = 1 << position
            if (map_row.final | map_row.submitted | map_row.waiting) & bit:
                continue
            if not map_row.is_unbegun(position):
                if chain.stopped & bit:
                    self.cancel_retry(chain, map_row, position)
            elif none_begun or chain.stopped & bit or _reads_unbegun(chain, map_row, position):
                self.changes.end_position(chain, map_row, position, NEVER_STARTED)

    def resubmit(self, chain: StepChain, map_row: MapRow, now: Now) -> None:
        """Submit the steps of a row that are not final and whose inputs are, or will be by this same job."""
        positions = self.startable(chain, map_row)
        if not positions:
            return
        if self.suspects.busy or self.run_state.paused or self.run_state.ending:
            self.held_rows.append((chain, map_row))
        elif map_row.probing and not map_row.was_in_batch and self.admission.is_batched(chain):
            self.changes.await_batch(chain, map_row)
        elif self.admission.permit(chain, now.seconds):
            self.changes.end_probe(chain, map_row)
            self.submit(chain, map_row, positions)
        else:
            self.admission.wait(chain, map_row)

    def probe(self, chain: StepChain, map_row: MapRow, now: Now) -> Job | None:
        """Begin a row that has no slot under the limits of its chain: probe its cache, or wait for a slot."""
        self.changes.probe(chain, map_row)
        if (
            any(type(s) is not Pending for s in map_row.starts.values())
            or self.suspects.busy
            or not can_probe(chain.spec.steps[0])
        ):
            self.resubmit(chain, map_row, now)
            return None
        return self.submit(chain, map_row, (0,), probe_only=True)

    def startable(self, chain: StepChain, map_row: MapRow) -> tuple[int, ...]:
        """Return the steps of a row whose inputs are final, or will be by a job of all of them."""
        if chain.precedence == CALL and not self._knows_items(map_row):
            return ()  # it is resubmitted as soon as they are known
        held = map_row.final | map_row.submitted | map_row.waiting
        positions: list[int] = []
        for position, spec in enumerate(chain.spec.steps):
            if not held >> position & 1 and all(
                map_row.final >> p & 1 or p in positions for kind, p in spec.wiring if kind == STEP
            ):
                positions.append(position)
        return tuple(positions)

    def _knows_items(self, map_row: MapRow) -> bool:
        """Whether all inputs of a call are final; what it followed is replaced by its state."""
        if not any(type(item) is Upcoming for item in map_row.items):
            return True
        items = tuple([self._state_of(item) if type(item) is Upcoming else item for item in map_row.items])
        self.changes.set_items(map_row, items)
        return not any(type(item) is Upcoming for item in items)

    def _state_of(self, upcoming: Upcoming) -> State | Upcoming:
        job = upcoming.job
        children = self.run_state.chains[job.chain.ident].step_states[upcoming.position].children
        return (children[job.index] if children is not None else None) or upcoming

    def submit(
        self,
        chain: StepChain,
        map_row: MapRow,
        positions: tuple[int, ...],
        solo: bool = False,
        probe_only: bool = False,
    ) -> Job:
        """Submit steps of a row as a job."""
        full = len(positions) == len(chain.step_states)
        given = NOTHING if full else _given(chain, map_row, positions)
        starts = map_row.starts and {p: s for p, s in map_row.starts.items() if p in positions}
        index = -1 if chain.map_state is None else map_row.row
        # Where time may run out, the states have to tell which of several single steps it was that hung.
        watched = chain.map_state is None and bool(self.run_state.deadlines)
        every_step = solo or watched or (chain.mean or 0.0) > SLOW_ROW
        number, items = map_row.submissions, map_row.items
        job = Job(chain.spec, index, number, positions, items, given, starts, solo, every_step, probe_only)
        job.turn = self.admission.turn_of_job(chain)
        if map_row.was_in_batch and not solo:
            job.was_in_batch = True
        job.expected = expected_seconds(chain)
        if self.suspects.deaths and chain.spec.steps[0].differs:
            deaths = self.suspects.deaths.get((chain.step_states[0].step.number, map_row.row))
            job.memory_deaths = 0 if deaths is None else deaths.of_memory
        self.changes.submit_row(chain, map_row, job, chain.full if full else sum(1 << p for p in positions))
        return job

    def make_batch(self, chain: StepChain, jobs: list[Job]) -> None:
        """Note that jobs were submitted as one batch."""
        self._batch_count += 1
        self.batches[self._batch_count] = len(jobs)
        self.changes.add_batch(chain, 1)
        for job in jobs:
            job.batch = self._batch_count

    def submit_bundle(self, chain: StepChain, rows: range, columns: tuple[Sequence[Any], ...]) -> None:
        """Submit whole rows as one batch."""
        self._batch_count += 1
        bundle = Bundle(self._batch_count, chain.spec, rows, columns)
        bundle.turn = self.admission.turn_of_job(chain, len(rows))
        bundle.expected = expected_seconds(chain)
        self.batches[bundle.number] = len(rows)
        self.changes.add_batch(chain, 1)
        self.changes.open_bundle(chain, bundle)

    def finish_bundle(self, chain: StepChain, bundle: Bundle, records: BundleRecords, now: Now) -> None:
        """Finish the rows of a bundle that plainly succeeded, at once."""
        for position, (step_state, seconds) in enumerate(zip(chain.step_states, records.seconds, strict=True)):
            if max(seconds, default=0.0) > self.slowest[0][0]:
                self._note_slowest(step_state.step.number, bundle, seconds, records.others)
            if self.run_state.events is not None:
                self.run_state.events.extend(_events(step_state.step.number, bundle, records, position, now))
        self.changes.finish_bundle(chain, bundle, records)
        if self._leave_batch(chain, bundle.number, len(bundle) - len(records.others)) and chain.limited:
            self.admission.give_back(chain)

    def _note_slowest(self, number: int, bundle: Bundle, seconds: Sequence[float], others: Collection[int]) -> None:
        for n, row in enumerate(bundle.rows):
            if seconds[n] > self.slowest[0][0] and n not in others:
                heapreplace(self.slowest, (seconds[n], number, row))

    def _leave_batch(self, chain: StepChain, number: int, count: int) -> bool:
        """Note that rows of a batch have ended; return whether all have."""
        self.batches[number] -= count
        if self.batches[number]:
            return False
        del self.batches[number]
        self.changes.add_batch(chain, -1)
        self.admission.queue(chain)
        return True

    def abandon(self, chain: StepChain, map_row: MapRow, mask: int) -> None:
        """Await steps of a row no longer; a job that awaits nothing more is cancelled."""
        for job in self.changes.abandon(map_row, mask):
            self.job_ended(chain, job)
            if job.solo and self.suspects.is_current(chain, map_row):
                self.suspects.clear(self.run_state.now.seconds)

    def job_ended(self, chain: StepChain, job: Job) -> None:
        """Give back the slot of a job that is not awaited any more; the rows of a batch had one together."""
        if job.batch is not None and not self._leave_batch(chain, job.batch, 1):
            return
        if chain.limited and not (job.solo or job.probe_only):  # these take no slot
            self.admission.give_back(chain)

    def resubmit_held(self, now: Now) -> None:
        """Submit what waited for suspects to be cleared, or for a slot under a limit."""
        held, self.held_rows = self.held_rows, []
        for chain, map_row in held:
            self.resubmit(chain, map_row, now)
        waiting = self.admission.waiting
        for _ in range(len(waiting)):
            chain, map_row = waiting.popleft()
            self.resubmit(chain, map_row, now)

    def resubmit_due(self, now: Now) -> None:
        """Submit the rows whose time has come."""
        timers = self.run_state.timers
        while (due := timers.pop_due(now.seconds)) is not None:
            chain, map_row, bit = due
            if map_row.waiting & bit:
                self.changes.wake_row(map_row, bit)
                self.resubmit(chain, map_row, now)

    def drop_cancelled_timers(self) -> None:
        """Drop the next timers as long as they are of retries that were cancelled, so that the run can end."""
        self.run_state.timers.drop(_is_cancelled)


def expected_seconds(chain: StepChain) -> float | None:
    """Return how long a row is expected to take, by those that have ended; None if none has."""
    return min(chain.longest, 2 * (chain.mean or chain.longest)) if chain.longest else None


def _events(number: int, bundle: Bundle, records: BundleRecords, position: int, now: Now) -> Iterator[AttemptEvent]:
    """Yield the ends of the attempts of a step, of the rows that plainly succeeded."""
    results, seconds, keys = records.results[position], records.seconds[position], records.keys[position]
    for n, row in enumerate(bundle.rows):
        if n not in records.others:
            state, key = plain_success(results[n]), None if keys is None else keys[n]
            yield AttemptEvent(number, row, 1, state, seconds[n], now.wall, records.worker, key)


def attempt_log(chain: StepChain, map_row: MapRow, position: int, record: Record) -> AttemptLog:
    """Return what an attempt logged, with the names of its child."""
    attempt = attempt_number(map_row.starts.get(position))
    step = chain.step_states[position].step
    index = map_row.row if step.mapped else None
    name = record.state.context.get("task_run_name")
    assert record.lines is not None
    return AttemptLog(
        step.number, step.slug, step.name, step.label, map_row.row, index, attempt, record.worker, name, record.lines
    )


def _given(chain: StepChain, map_row: MapRow, positions: tuple[int, ...]) -> Mapping[int, State]:
    """Return the final states of a row that these steps of it read."""
    sources = {p for position in positions for kind, p in chain.spec.steps[position].wiring if kind == STEP}
    given: dict[int, State] = {}
    for p in sources:
        if map_row.final >> p & 1:
            children = chain.step_states[p].children
            state = children[map_row.row] if children is not None else None
            assert state is not None, "a final step of a row has a state"
            given[p] = state
    return given


def _reads_unbegun(chain: StepChain, map_row: MapRow, position: int) -> bool:
    """Whether a step reads one of its row that was never started."""
    sources = (chain.step_states[p] for kind, p in chain.spec.steps[position].wiring if kind == STEP)
    return any(s.children is not None and s.children[map_row.row] is NEVER_STARTED for s in sources)


def _is_cancelled(due: tuple[StepChain, MapRow, int]) -> bool:
    """Whether a timer is of a retry that was cancelled."""
    _, map_row, bit = due
    return not map_row.waiting & bit


def slowest_children(slowest: Iterable[tuple[float, int, int]], step_states: list[StepState]) -> tuple[SlowChild, ...]:
    """Return the children by their names, the slowest first."""
    longest: dict[tuple[int, int], float] = {}  # the longest attempt of a child that ran again
    for seconds, number, row in sorted(slowest, reverse=True):
        if number >= 0:
            longest.setdefault((number, row), seconds)
    orders = {number: _map_indexes(step_states[number]) for number in {number for number, _ in longest}}
    return tuple(
        SlowChild(
            step_states[number].step.slug,
            orders[number].get(row, row) if step_states[number].step.mapped else None,
            seconds,
        )
        for (number, row), seconds in longest.items()
    )


def _map_indexes(step_state: StepState) -> dict[int, int]:
    """Return the map index of each row that has another one."""
    order = step_state.map_state.order() if step_state.map_state is not None else None
    return {} if order is None else {row: index for index, row in enumerate(order)}
