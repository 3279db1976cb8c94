"""What an executor is: jobs in, receipts out.

An executor opens a :class:`Session`; the drive loop submits :class:`Job` objects to it and reads :class:`Receipt`
objects from it. A session runs steps through ``attempt`` and decides nothing about states: no skip, no trigger, no
retry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from prefectish import triggers
from prefectish.engine.state import Deferred, State
from prefectish.errors import ResultReleased
from prefectish.secrets.lazy import NoStorage, is_deriving, storage_of

if TYPE_CHECKING:
    from prefectish.engine.plan.compile import Input, Plan
    from prefectish.engine.worker.cache import CacheSpec
    from prefectish.engine.worker.logs.lines import LogLine
    from prefectish.engine.worker.storage import ResultStorage
    from prefectish.tasks.naming import RunNaming
    from prefectish.tasks.task import Task

#: Where an input of a step comes from: an earlier step of the same branch, a value all branches share, or its own item.
STEP, SHARED, ITEM = 0, 1, 2


class StepSpec:
    """What an attempt needs to know of a step; one copy travels with each map.

    Attributes
    ----------
    wiring
        One (kind, position) pair an input: ``STEP`` position in the chain, ``SHARED`` or ``ITEM`` position.
    fills
        Some inputs fill places inside of an argument.
    late
        Names of the constants that came in envelopes and are opened when they are read.
    bare
        True if the body is called right here, without limits, and its prints are left alone.
    plain
        True if nothing but success of all inputs matters, so that the quick path of ``decide`` applies.
    measure
        1 to report the width of the result, 2 to report the width of each of its elements, else 0.
    derives
        True if it only puts its inputs together, so that it can do so again where its result is read.
    keyed
        What the attempt does about the key of its item: nothing, or COMPUTED or NAMED of ``identity``, or both.
    keeping
        How its results are stored, None if they are not.
    caching
        How its cache is asked, None if it has none.
    naming
        What names its runs, None if nobody asked for names.
    once
        Where an attempt that must not run twice leaves its marker, None if it may.
    """

    __slots__ = (
        "bare",
        "caching",
        "constants",
        "derives",
        "fills",
        "inputs",
        "keeping",
        "keyed",
        "late",
        "mapped",
        "measure",
        "name",
        "naming",
        "number",
        "once",
        "plain",
        "slug",
        "task",
        "wiring",
    )

    def __init__(
        self,
        number: int,
        task: Task,
        slug: str,
        inputs: tuple[Input, ...],
        constants: Mapping[str, Any],
        mapped: bool,
        measure: int,
        wiring: tuple[tuple[int, int], ...],
        keyed: int = 0,
        keeping: ResultStorage | NoStorage | None = None,
        caching: CacheSpec | None = None,
    ) -> None:
        self.caching = caching
        self.derives = is_deriving(task)
        self.keyed = keyed
        self.keeping = storage_of(task) or keeping
        self.once = None if task.rerun_on_loss or isinstance(self.keeping, NoStorage) else self.keeping
        self.number = number
        self.task: Task = task
        self.name: str = task.name
        self.slug: str = slug
        self.inputs = inputs
        self.fills = any(i.inside for i in inputs)
        self.constants = constants
        self.late = tuple(name for name, value in constants.items() if isinstance(value, Deferred))
        self.mapped: bool = mapped
        self.measure = measure
        self.wiring = wiring
        self.naming = None if task.task_run_name is None else _naming_of(task)
        self.plain = task.trigger is triggers.all_successful
        self.bare = not (task.timeout or task.total_timeout or task.isolation != "thread" or task.log_stdout)

    def label(self, index: int) -> str:
        """``load-1[17]`` for a child of a map or a call, ``load-1`` for a single task, whose index is -1."""
        return self.slug if index < 0 else f"{self.slug}[{index}]"


def _naming_of(task: Task) -> RunNaming | None:
    from prefectish.tasks.naming import naming_of

    return naming_of(task)


class ChainSpec:
    """The steps of one chain, what all of its branches share, and the facts of the run; travels once with each map.

    Attributes
    ----------
    ident
        Names the chain within the run.
    run
        Facts of the run that ``prefectish.context`` shows in a body.
    shared
        States of the unmapped inputs.
    wanted
        Positions whose records the owner needs by themselves, because somebody outside the chain reads them.
    batch
        Number of branches in one bundle, "auto", or None.
    """

    __slots__ = ("batch", "ident", "run", "shared", "steps", "wanted")

    def __init__(
        self,
        ident: int,
        run: Mapping[str, Any],
        steps: tuple[StepSpec, ...],
        shared: tuple[State, ...],
        wanted: frozenset[int],
        batch: int | str | None = None,
    ) -> None:
        self.ident = ident
        self.run = run
        self.steps = steps
        self.shared = shared
        self.wanted = wanted
        self.batch = batch


class Pick:
    """Item `path` of the value of a state that is not here: read where the body runs.

    ``path`` is ``(i,)`` for item i, ``(i, j)`` for element j of item i (flatten).
    """

    __slots__ = ("path", "state")

    def __init__(self, state: State, path: tuple[int, ...]) -> None:
        self.state = state
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Pick, (self.state, self.path)


class Job:
    """Some steps of one branch, to be run now.

    Attributes
    ----------
    index
        Position of the branch; -1 in a chain of single steps.
    submission
        How often steps of this branch were submitted before; part of every key, never reused.
    positions
        Positions of the steps to run, ascending.
    items
        The branch's own inputs: a State, a :class:`Pick`, or a bare value that stands for ``Success(value)``.
    given
        States of steps of the branch that are final already, by position.
    starts
        States other than Pending() from which a step starts, by position.
    awaiting
        Mask of the positions whose records are still to come; the owner's, cleared when the job is given up.
    bundle
        Jobs with the same number travel as one; None for a job by itself.
    solo
        It runs with nothing else of ours on its worker, one step at a time.
    every_step
        The owner wants each record as its step ends.
    """

    __slots__ = (
        "awaiting", "bundle", "every_step", "given", "index", "items", "chain", "positions", "solo", "starts",
        "submission",
    )  # fmt: skip

    def __init__(
        self,
        chain: ChainSpec,
        index: int,
        submission: int,
        positions: tuple[int, ...],
        items: tuple[Any, ...],
        given: Mapping[int, State],
        starts: Mapping[int, State],
        solo: bool = False,
        every_step: bool = False,
    ) -> None:
        self.chain = chain
        self.index = index
        self.submission = submission
        self.positions = positions
        self.items = items
        self.given = given
        self.starts = starts
        self.awaiting = 0
        self.bundle: int | None = None
        self.solo = solo
        self.every_step = every_step

    def __repr__(self) -> str:
        names = ", ".join(self.chain.steps[p].label(self.index) for p in self.positions)
        return f"<Job {names}, submission {self.submission}>"


class Record:
    """How one attempt of one step ended.

    Attributes
    ----------
    state
        Final, or a state that says what the step waits for (Retrying, Paused, Scheduled), or its start state if
        something upstream was not final ("not ready").
    seconds
        Time in the body and its handlers by the worker's monotonic clock.
    due_in
        Seconds until a waiting state is due, by the worker's clock; None if it has no due time.
    width
        What somebody who maps over the result has to know, see :func:`prefectish.engine.plan.map_domain.measure`.
    worker
        Process that ran it, ``host:pid``; None where it is the owner's.
    item_key
        What the child is, by its item; None if nobody asked.
    lines
        What it logged, None for nothing or where nobody is to be told.
    """

    __slots__ = ("due_in", "item_key", "lines", "seconds", "state", "width", "worker")

    def __init__(
        self,
        state: State,
        seconds: float = 0.0,
        due_in: float | None = None,
        width: Any = None,
        worker: str | None = None,
        item_key: str | None = None,
        lines: tuple[LogLine, ...] | None = None,
    ) -> None:
        self.lines = lines
        self.state = state
        self.seconds = seconds
        self.due_in = due_in
        self.width = width
        self.worker = worker
        self.item_key = item_key

    def with_state(self, state: State) -> Record:
        """Return the same record with another state."""
        return Record(state, self.seconds, self.due_in, self.width, self.worker, self.item_key, self.lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return Record, (self.state, self.seconds, self.due_in, self.width, self.worker, self.item_key, self.lines)


class Lost:
    """The infrastructure lost a job: no record of it will come.

    Attributes
    ----------
    cause
        "killed-worker", "scheduler-lost", "cancelled-by-cluster", "input-lost", "no-workers", "no-resource".
    deaths
        Workers that died while running it, as the cluster counted them; 0 if unknown.
    position
        The step it was lost in, if known.
    worker
        Address of the last worker, if known.
    detail
        What the infrastructure said, in words.
    fatal
        No job of the run can run any more.
    evidence
        What is known of the worker's end: exit code, memory, last words.
    """

    __slots__ = ("cause", "deaths", "detail", "evidence", "fatal", "position", "worker")

    def __init__(
        self,
        cause: str,
        deaths: int = 0,
        position: int | None = None,
        worker: str | None = None,
        detail: str = "",
        fatal: bool = False,
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        self.fatal = fatal
        self.evidence = evidence
        self.cause = cause
        self.deaths = deaths
        self.position = position
        self.worker = worker
        self.detail = detail


class Receipt:
    """What a session knows about a job: records by position, or that it was lost. A job may give several receipts."""

    __slots__ = ("job", "lost", "records")

    def __init__(self, job: Job, records: Sequence[tuple[int, Record]], lost: Lost | None = None) -> None:
        self.job = job
        self.records = records
        self.lost = lost


class Held(Deferred):
    """A result that stayed where it was made. Reading it fetches it; after its release reading it is an error.

    Attributes
    ----------
    label
        The child that made it, for errors.
    nbytes
        Its size in bytes.
    handle
        What the session needs to find it; dropping the handle lets it go.
    """

    __slots__ = ("_fetch", "_reason", "_value", "handle", "label", "nbytes")

    def __init__(self, label: str, nbytes: int, handle: Any, fetch: Callable[[Any], Any]) -> None:
        self.label = label
        self.nbytes = nbytes
        self.handle = handle
        self._fetch = fetch
        self._reason = "it was released after its last consumer ran"
        self._value: Any = None

    def get(self) -> Any:
        """Return the value, from where it is; it is not kept here.

        Raises
        ------
        ResultReleased
            The result was dropped.
        """
        value = self._value
        if value is None:
            if self.handle is None:
                raise ResultReleased(
                    f"result of {self.label} ({self.nbytes} bytes) cannot be read: {self._reason}; pass "
                    f"keep_results=True, or a list of tasks, to flow.run, or a client of your own to the executor"
                )
            value = self._fetch(self.handle)
        return value.get() if isinstance(value, Deferred) else value

    def peek(self) -> Any:
        """Return the value and keep it here too; it stays where it is for others."""
        if self._value is None and self.handle is not None:
            self._value = self._fetch(self.handle)
        return self.get()

    def fetch(self) -> None:
        """Bring the value here, to stay."""
        self._value = self._fetch(self.handle)
        self.handle = None

    def release(self, reason: str | None = None) -> None:
        """Let the value go."""
        self.handle = None
        self._reason = reason or self._reason

    def __repr__(self) -> str:
        return f"<{'released' if self.handle is None else 'held'} result of {self.label}, {self.nbytes} bytes>"


class Session(Protocol):
    """An executor at work.

    ``window`` is the number of branches of maps the executor wants open at once, ``slots`` the number of bodies it can
    run at once. ``live`` says that bodies get the very objects that are here, and nothing has to be pickled.
    """

    window: int
    slots: int
    live: bool

    def submit(self, jobs: Sequence[Job]) -> None:
        """Accept jobs; never blocks on user code that another thread or process could run."""

    def receipts(self, timeout: float | None) -> Sequence[Receipt]:
        """Wait until there are receipts, at most `timeout` seconds, and return all there are."""

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Forget jobs: those not started never start, the records of the others are dropped."""

    def wake(self) -> None:
        """End the wait for receipts, from another thread; the next one ends at once if nobody waits now."""

    def settle(self, held: Sequence[Held]) -> None:
        """Do what is needed so that `held` results can be read after the session is closed, or say that they cannot."""


class Executor(Protocol):
    """Opens sessions. An executor object can be used for many runs, one after another or at once."""

    def start(self, plan: Plan, run: Mapping[str, Any]) -> AbstractContextManager[Session]:
        """Open a session for a run; `run` holds the facts of the run (``flow_run_id``, ``flow_name``, ...).

        Raises
        ------
        FlowDefinitionError
            A body cannot be sent where it has to run; nothing was submitted.
        """
