"""What becomes of jobs that the infrastructure lost: suspects run again alone; the guilty one has crashed."""

from __future__ import annotations

from prefectish.engine.clock import Now
from prefectish.engine.context import get_logger
from prefectish.engine.jobs.job import Job
from prefectish.engine.jobs.protocol import LossCause, Lost
from prefectish.engine.scheduling.cancellation import Cancellation
from prefectish.engine.scheduling.failure_policy import NEVER_STARTED
from prefectish.engine.scheduling.rows import ancestors
from prefectish.engine.scheduling.run_state import NOT_RUN, MapRow, StepChain, StepState
from prefectish.engine.scheduling.suspects import Suspect
from prefectish.engine.state import Crashed
from prefectish.errors import RemoteError

#: Last lines of a dead process that are logged.
SHOWN = 10
#: How often an input that was lost with its worker is sent again, at least.
RESENDS = 3

logger = get_logger("engine")


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
        self.cancellation = cancellation
        self.lost: Lost | None = None

    def lose(self, chain: StepChain, map_row: MapRow, job: Job, lost: Lost, now: Now) -> None:
        """Deal with a job that the infrastructure lost: a suspect, another try, or a crash."""
        awaited = job.awaiting
        map_row.submitted &= ~awaited
        job.awaiting = 0
        if lost.fatal:
            self.end_crashed(lost, now)
            return
        position = lost.position if lost.position is not None and awaited >> lost.position & 1 else _first(awaited)
        if lost.cause is LossCause.KILLED_WORKER and job.batch is not None:
            return  # the branches of a batch that was lost are submitted again one by one
        suspect = Suspect(chain, map_row, position)
        if lost.cause is LossCause.KILLED_WORKER and not job.solo:
            map_row.waiting |= 1 << position
            self.run_state.suspects.add(suspect, now.seconds)
            return
        retries: int = chain.step_states[position].step.task.crash_retries
        allowed = max(retries, RESENDS) if lost.cause is LossCause.INPUT_LOST else retries
        if not self.run_state.suspects.count_crash(suspect, allowed):
            if job.solo:
                map_row.waiting |= 1 << position
                self.run_state.suspects.add(suspect, now.seconds)
            return
        map_row.final |= 1 << position
        step_state = chain.step_states[position]
        crashed = _crashed(step_state, map_row.row, lost)
        _log_crash(crashed)
        self.run_state.end_row(step_state, map_row.row, map_row.starts.get(position, NOT_RUN), crashed)

    def start_suspect(self, now: Now) -> None:
        """Run a suspect alone, once what runs beside it has ended or had its time."""
        while self.run_state.suspects.current is None:
            suspect = self.run_state.suspects.next(self.run_state.submitted_jobs, now.seconds)
            if suspect is None:
                return
            suspect.map_row.waiting &= ~(1 << suspect.position)
            if not self.step_alone(suspect):
                self.run_state.suspects.clear(now.seconds)

    def step_alone(self, suspect: Suspect) -> bool:
        """Submit the next step of a suspect's branch that has to run before it is cleared; False if there is none."""
        chain, map_row, target = suspect
        if self.run_state.over or (map_row.final | map_row.waiting) >> target & 1:
            return False
        needed = ancestors(chain, target)
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
                for row, state in enumerate(step_state.children or ()):
                    if state is None and step_state.chain is not None and row not in step_state.chain.open_rows:
                        start = step_state.start_of(row) or NOT_RUN
                        self.run_state.end_row(step_state, row, start, _crashed(step_state, row, lost))
        self.cancellation.end(lambda step_state, row: _crashed(step_state, row, lost), NEVER_STARTED, now)


def _crashed(step_state: StepState, row: int, lost: Lost) -> Crashed:
    label = f"{step_state.step.slug}[{row}]" if step_state.step.mapped else step_state.step.slug
    if lost.deaths:
        text = f"worker died {lost.deaths} times while running {label}"
        if lost.detail:
            text = f"{text} ({lost.detail})"
    else:
        text = f"{label} was lost: {lost.detail or lost.cause}"
    # A fan-in that takes whatever comes sees an exception in this child's place, as of any that failed.
    error = RemoteError(lost.cause.title().replace("-", ""), text)
    evidence = dict(lost.evidence or ({"worker": lost.worker} if lost.worker else {}))
    return Crashed(text, error, cause=lost.cause.value, evidence=evidence or None)


def _log_crash(crashed: Crashed) -> None:
    """Log a crash, with the last words of the process: nobody else could."""
    last_words = (crashed.evidence or {}).get("log") or ()
    logger.error("%s", "\n  ".join((str(crashed.message), *last_words[-SHOWN:])))


def _first(mask: int) -> int:
    return (mask & -mask).bit_length() - 1
