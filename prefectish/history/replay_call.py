"""Run one recorded call, or one child of a map, of a flow function again.

Its graph is not known, so the function runs again, as if its run were resumed without being held or recorded: what the
record knows is not run, except for the requested call. That is caught on its way to an executor, with its inputs.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from prefectish.engine.capture import Error, capture
from prefectish.engine.driver.control import RunControl
from prefectish.engine.jobs.job import Job, Receipt, Record
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.steps import Plan, Step
from prefectish.engine.scheduling.previous_run import PreviousRun
from prefectish.engine.state import Failed, State
from prefectish.engine.worker.run_steps import gather, run_steps
from prefectish.errors import ParameterError, ResultReleased, ResumeMismatch
from prefectish.flow_source import note_run
from prefectish.functions.decorator import FlowFunction
from prefectish.history.children import ChildRow
from prefectish.history.recorder import HistoryRecorder
from prefectish.history.resume import Resumption
from prefectish.kinds import is_a

#: Names in the error of what is missing.
MOST_NAMES = 3
PARAMETERS_HINT = "parameters are not recorded: pass them, .replay(parameters={...})"


class Found(Exception):
    """Ends the run of the function: the call was on its way to an executor."""

    def __init__(self, job: Job, position: int) -> None:
        super().__init__()
        self.job = job
        self.position = position


def find_call(
    child: ChildRow, label: str, flow: FlowFunction[Any, Any], parameters: Mapping[str, Any] | None
) -> tuple[Job, int, list[State]]:
    """Run a flow function until it makes a recorded call; return its job, its position there, and its inputs.

    Raises
    ------
    ResultReleased
        The function or the call needs a result that was not stored.
    ResumeMismatch
        The function makes no such call any more.
    """
    arguments = capture(flow.signature.bind, (), dict(parameters or {}))
    if isinstance(arguments, Error):
        if isinstance(arguments.exception, ParameterError):
            raise ParameterError(f"{arguments.exception}; {PARAMETERS_HINT}")
        raise arguments.exception
    control = RunControl()
    catcher = Catcher(child, label, control)
    options = flow.options.merged(
        executor=catcher, history=False, progress=False, retries=0, resumption=RunWithoutChild(child)
    )
    try:
        state = flow.with_options(state_handlers=[])._state(arguments.value, options, control)
    except Found as found:
        job = found.job
        upstream = gather(job.chain, found.position, job.items, dict(job.given))
        for state in upstream:
            if is_a(state.result, ResultReleased | ResumeMismatch):
                catcher.refuse(state)
        return job, found.position, upstream
    finally:
        note_run(flow)  # and not the copy without handlers
    catcher.refuse(state)


class RunWithoutChild(Resumption):
    """A recorded run as a resumed one would have it, but for one child; it is neither held nor changed."""

    def __init__(self, child: ChildRow) -> None:
        self._child = child
        super().__init__(child._run.id, child._run._store.address, retry_failed=False, force=True)

    def _check_holder(self, connection: Any) -> None:
        """Leave the run to its driver."""

    def _take(self) -> None:
        """Do not hold the run."""

    def release(self) -> None:
        """Do nothing: it is not held."""

    def recorder(self) -> HistoryRecorder | None:  # type: ignore[override]
        """Return None: nothing is recorded."""
        return None

    def _check_unchanged(self, step: Step, row: Any, states: Collection[int], changed: set[str]) -> None:
        """Accept corrected code: what ended keeps its results."""

    def recall(self, plan: Plan) -> PreviousRun:
        """Return the previous results, those of the child left out."""
        previous = super().recall(plan)
        own = self._child._row
        every = self.run._every_child(self._child.slug)
        identity = next(i for i, child in every.items() if (child._row.row, child._row.part) == (own.row, own.part))
        previous.forget(self._child.slug, identity)
        return previous


class Catcher:
    """An executor that runs nothing: it catches one job, and answers others with the error that they were not stored.

    What only puts values together, and so was not recorded, is done here.
    """

    window = 1 << 60
    slots = 1
    batches = False
    bundles = False
    live = False
    in_order = True
    follows = False

    def __init__(self, child: ChildRow, label: str, control: RunControl) -> None:
        self.child = child
        self.label = label
        self.missing: list[str] = []
        self._control = control
        self._known: dict[str, set[str | int]] = {}  # keys, or rows, of what was recorded, by slug
        self._answers: list[Receipt] = []
        self._woken = threading.Event()

    @contextmanager
    def start(self, plan: Plan, run: Mapping[str, Any]) -> Iterator[Catcher]:
        """Open a session."""
        yield self

    def submit(self, jobs: Sequence[Any]) -> None:
        """Look for the job; raise Found if it is there."""
        for job in jobs:
            states = dict(job.given)
            for position in job.positions:
                if self._is_wanted(job, position):
                    raise Found(job, position)
                if job.chain.steps[position].derives:
                    records = run_steps(job.chain, (position,), job.index, job.items, states, {})
                else:
                    error = self._error(job, position)
                    records = [(position, Record(Failed(str(error), error)))]
                states.update((at, record.state) for at, record in records)
                self._answers.append(Receipt(job, records))

    def _is_wanted(self, job: Job, position: int) -> bool:
        if job.chain.steps[position].slug != self.child.slug:
            return False
        key = self._key(job)
        return max(job.index, 0) == self.child._row.row if key is None else key == self.child.item_key

    def _key(self, job: Job) -> str | None:
        progress = self._control.progress
        assert progress is not None
        assert progress.resume_rules is not None
        return progress.resume_rules.item_key(progress.run_state.chains[job.chain.ident], job.index)

    def _error(self, job: Job, position: int) -> ResultReleased | ResumeMismatch:
        """Return why a call has no result: it was not stored, or there was no such call."""
        step, key = job.chain.steps[position], self._key(job)
        if step.slug not in self._known:
            recorded = capture(self.child._run._every_child, step.slug)
            children = [] if isinstance(recorded, Error) else recorded.value.values()
            self._known[step.slug] = {
                child._row.row if child.item_key is None else child.item_key for child in children
            }
        name = step.label_of(job.index)
        if (max(job.index, 0) if key is None else key) in self._known[step.slug]:
            self.missing.append(name)
            return ResultReleased(self._text([name]))
        return ResumeMismatch(self._changed(f"{name} was not called then with what it is given now"))

    def _text(self, names: Sequence[str]) -> str:
        listed = ", ".join(names[:MOST_NAMES])
        more = f" and {len(names) - MOST_NAMES} others" if len(names) > MOST_NAMES else ""
        return (
            f"{self.label} cannot be replayed: {listed}{more} has no recorded end, or a result that was not stored or "
            f"is gone. To store results, use @flow(result=LocalResult()), or @task(result=...)"
        )

    def _changed(self, why: str) -> str:
        return (
            f"{self.label} is not called with what it was given in run {self.child._run.id}: {why}; {PARAMETERS_HINT}"
        )

    def refuse(self, state: State) -> NoReturn:
        """Raise why the call was not made, or not with what it had."""
        if is_a(state.result, ResultReleased | ResumeMismatch):
            raise state.result
        if self.missing:
            raise ResultReleased(self._text(self.missing))
        raise ResumeMismatch(self._changed("the function or its arguments have changed"))

    def receipts(self, timeout: float | None) -> Sequence[Receipt]:
        """Return the answers, or wait for a request."""
        if not self._answers:
            self._woken.wait(timeout)
            self._woken.clear()
        answers, self._answers = self._answers, []
        return answers

    def wake(self) -> None:
        """End the wait."""
        self._woken.set()

    def cancel(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Do nothing: no job runs."""
        return ()

    def recall(self, jobs: Sequence[Job]) -> Sequence[Receipt]:
        """Take nothing back: every job is answered at once."""
        return ()

    def settle(self, held: Sequence[Held]) -> None:
        """Do nothing: nothing is held."""
