"""Inject faults: simulate what a cluster does when workers die, without a cluster."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from prefectish.engine.jobs.bundle import BundleReceipt
from prefectish.engine.jobs.job import Job, Receipt, taken_back
from prefectish.engine.jobs.protocol import Executor, LossCause, Lost, Session, waited_for
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.steps import Plan
from prefectish.engine.task_states import is_call
from prefectish.tasks.task import Task

#: Detail of each loss, and whether it ends the run.
LOSSES = {
    "killed-worker": ("", False),
    "cancelled-by-cluster": ("the cluster cancelled it (on purpose)", False),
    "input-lost": ("a value it reads was lost with its worker", False),
    "no-resource": ("no worker may run it", False),
    "no-workers": ("the cluster had no workers", True),
    "scheduler-lost": ("the scheduler was lost", True),
}
#: Suffix of the name of a loss that happens after the task has run.
AFTER_SUFFIX = "-after"
FAULTS = (*LOSSES, *(name + AFTER_SUFFIX for name in LOSSES), "late", "twice", "never")
#: Number of deaths that is reported for a killed-worker.
DEATHS_GIVEN_UP = 4
#: Polling interval while all remaining jobs never end, in seconds.
POLL_INTERVAL = 0.25


class InjectedFault(NamedTuple):
    """A fault that was injected.

    Attributes
    ----------
    label
        The task or child, as ``load[3]``.
    submission
        How often it had been submitted before.
    fault
        Name of the fault.
    """

    label: str
    submission: int
    fault: str


class FaultySession:
    """An executor that wraps another one and injects faults.

    Use it to test triggers, ``crash_retries`` and clean-up tasks in milliseconds and without a cluster.

    Parameters
    ----------
    executor
        The executor that runs the tasks.
    faults
        By task, slug or name, or ``(task, map index)``: the name of a fault, which is injected at each
        submission; or a list of them, one per submission in order, None for none; no faults after its end. In a flow
        function the index counts calls of a task, too.
    rates
        By name of a fault: its probability, between 0 and 1, for each job that `faults` does not name.
    seed
        Seed of the faults by `rates`.
    most
        Maximum number of faults by `rates`.

    Attributes
    ----------
    happened
        The injected faults, in order.

    Raises
    ------
    ValueError
        For an unknown fault, an invalid rate, or, when a run begins, a task that is not in the flow; of a flow
        function, at the end of the run, one that it did not call.

    Notes
    -----
    Faults are:

    * "killed-worker": its worker died. As on a cluster it is retried alone, and is Crashed if the worker
      dies again more often than its ``crash_retries``: ``["killed-worker"]`` is a task that did not cause the death.
    * "cancelled-by-cluster", "input-lost", "no-resource": it fails, or is submitted again, as on a cluster.
    * "no-workers", "scheduler-lost": the run ends.
    * Each of these followed by "-after": the task has run, and its record was lost.
    * "late": it counts as lost with its worker; its record arrives when it runs again, and is dropped.
    * "twice": its record arrives twice.
    * "never": it never ends. Time limits of the flow and of maps end such runs.

    Chained steps are submitted together, so a fault of one of them also affects the others.

    Examples
    --------
    >>> from prefectish import Flow, task, triggers
    >>> from prefectish.executors import LocalExecutor
    >>> @task
    ... def load(x):
    ...     return x
    >>> @task(trigger=triggers.all_finished)
    ... def count(xs):
    ...     return sum(isinstance(x, int) for x in xs)
    >>> with Flow("crashes") as flow:
    ...     loaded = load.map([5, 6, 7, 8])
    ...     counted = count(loaded)
    >>> executor = FaultySession(LocalExecutor(), {("load", 3): "killed-worker", ("load", 1): ["killed-worker"]})
    >>> state = flow.run(executor=executor)
    >>> [type(child).__name__ for child in state.result[loaded].map_states], state.result[counted].result
    (['Success', 'Success', 'Success', 'Crashed'], 3)
    >>> [happened.label for happened in executor.happened]
    ['load[1]', 'load[3]', 'load[3]']
    """

    def __init__(
        self,
        executor: Executor,
        faults: Mapping[Any, str | Sequence[str | None]] | None = None,
        *,
        rates: Mapping[str, float] | None = None,
        seed: int = 0,
        most: int | None = None,
    ) -> None:
        self.executor = executor
        self.faults = {key: _checked(fault) for key, fault in (faults or {}).items()}
        self.rates = dict(rates or {})
        for name, rate in self.rates.items():
            _checked(name)
            if not 0 <= rate <= 1:
                raise ValueError(f"rates[{name!r}] must be a probability between 0 and 1, got {rate!r}")
        self.seed = seed
        self.most = most
        self.happened: list[InjectedFault] = []

    @property
    def tag_limits(self) -> Mapping[str, int] | None:
        """The tag limits of the executor."""
        limits: Mapping[str, int] | None = getattr(self.executor, "tag_limits", None)
        return limits

    @contextmanager
    def start(self, plan: Plan, run: Mapping[str, Any]) -> Iterator[_Session]:
        """Open a session."""
        chooser = _Chooser(self, plan)
        with self.executor.start(plan, run) as session:
            yield _Session(session, chooser, self.happened)
        chooser.check_all_met()

    def waited_for(self) -> AbstractContextManager[Any]:
        """Return the block in which a thread waits for a run: that of the executor."""
        return waited_for(self.executor)

    def __repr__(self) -> str:
        return f"<FaultySession of {self.executor!r}>"


def _checked(fault: Any) -> str | tuple[str | None, ...]:
    """Check the names of faults."""
    names = (fault,) if isinstance(fault, str) else tuple(fault)
    for name in names:
        if name is not None and name not in FAULTS:
            raise ValueError(f"unknown fault {name!r}; faults are: {', '.join(FAULTS)}")
    return fault if isinstance(fault, str) else names


class _Chooser:
    """Chooses the fault of each job."""

    def __init__(self, faulty: FaultySession, plan: Plan) -> None:
        self._rates = faulty.rates
        self._random = random.Random(faulty.seed)
        self._left = faulty.most
        self._faults: dict[tuple[int, int | None], str | tuple[str | None, ...]] = {}
        self._seen: Counter[tuple[int, int | None]] = Counter()
        self._plan = plan
        self._named = [(*(key if isinstance(key, tuple) else (key, None)), f) for key, f in faulty.faults.items()]
        self._looked = 0  # steps of the plan so far that were looked at: that of a flow function grows
        self._met: set[int] = set()  # positions of those of `_named` that a step has
        self._look()
        if not plan.grows:
            self.check_all_met()

    def _look(self) -> None:
        """Note the faults of the steps that came into the plan."""
        if self._looked == len(self._plan.steps):
            return
        for position, (task, index, fault) in enumerate(self._named):
            for number in _numbers(self._plan, task, self._looked):
                self._faults[number, index] = fault
                self._met.add(position)
        self._looked = len(self._plan.steps)

    def check_all_met(self) -> None:
        """Raise ValueError if a fault names a task that the flow does not have, or that was not called."""
        for position, (task, _, _) in enumerate(self._named):
            if position not in self._met:
                verb = "was not called in" if self._plan.grows else "is not in"
                raise ValueError(f"faults name {task!r}, which {verb} the flow {self._plan.flow_name!r}")

    def choose(self, job: Job) -> tuple[int, str] | None:
        """Return the position in a job and the fault to inject there; None for no fault."""
        self._look()
        for position in job.positions:
            number = job.chain.steps[position].number
            for key in ((number, job.index), (number, None)):
                fault = self._faults.get(key)
                if fault is not None:
                    name = self._of_submission(key, job.index, fault)
                    return None if name is None else (position, name)
        return self._drawn(job)

    def _of_submission(
        self, key: tuple[int, int | None], index: int, fault: str | tuple[str | None, ...]
    ) -> str | None:
        if isinstance(fault, str):
            return fault
        count = self._seen[key[0], index]
        self._seen[key[0], index] += 1
        return fault[count] if count < len(fault) else None

    def _drawn(self, job: Job) -> tuple[int, str] | None:
        draw = self._random.random()
        for name, rate in self._rates.items():
            if draw < rate and self._left != 0:
                if self._left is not None:
                    self._left -= 1
                return self._random.choice(job.positions), name
            draw -= rate
        return None


def _numbers(plan: Plan, task: Any, first: int) -> list[int]:
    """Return the numbers of the steps of a task, a slug or a name, from the `first` one on."""
    steps = [step for step in plan.steps[first:] if step.literal is None]
    if isinstance(task, Task):
        found = [step.number for step in steps if step.task is task]
        return found or ([step.number for step in steps if is_call(step.task, task)] if plan.grows else [])
    by_slug = [step.number for step in plan.steps if step.slug == task]
    return by_slug or [step.number for step in steps if step.name == task]


class _Session:
    """A session that injects faults.

    Attributes
    ----------
    silent
        Number of jobs that will never end.
    """

    def __init__(self, session: Session, chooser: _Chooser, happened: list[InjectedFault]) -> None:
        self.session = session
        self.chooser = chooser
        self.happened = happened
        self.slots = session.slots
        self.batches = session.batches
        self.bundles = False  # faults are drawn job by job
        self.in_order = session.in_order
        self.follows = False  # what is read where it is made cannot be taken away
        self.live = False  # a call in this thread cannot be lost
        self._inside: dict[Job, int] = {}  # bit masks of the positions without a record
        self._faults: dict[Job, tuple[int, str]] = {}
        self._ready: deque[Receipt] = deque()
        self._late: dict[tuple[int, int], list[Receipt]] = {}
        self._never: dict[Job, int] = {}  # the positions that never end

    @property
    def window(self) -> int:
        """Return how many branches of maps may be open at once."""
        return self.session.window

    @property
    def silent(self) -> int:
        """The number of submitted jobs that will never end."""
        return len(self._never)

    def submit(self, jobs: Sequence[Any]) -> None:
        """Submit jobs, except those that are lost before they run."""
        passed = []
        for job in jobs:
            self._ready.extend(self._late.pop(_place(job), ()))
            chosen = self.chooser.choose(job)
            if chosen is not None:
                label = job.chain.steps[chosen[0]].label_of(job.index)
                self.happened.append(InjectedFault(label, job.submission, chosen[1]))
            if chosen is None or self._runs(job, *chosen):
                passed.append(job)
                self._inside[job] = sum(1 << position for position in job.positions)
        if passed:
            self.session.submit(passed)

    def _runs(self, job: Job, position: int, fault: str) -> bool:
        """Report a job that is lost before it runs; return whether the job runs."""
        if fault == "never":
            self._never[job] = position
            return False
        if fault in LOSSES:
            self._ready.append(Receipt(job, (), _loss(fault, position)))
            return False
        self._faults[job] = position, fault
        return True

    def receipts(self, timeout: float | None) -> Sequence[Receipt]:
        """Return receipts of lost jobs, and those of the session."""
        if self._ready:
            receipts = list(self._ready)
            self._ready.clear()
            return receipts
        if not self._inside:
            time.sleep(POLL_INTERVAL if timeout is None else min(timeout, POLL_INTERVAL))
            return ()
        given = [receipt for receipt in self.session.receipts(timeout) for receipt in _one_by_one(receipt)]
        return [changed for receipt in given for changed in self._changed(receipt)]

    def _changed(self, receipt: Receipt) -> Iterator[Receipt]:
        """Yield the receipts that replace a receipt."""
        job = receipt.job
        left = self._inside.get(job, 0) & ~sum(1 << position for position, _ in receipt.records)
        ended = not left or receipt.lost is not None
        if ended:
            self._inside.pop(job, None)
        else:
            self._inside[job] = left
        fault = self._faults.pop(job, None) if ended else self._faults.get(job)
        if fault is None:
            yield receipt
        elif fault[1] == "twice":
            yield receipt
            self._ready.append(Receipt(job, receipt.records))
        else:
            if fault[1] == "late":
                self._late.setdefault(_place(job), []).append(receipt)
            if ended:
                yield Receipt(job, (), _loss(fault[1], fault[0]))

    def cancel(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Forget jobs."""
        for job in jobs:
            self._never.pop(job, None)
            self._faults.pop(job, None)
            self._inside.pop(job, None)
        return self.session.cancel(jobs)

    def recall(self, jobs: Sequence[Job]) -> Sequence[Receipt]:
        """Take back jobs from the session; a step that never ends has begun, but none behind it."""
        receipts = list(self.session.recall([job for job in jobs if job in self._inside]))
        for receipt in tuple(receipts):
            job = receipt.job
            self._inside[job] &= ~sum(1 << position for position, _ in receipt.records)
            if not self._inside[job]:
                del self._inside[job]
                self._faults.pop(job, None)
        receipts += [taken_back(job, -2 << self._never[job]) for job in jobs if job in self._never]
        return receipts

    def wake(self) -> None:
        """End the wait for receipts."""
        self.session.wake()

    def settle(self, held: Sequence[Held]) -> None:
        """Pass held results on to the session."""
        self.session.settle(held)


def _one_by_one(receipt: Receipt | BundleReceipt) -> Iterable[Receipt]:
    """Return the receipts of a session as those of single jobs: one that has processes sends batches as a whole."""
    if isinstance(receipt, BundleReceipt):
        return map(receipt.receipt, range(len(receipt.bundle)))
    return (receipt,)


def _place(job: Job) -> tuple[int, int]:
    return job.chain.ident, job.index


def _loss(fault: str, position: int) -> Lost:
    name = "killed-worker" if fault == "late" else fault.removesuffix(AFTER_SUFFIX)
    detail, fatal = LOSSES[name]
    cause = LossCause.NO_WORKERS if name == "no-resource" else LossCause(name)  # a cluster does not tell the two apart
    deaths = DEATHS_GIVEN_UP if cause is LossCause.KILLED_WORKER else 0
    return Lost(cause, deaths, position, detail=detail, fatal=fatal)
