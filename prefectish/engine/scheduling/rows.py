"""The jobs of open branches: what of a branch can be submitted, what its records change, what it waits for."""

from __future__ import annotations

from collections.abc import Mapping

from prefectish.engine.clock import Now, later
from prefectish.engine.jobs.envelope import EncodedError
from prefectish.engine.jobs.job import STEP, Job, Record
from prefectish.engine.scheduling.admission import note_time
from prefectish.engine.scheduling.events import AttemptEvent
from prefectish.engine.scheduling.run_state import MapRow, StepChain
from prefectish.engine.scheduling.slowest import Slowest
from prefectish.engine.scheduling.table import RunState
from prefectish.engine.state import Cancelled, Pending, Retrying, Scheduled, State
from prefectish.engine.worker.cache import can_probe
from prefectish.engine.worker.logs.relay import AttemptLog

NOTHING: Mapping[int, State] = {}
#: Mean time of a branch, in seconds, beyond which the owner wants each of its records as its step ends.
SLOW_BRANCH = 0.5


def attempt_log(chain: StepChain, map_row: MapRow, position: int, record: Record) -> AttemptLog:
    """Return what an attempt logged, with the names of its child."""
    start = map_row.starts.get(position)
    attempt = start.run_count + 1 if isinstance(start, Retrying) else 1
    step = chain.step_states[position].step
    index = map_row.row if step.mapped else None
    name = record.state.context.get("task_run_name")
    assert record.lines is not None
    return AttemptLog(step.number, step.slug, step.name, map_row.row, index, attempt, record.worker, name, record.lines)


class Rows:
    """Submits the steps of open branches and takes their records.

    Attributes
    ----------
    held_back
        Branches that could go on and have to wait until suspects are cleared.
    batches
        Jobs of each batch that are still to report, by the number of the batch.
    slowest
        The children that took longest.
    """

    def __init__(self, run_state: RunState) -> None:
        self.run_state = run_state
        self.held_rows: list[tuple[StepChain, MapRow]] = []
        self.batches: dict[int, int] = {}
        self.slowest = Slowest()

    def record(self, chain: StepChain, map_row: MapRow, position: int, record: Record, now: Now) -> None:
        """Take the record of a step: its state is final, or says what it waits for."""
        state = record.state
        if record.lines is not None:
            self.run_state.logs.append(attempt_log(chain, map_row, position, record))
        if record.due_in_seconds is not None and isinstance(state, Scheduled):
            # The worker's clock may be off: its "in 3 seconds" counts from the owner's now. A state that could
            # not be pickled has become a failure, which is not due.
            state = state.replace(start_time=later(now.wall, record.due_in_seconds))
        if self.run_state.events is not None and type(state) is not Pending:
            start = map_row.starts.get(position)
            attempt = start.run_count + 1 if isinstance(start, Retrying) else 1
            number = chain.step_states[position].step.number
            key = record.item_key or chain.key_of(map_row.row)
            self.run_state.events.append(
                AttemptEvent(number, map_row.row, attempt, state, record.seconds, now.wall, record.worker, key)
            )
        if state.is_finished():
            map_row.final |= 1 << position
            if record.seconds > self.slowest.least:
                self.slowest.note(record.seconds, chain.step_states[position].step.number, map_row.row)
            self.run_state.changes.finish_row(chain.step_states[position], map_row.row, state, record.width)
        elif isinstance(state, Scheduled):
            self.wait(chain, map_row, position, state, record.due_in_seconds, now)
        elif type(state) is not Pending:
            # a state that a handler or ENDRUN left: neither final nor due, so it waits for somebody outside
            self.wait(chain, map_row, position, state, None, now)

    def wait(
        self, chain: StepChain, map_row: MapRow, position: int, state: State, due_in_seconds: float | None, now: Now
    ) -> None:
        """Keep a waiting state with its branch, and a timer if it is due some time."""
        if chain.admission_mode and due_in_seconds is not None:
            map_row.final |= 1 << position
            self.run_state.end_row(
                chain.step_states[position], map_row.row, state, Cancelled("retry cancelled: its map was stopped")
            )
            return
        bit = 1 << position
        map_row.waiting |= bit
        if due_in_seconds is not None:
            self.run_state.timers.at(now.seconds + due_in_seconds, (chain, map_row, bit))
        elif (watcher := chain.step_states[position].watcher) is not None:
            watcher.waits(map_row.row, state)
        if isinstance(state, Retrying) and isinstance(state._result, BaseException | EncodedError):
            state = state.replace(result=None)  # the error has been told, and need not travel with the next attempt
        map_row.starts = {**map_row.starts, position: state}

    def settle_row(self, chain: StepChain, map_row: MapRow, now: Now) -> None:
        """Close a branch whose steps are all final; submit what else of it can run."""
        if map_row.final == chain.full:
            if chain.open_rows.pop(map_row.row, None) is not None:
                chain.done += 1
                chain.probing -= map_row.probing
                note_time(chain, map_row.seconds)
        elif chain.full & ~(map_row.final | map_row.submitted | map_row.waiting):
            self.resubmit(chain, map_row, now)
        if map_row.counted and not map_row.submitted:
            map_row.counted = False
            self.run_state.admission.open -= 1

    def resubmit(self, chain: StepChain, map_row: MapRow, now: Now) -> None:
        """Submit the steps of a branch that are not final and whose inputs are, or will be by this same job."""
        positions = self.startable(chain, map_row)
        if not positions:
            return
        if self.run_state.suspects.busy or self.run_state.paused:
            self.held_rows.append((chain, map_row))
        elif self.run_state.admission.permit(chain, now.seconds):
            chain.probing -= map_row.probing
            map_row.probing = False
            self.submit(chain, map_row, positions)
        else:
            self.run_state.admission.waiting.append((chain, map_row))

    def probe(self, chain: StepChain, map_row: MapRow, now: Now) -> Job | None:
        """Begin a branch that has no place under its chain's limits: ask its cache, or wait for a place."""
        map_row.probing = True
        chain.probing += 1
        if map_row.starts or self.run_state.suspects.busy or not can_probe(chain.spec.steps[0]):
            self.resubmit(chain, map_row, now)
            return None
        return self.submit(chain, map_row, (0,), probe_only=True)

    def startable(self, chain: StepChain, map_row: MapRow) -> tuple[int, ...]:
        """Return the steps of a branch whose inputs are final, or will be by a job of all of them."""
        held = map_row.final | map_row.submitted | map_row.waiting
        positions: list[int] = []
        for position, spec in enumerate(chain.spec.steps):
            if not held >> position & 1 and all(
                map_row.final >> p & 1 or p in positions for kind, p in spec.wiring if kind == STEP
            ):
                positions.append(position)
        return tuple(positions)

    def submit(
        self,
        chain: StepChain,
        map_row: MapRow,
        positions: tuple[int, ...],
        solo: bool = False,
        probe_only: bool = False,
    ) -> Job:
        """Submit steps of a branch as a job."""
        full = len(positions) == len(chain.step_states)
        given = NOTHING if full else self._given(chain, map_row, positions)
        starts = map_row.starts and {p: s for p, s in map_row.starts.items() if p in positions}
        index = -1 if chain.map_state is None else map_row.row
        # where time may run out, whoever reads the states wants to know which of some single steps it was that hung
        watched = chain.map_state is None and bool(self.run_state.deadlines)
        every_step = solo or watched or (chain.mean or 0.0) > SLOW_BRANCH
        number, items = map_row.submissions, map_row.items
        job = Job(chain.spec, index, number, positions, items, given, starts, solo, every_step, probe_only)
        map_row.submissions += 1
        map_row.jobs = [j for j in map_row.jobs if j.awaiting]
        map_row.jobs.append(job)
        mask = chain.full if full else sum(1 << p for p in positions)
        job.awaiting = mask
        map_row.submitted |= mask
        self.run_state.submitted_jobs += 1
        if chain.map_state is not None and not map_row.counted:
            map_row.counted = True
            self.run_state.admission.open += 1
        self.run_state.jobs.append(job)
        return job

    def _given(self, chain: StepChain, map_row: MapRow, positions: tuple[int, ...]) -> Mapping[int, State]:
        """Return the final states of a branch that these steps of it read."""
        sources = {p for position in positions for kind, p in chain.spec.steps[position].wiring if kind == STEP}
        given: dict[int, State] = {}
        for p in sources:
            if map_row.final >> p & 1:
                children = chain.step_states[p].children
                state = children[map_row.row] if children is not None else None
                assert state is not None, "a final step of a branch has a state"
                given[p] = state
        return given

    def abandon(self, chain: StepChain, map_row: MapRow, mask: int) -> None:
        """Stop awaiting positions of a branch; a job that awaits nothing more is cancelled."""
        map_row.submitted &= ~mask
        map_row.waiting &= ~mask
        for job in map_row.jobs:
            if job.awaiting & mask:
                job.awaiting &= ~mask
                if not job.awaiting:
                    self.run_state.cancelled.append(job)
                    self.release_place(chain, job)
                    if job.solo:
                        self.run_state.suspects.clear(self.run_state.now.seconds)

    def release_place(self, chain: StepChain, job: Job) -> None:
        """Give back the place of a job that is not awaited any more; the branches of a batch had one together."""
        self.run_state.submitted_jobs -= 1
        if job.batch is not None:
            self.batches[job.batch] -= 1
            if self.batches[job.batch]:
                return
            del self.batches[job.batch]
            chain.batches -= 1
            self.run_state.admission.queue(chain)
        if not (job.solo or job.probe_only):  # these take no place
            self.run_state.admission.give_back(chain)

    def resubmit_held(self, now: Now) -> None:
        """Submit what waited for suspects to be cleared, or for a place under a limit."""
        held, self.held_rows = self.held_rows, []
        for chain, map_row in held:
            self.resubmit(chain, map_row, now)
        waiting = self.run_state.admission.waiting
        for _ in range(len(waiting)):
            chain, map_row = waiting.popleft()
            self.resubmit(chain, map_row, now)

    def resubmit_due(self, now: Now) -> None:
        """Submit the branches whose time has come."""
        timers = self.run_state.timers
        while (due := timers.pop(now.seconds)) is not None:
            chain, map_row, bit = due
            if map_row.waiting & bit:
                map_row.waiting ^= bit
                self.resubmit(chain, map_row, now)

    def drop_cancelled_timers(self) -> None:
        """Drop the next timers as long as they are of retries that were cancelled, so that nobody waits for them."""
        self.run_state.timers.drop(_is_abandoned)


def ancestors(chain: StepChain, position: int) -> set[int]:
    """Return the positions of a chain that `position` reads, directly or not, and itself."""
    found = {position}
    todo = [position]
    while todo:
        for kind, p in chain.spec.steps[todo.pop()].wiring:
            if kind == STEP and p not in found:
                found.add(p)
                todo.append(p)
    return found


def _is_abandoned(due: tuple[StepChain, MapRow, int]) -> bool:
    """Whether a timer is of a retry that was cancelled."""
    _, map_row, bit = due
    return not map_row.waiting & bit
