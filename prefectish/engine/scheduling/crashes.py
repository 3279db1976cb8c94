"""What becomes of jobs that the infrastructure lost: suspects run again alone; the guilty one has crashed."""

from __future__ import annotations

from prefectish.engine.clock import Now
from prefectish.engine.context import get_logger
from prefectish.engine.jobs.job import Job
from prefectish.engine.jobs.protocol import Lost
from prefectish.engine.scheduling import run_state as tables
from prefectish.engine.scheduling.cancellation import Cancellation
from prefectish.engine.scheduling.failure_policy import NEVER_STARTED
from prefectish.engine.scheduling.rows import ancestors
from prefectish.engine.scheduling.run_state import MapRow, StepChain, StepState
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

    def __init__(self, endings: Cancellation) -> None:
        self.table = endings.table
        self.branches = endings.branches
        self.endings = endings
        self.lost: Lost | None = None

    def lose(self, chain: StepChain, branch: MapRow, job: Job, lost: Lost, now: Now) -> None:
        """Deal with a job that the infrastructure lost: a suspect, another try, or a crash."""
        awaited = job.awaiting
        branch.flying &= ~awaited
        job.awaiting = 0
        if lost.fatal:
            self.end_crashed(lost, now)
            return
        position = lost.position if lost.position is not None and awaited >> lost.position & 1 else _first(awaited)
        if lost.cause == "killed-worker" and job.batch is not None:
            return  # the branches of a batch that was lost are submitted again one by one
        suspect = Suspect(chain, branch, position)
        if lost.cause == "killed-worker" and not job.solo:
            branch.waiting |= 1 << position
            self.table.suspects.add(suspect, now.seconds)
            return
        retries: int = chain.runs[position].step.task.crash_retries
        if not self.table.suspects.convict(suspect, max(retries, RESENDS) if lost.cause == "input-lost" else retries):
            if job.solo:
                branch.waiting |= 1 << position
                self.table.suspects.add(suspect, now.seconds)
            return
        branch.final |= 1 << position
        run = chain.runs[position]
        crashed = _crashed(run, branch.row, lost)
        _tell(crashed)
        self.table.end_row(run, branch.row, branch.starts.get(position, tables.NOT_RUN), crashed)

    def start_suspect(self, now: Now) -> None:
        """Run a suspect alone, once what runs beside it has ended or had its time."""
        while self.table.suspects.current is None:
            suspect = self.table.suspects.next(self.table.in_flight, now.seconds)
            if suspect is None:
                return
            suspect.branch.waiting &= ~(1 << suspect.position)
            if not self.step_alone(suspect):
                self.table.suspects.clear(now.seconds)

    def step_alone(self, suspect: Suspect) -> bool:
        """Submit the next step of a suspect's branch that has to run before it is cleared; False if there is none."""
        chain, branch, target = suspect
        if self.table.over or (branch.final | branch.waiting) >> target & 1:
            return False
        needed = ancestors(chain, target)
        startable = [p for p in self.branches.startable(chain, branch) if p in needed]
        if not startable:
            return False
        self.branches.send(chain, branch, (startable[0],), solo=True)
        return True

    def end_crashed(self, lost: Lost, now: Now) -> None:
        """End the run because nothing of it can run; without a scheduler every child of an open map is lost."""
        self.lost = lost
        if lost.cause == "scheduler-lost":
            for run in self.table.runs:
                for row, state in enumerate(run.children or ()):
                    if state is None and run.chain is not None and row not in run.chain.branches:
                        self.table.end_row(run, row, run.start_of(row) or tables.NOT_RUN, _crashed(run, row, lost))
        self.endings.end(lambda run, row: _crashed(run, row, lost), NEVER_STARTED, now)


def _crashed(run: StepState, row: int, lost: Lost) -> Crashed:
    label = f"{run.step.slug}[{row}]" if run.step.mapped else run.step.slug
    if lost.deaths:
        text = f"worker died {lost.deaths} times while running {label}"
        if lost.detail:
            text = f"{text} ({lost.detail})"
    else:
        text = f"{label} was lost: {lost.detail or lost.cause}"
    # A fan-in that takes whatever comes sees an exception in this child's place, as of any that failed.
    error = RemoteError(lost.cause.title().replace("-", ""), text)
    evidence = dict(lost.evidence or ({"worker": lost.worker} if lost.worker else {}))
    return Crashed(text, error, cause=lost.cause, evidence=evidence or None)


def _tell(crashed: Crashed) -> None:
    """Log a crash, with the last words of the process: nobody else could."""
    last_words = (crashed.evidence or {}).get("log") or ()
    logger.error("%s", "\n  ".join((str(crashed.message), *last_words[-SHOWN:])))


def _first(mask: int) -> int:
    return (mask & -mask).bit_length() - 1
