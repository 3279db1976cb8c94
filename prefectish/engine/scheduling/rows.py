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
from prefectish.engine.state import Cancelled, Pending, Queued, Retrying, Scheduled, State
from prefectish.engine.worker.cache import LOOK, can_look
from prefectish.engine.worker.logs.relay import AttemptLog

NOTHING: Mapping[int, State] = {}
#: Mean time of a branch, in seconds, beyond which the owner wants each of its records as its step ends.
SLOW_BRANCH = 0.5


def told_of(chain: StepChain, branch: MapRow, position: int, record: Record) -> AttemptLog:
    """Return what an attempt logged, with the names of its child."""
    start = branch.starts.get(position)
    attempt = start.run_count + 1 if isinstance(start, Retrying) else 1
    step = chain.runs[position].step
    index = branch.row if step.mapped else None
    name = record.state.context.get("task_run_name")
    assert record.lines is not None
    return AttemptLog(step.number, step.slug, step.name, branch.row, index, attempt, record.worker, name, record.lines)


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

    def __init__(self, table: RunState) -> None:
        self.table = table
        self.held_back: list[tuple[StepChain, MapRow]] = []
        self.batches: dict[int, int] = {}
        self.slowest = Slowest()

    def record(self, chain: StepChain, branch: MapRow, position: int, record: Record, now: Now) -> None:
        """Take the record of a step: its state is final, or says what it waits for."""
        state = record.state
        if record.lines is not None:
            self.table.told.append(told_of(chain, branch, position, record))
        if branch.starts and branch.starts.get(position) is LOOK:
            branch.starts = {}
            if isinstance(state, Pending | Queued):
                return  # nothing was found, so it needs a place
        if record.due_in is not None and isinstance(state, Scheduled):  # what could not travel has become a failure
            # The worker's clock may be off: its "in 3 seconds" counts from the owner's now.
            state = state.replace(start_time=later(now.wall, record.due_in))
        if self.table.events is not None and type(state) is not Pending:
            start = branch.starts.get(position)
            attempt = start.run_count + 1 if isinstance(start, Retrying) else 1
            number = chain.runs[position].step.number
            key = record.item_key or chain.key_of(branch.row)
            self.table.events.append(
                AttemptEvent(number, branch.row, attempt, state, record.seconds, now.wall, record.worker, key)
            )
        if state.is_finished():
            branch.final |= 1 << position
            if record.seconds > self.slowest.least:
                self.slowest.note(record.seconds, chain.runs[position].step.number, branch.row)
            self.table.finisher.row(chain.runs[position], branch.row, state, record.width)
        elif isinstance(state, Scheduled):
            self.wait(chain, branch, position, state, record.due_in, now)
        elif type(state) is not Pending:
            # a state that a handler or ENDRUN left: neither final nor due, so it waits for somebody outside
            self.wait(chain, branch, position, state, None, now)

    def wait(
        self, chain: StepChain, branch: MapRow, position: int, state: State, due_in: float | None, now: Now
    ) -> None:
        """Keep a waiting state with its branch, and a timer if it is due some time."""
        if chain.stopped and due_in is not None:
            branch.final |= 1 << position
            self.table.end_row(
                chain.runs[position], branch.row, state, Cancelled("retry cancelled: its map was stopped")
            )
            return
        bit = 1 << position
        branch.waiting |= bit
        if due_in is not None:
            self.table.timers.at(now.seconds + due_in, (chain, branch, bit))
        elif (watcher := chain.runs[position].watcher) is not None:
            watcher.waits(branch.row, state)
        if isinstance(state, Retrying) and isinstance(state._result, BaseException | EncodedError):
            state = state.replace(result=None)  # the error has been told, and need not travel with the next attempt
        branch.starts = {**branch.starts, position: state}

    def after(self, chain: StepChain, branch: MapRow, now: Now) -> None:
        """Close a branch whose steps are all final; submit what else of it can run."""
        if branch.final == chain.full:
            if chain.branches.pop(branch.row, None) is not None:
                chain.done += 1
                chain.ahead -= branch.ahead
                note_time(chain, branch.seconds)
        elif chain.full & ~(branch.final | branch.flying | branch.waiting):
            self.resubmit(chain, branch, now)
        if branch.counted and not branch.flying:
            branch.counted = False
            self.table.admission.open -= 1

    def resubmit(self, chain: StepChain, branch: MapRow, now: Now) -> None:
        """Submit the steps of a branch that are not final and whose inputs are, or will be by this same job."""
        positions = self.startable(chain, branch)
        if not positions:
            return
        if self.table.suspects.busy or self.table.paused:
            self.held_back.append((chain, branch))
        elif self.table.admission.permit(chain, now.seconds):
            chain.ahead -= branch.ahead
            branch.ahead = False
            self.send(chain, branch, positions)
        else:
            self.table.admission.waiting.append((chain, branch))

    def begin_ahead(self, chain: StepChain, branch: MapRow, now: Now) -> Job | None:
        """Begin a branch that has no place under its chain's limits: look into its cache, or wait for a place."""
        branch.ahead = True
        chain.ahead += 1
        if branch.starts or self.table.suspects.busy or not can_look(chain.spec.steps[0]):
            self.resubmit(chain, branch, now)
            return None
        branch.starts = {0: LOOK}
        return self.send(chain, branch, (0,))

    def startable(self, chain: StepChain, branch: MapRow) -> tuple[int, ...]:
        """Return the steps of a branch whose inputs are final, or will be by a job of all of them."""
        held = branch.final | branch.flying | branch.waiting
        positions: list[int] = []
        for position, spec in enumerate(chain.spec.steps):
            if not held >> position & 1 and all(
                branch.final >> p & 1 or p in positions for kind, p in spec.wiring if kind == STEP
            ):
                positions.append(position)
        return tuple(positions)

    def send(self, chain: StepChain, branch: MapRow, positions: tuple[int, ...], solo: bool = False) -> Job:
        """Submit steps of a branch as a job."""
        full = len(positions) == len(chain.runs)
        given = NOTHING if full else self._given(chain, branch, positions)
        starts = branch.starts and {p: s for p, s in branch.starts.items() if p in positions}
        index = -1 if chain.space is None else branch.row
        # where time may run out, whoever reads the states wants to know which of some single steps it was that hung
        watched = chain.space is None and bool(self.table.deadlines)
        every_step = solo or watched or (chain.mean or 0.0) > SLOW_BRANCH
        job = Job(chain.spec, index, branch.submissions, positions, branch.items, given, starts, solo, every_step)
        branch.submissions += 1
        branch.jobs = [j for j in branch.jobs if j.awaiting]
        branch.jobs.append(job)
        mask = chain.full if full else sum(1 << p for p in positions)
        job.awaiting = mask
        branch.flying |= mask
        self.table.in_flight += 1
        if chain.space is not None and not branch.counted:
            branch.counted = True
            self.table.admission.open += 1
        self.table.jobs.append(job)
        return job

    def _given(self, chain: StepChain, branch: MapRow, positions: tuple[int, ...]) -> Mapping[int, State]:
        """Return the final states of a branch that these steps of it read."""
        sources = {p for position in positions for kind, p in chain.spec.steps[position].wiring if kind == STEP}
        given: dict[int, State] = {}
        for p in sources:
            if branch.final >> p & 1:
                children = chain.runs[p].children
                state = children[branch.row] if children is not None else None
                assert state is not None, "a final step of a branch has a state"
                given[p] = state
        return given

    def give_up(self, chain: StepChain, branch: MapRow, mask: int) -> None:
        """Stop awaiting positions of a branch; a job that awaits nothing more is cancelled."""
        branch.flying &= ~mask
        branch.waiting &= ~mask
        for job in branch.jobs:
            if job.awaiting & mask:
                job.awaiting &= ~mask
                if not job.awaiting:
                    self.table.cancelled.append(job)
                    self.leave(chain, job)
                    if job.solo:
                        self.table.suspects.clear(self.table.now.seconds)

    def leave(self, chain: StepChain, job: Job) -> None:
        """Give back the place of a job that is not awaited any more; the branches of a batch had one together."""
        self.table.in_flight -= 1
        if job.batch is not None:
            self.batches[job.batch] -= 1
            if self.batches[job.batch]:
                return
            del self.batches[job.batch]
            chain.batches -= 1
            self.table.admission.queue(chain)
        if not (job.solo or job.starts.get(0) is LOOK):  # what runs alone, or only looks, took no place
            self.table.admission.give_back(chain)

    def let_go_on(self, now: Now) -> None:
        """Submit what waited for suspects to be cleared, or for a place under a limit."""
        held, self.held_back = self.held_back, []
        for chain, branch in held:
            self.resubmit(chain, branch, now)
        waiting = self.table.admission.waiting
        for _ in range(len(waiting)):
            chain, branch = waiting.popleft()
            self.resubmit(chain, branch, now)

    def fire(self, now: Now) -> None:
        """Submit the branches whose time has come."""
        timers = self.table.timers
        while (due := timers.pop(now.seconds)) is not None:
            chain, branch, bit = due
            if branch.waiting & bit:
                branch.waiting ^= bit
                self.resubmit(chain, branch, now)

    def forget_timers(self) -> None:
        """Drop the next timers as long as they are of retries that were cancelled, so that nobody waits for them."""
        self.table.timers.drop(_is_given_up)


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


def _is_given_up(due: tuple[StepChain, MapRow, int]) -> bool:
    """Whether a timer is of a retry that was cancelled."""
    _, branch, bit = due
    return not branch.waiting & bit
