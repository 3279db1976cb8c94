"""Jobs and records: which steps are to be run, and how each ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from prefectish import triggers
from prefectish.engine.deferred import Deferred
from prefectish.engine.jobs.struct import Struct
from prefectish.engine.plan.placement import differs_by_child
from prefectish.engine.state import Pending, State
from prefectish.kinds import is_a
from prefectish.secrets.lazy import NoStorage, is_deriving, storage_of
from prefectish.tasks.mapping import item_at

if TYPE_CHECKING:
    from prefectish.engine.jobs.log_lines import LogLine
    from prefectish.engine.jobs.protocol import Lost
    from prefectish.engine.plan.map_domain import Measure
    from prefectish.engine.plan.steps import Input
    from prefectish.engine.worker.cache import CacheSpec
    from prefectish.engine.worker.parts import AttemptPart
    from prefectish.engine.worker.storage import ResultStorage
    from prefectish.tasks.naming import RunNaming
    from prefectish.tasks.task import Task


class InputKind(IntEnum):
    """Where an input of a step comes from."""

    #: An earlier step of the same branch.
    STEP = 0
    #: A value that all branches share.
    SHARED = 1
    #: The branch's own item.
    ITEM = 2


STEP, SHARED, ITEM = InputKind
_NOT_BEGUN = Pending()
#: Precedence of the calls of a flow function, which begin before further children of its maps.
CALL = 1 << 20


class StepSpec(Struct):
    """What an attempt needs to know of a step; it is sent once with each map."""

    __slots__ = (
        "bare",
        "by_position",
        "differs",
        "cache",
        "computes_key",
        "constants",
        "derives",
        "expected",
        "fills",
        "inputs",
        "storage",
        "took",
        "label",
        "late",
        "limit",
        "mapped",
        "measure",
        "name",
        "named_by_key",
        "naming",
        "number",
        "parts",
        "precedence",
        "reduces",
        "start_marker",
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
        measure: Measure,
        wiring: tuple[tuple[InputKind, int], ...],
        computes_key: bool = False,
        named_by_key: bool = False,
        storage: ResultStorage | NoStorage | None = None,
        cache: CacheSpec | None = None,
        by_position: tuple[str, ...] = (),
        label: str | None = None,
    ) -> None:
        self.by_position = by_position  # names of the arguments that its body is given by position, others by name
        self.label: str = slug if label is None else label  # what it is called in whatever a person reads
        self.cache = cache  # how its cache is asked, None if it has none
        # Its body only combines its inputs, and can do so again where its result is read.
        self.derives = is_deriving(task)
        self.computes_key = computes_key  # the attempt computes the key of its item
        self.named_by_key = named_by_key  # a stored result or a run is named after the key of its item
        self.storage = storage_of(task) or storage  # how its results are stored, None if they are not
        # Where an attempt that must not run twice leaves its marker, None if it may.
        self.start_marker = None if task.rerun_on_loss or isinstance(self.storage, NoStorage) else self.storage
        self.number = number
        self.task: Task = task
        self.reduces = task._fan_in is not None  # its keyed input is a group of results, which it combines
        self.precedence = number  # of its jobs at the executor: those of larger ones begin first; not sent
        self.name: str = task.name
        self.slug: str = slug
        self.inputs = inputs
        self.fills = any(i.inside for i in inputs)  # some inputs take the place of slots inside of an argument
        self.constants = constants
        # Names of the constants that are in envelopes, opened when they are read.
        self.late = tuple(name for name, value in constants.items() if is_a(value, Deferred))
        self.mapped: bool = mapped
        self.measure = measure  # what it reports of its result, for maps over it
        # One (kind, position) pair an input: ``STEP`` position in the chain, ``SHARED`` or ``ITEM`` position.
        self.wiring = wiring
        #: The optional parts of its attempts, None until the first one lists them.
        self.parts: tuple[AttemptPart, ...] | None = None
        # Whether its attempt is the call of its body and nothing else, None until the first one finds out.
        self.bare: bool | None = None
        # How long attempts of it take in this process, in seconds, which decides whether what they use is measured.
        self.took = 1.0
        # Renders ``task_run_name``; None if the task has none.
        self.expected: float | None = task.expected_duration  # seconds of a body, as the user says; None if not
        self.limit: float | None = task.timeout  # seconds for a call of the body, and for all else of an attempt
        self.naming = None if task.task_run_name is None else _naming_of(task)
        # Its trigger is ``all_successful``: ``decide`` has a quick path for it.
        self.plain = task.trigger is triggers.all_successful
        self.differs = differs_by_child(task)  # children are asked where each of them runs

    def label_of(self, index: int) -> str:
        """``load[17]`` for a child of a map or a call, ``load`` for a single task, whose index is -1."""
        return self.label if index < 0 else f"{self.label}[{index}]"

    def place_of(self, index: int) -> str:
        """The same by the slug, as texts that programs look for begin: ``load-1[17]``."""
        return self.slug if index < 0 else f"{self.slug}[{index}]"


def _naming_of(task: Task) -> RunNaming | None:
    from prefectish.tasks.naming import naming_of

    return naming_of(task)


class ChainSpec(Struct):
    """The steps of one chain, what its branches share, and the facts of the run; it is sent once with each map."""

    __slots__ = ("batch_size", "ident", "key", "may_stop", "names_results", "run", "shared", "steps", "wanted")

    def __init__(
        self,
        ident: int,
        run: Mapping[str, Any],
        steps: tuple[StepSpec, ...],
        shared: tuple[State, ...],
        wanted: frozenset[int],
        batch_size: int | str | None = None,
    ) -> None:
        self.ident = ident  # names the chain within the run
        self.key = run.get("flow_run_id"), ident  # names it among the chains of all runs
        self.run = run  # facts of the run that ``prefectish.context`` shows in a body
        self.steps = steps
        self.shared = shared  # states of the unmapped inputs
        # Positions whose records the client needs by themselves, because steps outside the chain read them.
        self.wanted = wanted
        self.batch_size = batch_size  # number of branches in one batch, "auto", or None
        #: A failure of a child may stop its map.
        self.may_stop = any(
            spec.task.on_child_failure != "continue" or spec.task.max_failures is not None for spec in steps
        )
        #: The user chose the names of some results.
        self.names_results = any(getattr(spec.storage, "chosen", None) is not None for spec in steps)


class Pick(Struct):
    """An item of the value of a state, read where the body runs.

    ``path`` is ``(i,)`` for item i, ``(i, j)`` for element j of item i (flatten), ``(i, -1)`` if it was refused.
    """

    __slots__ = ("path", "state")

    def __init__(self, state: State, path: tuple[int, ...]) -> None:
        self.state = state
        self.path = path

    def read(self) -> Any:
        """Return the item; whatever the container of the user raises is raised."""
        value = self.state.result
        for position in self.path:
            value = item_at(value, position)
        return value


class Upcoming:
    """Stands for the state of a step of another job, which is open at the executor: what reads it follows there."""

    __slots__ = ("job", "position")

    def __init__(self, job: Job, position: int) -> None:
        self.job = job
        self.position = position


class Job(Struct):
    """Some steps of one branch that can run now."""

    __slots__ = (
        "awaiting", "batch", "chain", "every_step", "expected", "given", "index", "items", "memory_deaths", "positions",
        "probe_only", "solo", "starts", "submission", "turn", "was_given_up", "was_in_batch",
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
        probe_only: bool = False,
    ) -> None:
        self.chain = chain
        self.index = index  # position of the branch; -1 in a chain of single steps
        # How often steps of this branch were submitted before; part of every key, never reused.
        self.submission = submission
        self.positions = positions  # positions of the steps to run, ascending
        # The branch's own inputs: a State, a :class:`Pick`, an :class:`Upcoming`, or a bare value that stands for
        # ``Success(value)``.
        self.items = items
        self.given = given  # states of steps of the branch that are final already, by position
        self.starts = starts  # states other than Pending() from which a step starts, by position
        # Mask of the positions whose records are still to come; kept by the scheduler, cleared when the job is given
        # up.
        self.awaiting = 0
        self.batch: int | None = None  # jobs with the same number are sent as one; None for a job by itself
        self.was_given_up = False  # it was cancelled or lost: what it may still return does not count
        self.turn = 0  # of its precedence, those of smaller turns begin first
        self.was_in_batch = False  # it was lost in a batch: the next death of its worker makes it a suspect
        self.expected: float | None = None  # seconds that its row is expected to take, by those that have ended
        self.memory_deaths = 0  # workers that ran out of memory while they ran its step
        self.solo = solo  # no other job of the run is on its worker meanwhile, and it runs one step at a time
        self.every_step = every_step  # the client needs each record as its step ends
        # Its step asks for a start marker, a target and a cached state, but does not run its body: the record is final,
        # or Pending if nothing was found.
        self.probe_only = probe_only

    def sources(self, position: int) -> tuple[int, ...]:
        """Return the positions in this job whose results a step reads."""
        if len(self.positions) == 1:
            return ()
        found = (k for kind, k in self.chain.steps[position].wiring if kind is STEP and k in self.positions)
        return tuple(dict.fromkeys(found))

    def __repr__(self) -> str:
        names = ", ".join(self.chain.steps[p].label_of(self.index) for p in self.positions)
        return f"<Job {names}, submission {self.submission}>"


#: Seconds of the processor in the thread of a body, bytes by which the peak memory of its process grew meanwhile, and
#: bytes of its inputs, as far as they say it.
Cost = tuple[float, int, int]


class Record(Struct):
    """How one attempt of one step ended."""

    __slots__ = ("begun", "cost", "due_in_seconds", "item_key", "lines", "seconds", "state", "width", "worker")

    def __init__(
        self,
        state: State,
        seconds: float = 0.0,
        due_in_seconds: float | None = None,
        width: Any = None,
        worker: str | None = None,
        item_key: str | None = None,
        lines: tuple[LogLine, ...] | None = None,
        begun: bool = True,
        cost: Cost | None = None,
    ) -> None:
        # What it used of processor, memory and inputs; None if that is not measured.
        self.cost = cost
        # False if its job was recalled before the body began: `state` is the one it started from.
        self.begun = begun
        self.lines = lines  # what it logged; None if it logged nothing, or lines are not sent
        # Final, or a state that says what the step waits for (Retrying, Paused, Scheduled), or its start state if
        # something upstream was not final ("not ready").
        self.state = state
        self.seconds = seconds  # time in the body and its handlers by the worker's monotonic clock
        # Seconds until a waiting state is due, by the worker's clock; None if it has no due time.
        self.due_in_seconds = due_in_seconds
        self.width = width  # length (and item lengths) of the result, for maps over it; see ``map_domain.measure``
        self.worker = worker  # process that ran it, ``host:pid``; None if it is the client's
        self.item_key = item_key  # the key of its item; None if it was not computed

    def with_state(self, state: State) -> Record:
        """Return the same record with another state: ``replace``, eight times as quick, for what runs once a child."""
        values = self.seconds, self.due_in_seconds, self.width, self.worker, self.item_key, self.lines, self.begun
        return Record(state, *values, self.cost)


class Receipt(Struct):
    """What a session knows about a job: records by position, or that it was lost. A job may give several receipts."""

    __slots__ = ("job", "lost", "records")

    def __init__(self, job: Job, records: Sequence[tuple[int, Record]], lost: Lost | None = None) -> None:
        self.job = job
        self.records = records
        self.lost = lost


def taken_back(job: Job, mask: int = -1) -> Receipt:
    """Return the receipt of steps of a job, by default of all, whose bodies never begin because it was recalled."""
    steps = [p for p in job.positions if mask >> p & 1]
    return Receipt(job, [(p, Record(job.starts.get(p, _NOT_BEGUN), begun=False)) for p in steps])
