"""What becomes of jobs that the infrastructure lost: suspects run again alone; the one that killed its worker crashed.

When a worker dies, the cluster blames every task it was running, and after some deaths gives one up: not always the
guilty one. Each child that was given up is a suspect. While there are suspects nothing new is admitted; what runs may
end, for :data:`PATIENCE` seconds at most; then each suspect gets one run alone, one step at a time. One that ends is
cleared, whatever its state; one that kills its worker again is guilty. A generator that yields more than it ever has is
cleared, too, while it runs: its items are worked on, which it may wait for, and its next death is a first one again.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from prefectish.engine.clock import Now
from prefectish.engine.context import get_logger
from prefectish.engine.jobs.job import Job, Record
from prefectish.engine.jobs.protocol import LossCause, Lost
from prefectish.engine.scheduling.cancellation import Cancellation
from prefectish.engine.scheduling.deaths import Deaths, Next, after_death, is_let_pass
from prefectish.engine.scheduling.run_state import NEVER_STARTED, NOT_RUN, MapRow, StepChain, StepState
from prefectish.engine.state import Crashed, Retrying
from prefectish.engine.worker.attempt_context import CRASH_PROGRESS
from prefectish.engine.worker.decide import is_undecided
from prefectish.errors import RemoteError

#: Seconds that what runs beside a suspect may take to end, before the suspect gets a worker to itself.
PATIENCE = 30.0
#: How often an input that was lost with its worker is sent again, at least.
RESENDS = 3

logger = get_logger("engine")


class Suspect(NamedTuple):
    """A step of a row that was lost with its worker."""

    chain: StepChain
    map_row: MapRow
    position: int


class Suspects:
    """The suspects of a run.

    Attributes
    ----------
    current
        The suspect that runs alone now.
    crashes
        Runs alone that killed their worker, by step number and row.
    busy
        Whether admission is closed.
    deaths
        Deaths of workers that were reported one by one, by step number and row.
    """

    __slots__ = ("_queue", "_since", "busy", "crashes", "current", "deaths")

    def __init__(self) -> None:
        self._queue: deque[Suspect] = deque()
        self._since: float | None = None
        self.current: Suspect | None = None
        self.busy = False
        self.crashes: dict[tuple[int, int], int] = {}
        self.deaths: dict[tuple[int, int], Deaths] = {}

    def add(self, suspect: Suspect, now: float) -> None:
        """Note a suspect."""
        if self._since is None:
            self._since = now
        self._queue.append(suspect)
        self.busy = True

    def next(self, others: int, now: float) -> Suspect | None:
        """Return the suspect that can run alone now, if one can.

        Parameters
        ----------
        others
            Jobs that are submitted.
        """
        if self.current is not None or not self._queue:
            return None
        assert self._since is not None
        if others and now < self._since + PATIENCE:
            return None
        self.current = self._queue.popleft()
        return self.current

    def is_current(self, chain: StepChain, map_row: MapRow) -> bool:
        """Whether the suspect that runs alone now is of this row."""
        current = self.current
        return current is not None and current.chain is chain and current.map_row is map_row

    def clear(self, now: float) -> None:
        """Note that the current suspect's run alone has ended, or got further than ever before."""
        self.current = None
        self.busy = bool(self._queue)
        self._since = now if self._queue else None

    def count_crash(self, suspect: Suspect, crash_retries: int) -> bool:
        """Count a run alone that killed its worker; True if no further one is allowed."""
        key = (suspect.chain.step_states[suspect.position].step.number, suspect.map_row.row)
        self.crashes[key] = self.crashes.get(key, 0) + 1
        return self.crashes[key] > crash_retries

    def due(self) -> float | None:
        """When patience ends; None if no suspect waits for it."""
        if self.current is not None or not self._queue or self._since is None:
            return None
        return self._since + PATIENCE


class CrashPolicy:
    """Tries lost steps again, and says when one has crashed.

    Attributes
    ----------
    lost
        What ended the whole run, if something did.
    """

    def __init__(self, cancellation: Cancellation) -> None:
        self.run_state = cancellation.run_state
        self.rows = cancellation.rows
        self.changes = cancellation.changes
        self.suspects = cancellation.rows.suspects
        self.cancellation = cancellation
        self.lost: Lost | None = None

    def lose(self, chain: StepChain, map_row: MapRow, job: Job, lost: Lost, now: Now) -> None:
        """Deal with a job that the infrastructure lost: a suspect, another try, or a crash."""
        awaited = self.changes.lose_job(map_row, job, lost)
        if lost.fatal:
            self.end_crashed(lost, now)
            return
        position = lost.position if lost.position is not None and awaited >> lost.position & 1 else _first(awaited)
        if lost.is_death and job.batch is not None:
            return  # the rows of a batch that was lost are submitted again one by one
        suspect = Suspect(chain, map_row, position)
        alone = job.solo and self.suspects.is_current(chain, map_row)
        if lost.is_death and not alone:
            after = self._after_death(suspect, lost)
            if after is Next.ALONE:
                self.changes.wait_row(chain, map_row, position)
                self.suspects.add(suspect, now.seconds)
            if after is not Next.CRASHED:
                return
            self._end_crashed_row(suspect, lost)
            return
        if alone and lost.asked and is_let_pass(lost, self._deaths_of(suspect)):
            self.changes.wait_row(chain, map_row, position)
            self.suspects.add(suspect, now.seconds)
            return
        retries: int = chain.step_states[position].step.task.crash_retries
        allowed = max(retries, RESENDS) if lost.cause is LossCause.INPUT_LOST else retries
        if not self.suspects.count_crash(suspect, allowed):
            if alone:
                self.changes.wait_row(chain, map_row, position)
                self.suspects.add(suspect, now.seconds)
            return
        self._end_crashed_row(suspect, lost)

    def _after_death(self, suspect: Suspect, lost: Lost) -> Next:
        """Return what becomes of a child whose worker died while others may have been there."""
        if not lost.tolerated and not lost.of_memory:
            return Next.ALONE
        step_state = suspect.chain.step_states[suspect.position]
        deaths = self._deaths_of(suspect)
        retries: int = step_state.step.task.crash_retries
        before, after = deaths.of_memory, after_death(lost, deaths, retries)
        if deaths.of_memory > before and after is Next.AGAIN:
            logger.warning(
                "Task %r: its worker ran out of memory%s; it is tried again (%d of %d)",
                name_of(step_state, suspect.map_row.row), f" ({lost.worker})" if lost.worker else "",
                deaths.of_memory, retries,
            )  # fmt: skip
        return after

    def _deaths_of(self, suspect: Suspect) -> Deaths:
        key = suspect.chain.step_states[suspect.position].step.number, suspect.map_row.row
        return self.suspects.deaths.setdefault(key, Deaths())

    def _end_crashed_row(self, suspect: Suspect, lost: Lost) -> None:
        """End a step of a row that was lost too often."""
        chain, map_row, position = suspect
        step_state = chain.step_states[position]
        counted = self.suspects.deaths.get((step_state.step.number, map_row.row))
        if counted is not None and lost.tolerated and lost.deaths:
            lost = lost.replace(deaths=counted.begun)
        crashed = _crashed(step_state, map_row.row, lost)
        self.changes.end_position(chain, map_row, position, crashed)

    def after_crash(self, chain: StepChain, map_row: MapRow, position: int, record: Record) -> Record:
        """Decide on the record of an isolated body that died: Retrying if ``crash_retries`` allows it, else Crashed."""
        if not is_undecided(record.state):
            return record
        progress = record.state.context[CRASH_PROGRESS]
        rest = {name: value for name, value in record.state.context.items() if name != CRASH_PROGRESS}
        crashed = record.state.replace(context=rest)
        step_state = chain.step_states[position]
        task = step_state.step.task
        suspect = Suspect(chain, map_row, position)
        if chain.admission_mode or self.suspects.count_crash(suspect, task.crash_retries):
            return record.replace(state=crashed)
        text = f"{crashed.message}; it is started again"
        retrying = Retrying(text, run_count=progress["task_run_count"], context=progress)
        new = self.changes.notify_row(step_state, map_row.row, crashed, retrying)
        return record.replace(state=new, due_in_seconds=0.0)

    def start_suspect(self, now: Now) -> bool:
        """Run a suspect alone, once what runs beside it has ended or had its time; return whether none is left."""
        while self.suspects.current is None:
            suspect = self.suspects.next(self.run_state.submitted_jobs, now.seconds)
            if suspect is None:
                break
            self.changes.wake_row(suspect.map_row, 1 << suspect.position)
            if not self.step_alone(suspect):
                self.suspects.clear(now.seconds)
        return not self.suspects.busy

    def step_alone(self, suspect: Suspect) -> bool:
        """Submit the next step of a suspect's row that has to run before it is cleared; False if there is none."""
        chain, map_row, target = suspect
        if self.run_state.over or (map_row.final | map_row.waiting) >> target & 1:
            return False
        needed = chain.ancestors(target)
        startable = [p for p in self.rows.startable(chain, map_row) if p in needed]
        if not startable:
            return False
        self.rows.submit(chain, map_row, (startable[0],), solo=True)
        return True

    def end_crashed(self, lost: Lost, now: Now) -> None:
        """End the run because nothing of it can run; without a scheduler every child of an open map is lost."""
        self.lost = lost
        if lost.cause is LossCause.SCHEDULER_LOST:
            for step_state in self.run_state.step_states:
                chain = step_state.chain
                for row in range(len(step_state.children or ())):
                    if not step_state.has(row) and chain is not None and row not in chain.open_rows:
                        start = step_state.start_of(row) or NOT_RUN
                        self.changes.end_row(step_state, row, start, _crashed(step_state, row, lost))
        self.cancellation.end(lambda step_state, row: _crashed(step_state, row, lost), NEVER_STARTED, now)


def name_of(step_state: StepState, row: int) -> str:
    """Return the name of a child for a log line."""
    return step_state.step.label_of(row)


def _crashed(step_state: StepState, row: int, lost: Lost) -> Crashed:
    step = step_state.step
    if lost.deaths:
        text = f"worker died {lost.deaths} time{'s' * (lost.deaths != 1)} while running {step.place_of(row)}"
        if lost.detail:
            text = f"{text} ({lost.detail})"
    else:
        text = f"{step.label_of(row)} was lost: {lost.detail or lost.cause}"
    # A fan-in that takes whatever comes sees an exception in this child's place, as of any that failed.
    error = RemoteError(lost.cause.title().replace("-", ""), text)
    evidence = dict(lost.evidence or ({"worker": lost.worker} if lost.worker else {}))
    return Crashed(text, error, cause=lost.cause.value, evidence=evidence or None)


def _first(mask: int) -> int:
    return (mask & -mask).bit_length() - 1
