"""What an executor is: jobs in, receipts out.

An executor opens a :class:`Session`; the loop of a run submits :class:`~prefectish.engine.jobs.job.Job` objects and
reads :class:`Receipt` objects. A session runs steps through ``run_steps`` and decides nothing about states: no skip, no
trigger, no retry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from prefectish.engine.jobs.bundle import Bundle, BundleReceipt
from prefectish.engine.jobs.job import Job, Receipt
from prefectish.engine.jobs.struct import Struct

if TYPE_CHECKING:
    from prefectish.engine.jobs.references import Held
    from prefectish.engine.plan.steps import Plan


class LossCause(StrEnum):
    """Why no record of a job will come; what ``Crashed.cause`` says of its children."""

    #: The worker died while it ran the job, or ran beside it.
    KILLED_WORKER = "killed-worker"
    #: The scheduler ended, or cannot be reached; everything of the run is lost with it.
    SCHEDULER_LOST = "scheduler-lost"
    #: Dask cancelled the key, and gave no reason that says more.
    CANCELLED_BY_CLUSTER = "cancelled-by-cluster"
    #: A value that the job reads was lost with its worker, and cannot be made again there.
    INPUT_LOST = "input-lost"
    #: No worker may run the job: there are none, or a resource or worker it asks for is missing.
    NO_WORKERS = "no-workers"
    #: Its workers left on purpose while they ran it, again and again.
    WORKERS_RETIRED = "workers-retired"
    #: Dask could not run the job, for a reason that is not the job's own.
    CLUSTER_ERROR = "cluster-error"


class Share(StrEnum):
    """What a job had to do with the death of the worker that it was on."""

    #: Its body ran there, and no other.
    ALONE = "alone"
    #: Its body ran there beside others, as far as is known.
    AMONG_OTHERS = "among-others"
    #: Its body had not begun.
    QUEUED = "queued"


class Lost(Struct):
    """The infrastructure lost a job: no record of it will come."""

    __slots__ = (
        "asked", "cause", "deaths", "detail", "evidence", "fatal", "of_memory", "position", "share",
        "tolerated", "worker",
    )  # fmt: skip

    def __init__(
        self,
        cause: LossCause | str,
        deaths: int = 0,
        position: int | None = None,
        worker: str | None = None,
        detail: str = "",
        fatal: bool = False,
        evidence: Mapping[str, Any] | None = None,
        tolerated: int = 0,
        of_memory: bool = False,
        share: Share = Share.AMONG_OTHERS,
        asked: bool = False,
    ) -> None:
        self.asked = asked  # the worker was restarted, retired or closed on purpose, so it is not the job's doing
        self.tolerated = tolerated  # of a first death: how many further ones the cluster would have let pass
        self.of_memory = of_memory  # it is proven that the worker died because its memory ran out
        self.share = share
        self.fatal = fatal  # no job of the run can run any more
        self.evidence = evidence  # what is known of the death of the worker: exit code, memory, crash log
        self.cause = LossCause(cause)  # a :class:`LossCause`, or its value
        self.deaths = deaths  # workers that died while running it, as the cluster counted them; 0 if unknown
        self.position = position  # the step it was lost in, if known
        self.worker = worker  # address of the last worker, if known
        self.detail = detail  # what the infrastructure reported, in words

    @property
    def is_death(self) -> bool:
        """Whether a worker died, whatever it died of: what was on it may run again, one by one or alone."""
        return self.cause is LossCause.KILLED_WORKER or bool(self.evidence)


class RunnableFlow(Protocol):
    """What a run asks of its flow, a :class:`prefectish.Flow` or a flow function, beside its plan."""

    @property
    def name(self) -> str:
        """Return the name of the flow."""

    @property
    def state_handlers(self) -> Sequence[Callable[..., Any]]:
        """Return what is called at each change of the state of the run."""

    @property
    def terminal_state_handler(self) -> Callable[..., Any] | None:
        """Return what may replace the final state of the run."""


class Session(Protocol):
    """An executor at work.

    ``window`` is the number of branches of maps to keep open at once, ``slots`` the number of bodies that can run at
    once. ``live`` says that bodies get the objects of this process, so that nothing has to be pickled. ``batches`` says
    that the jobs of a batch run one after another; otherwise each runs by itself. ``bundles`` says that it takes
    batches as bundles, and reports them so, too. ``in_order`` says that one job runs after another, as they are
    submitted. ``follows`` says that a job may read an open one (:class:`~prefectish.engine.jobs.job.Upcoming`); if that
    one is lost or unknown, it is taken back.
    """

    window: int
    slots: int
    live: bool
    batches: bool
    bundles: bool
    in_order: bool
    follows: bool

    def submit(self, jobs: Sequence[Job | Bundle]) -> None:
        """Accept jobs; never blocks on user code that another thread or process could run."""

    def receipts(self, timeout: float | None) -> Sequence[Receipt | BundleReceipt]:
        """Wait until there are receipts, at most `timeout` seconds, and return all there are."""

    def cancel(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Forget jobs: those not started never start, the records of the others are dropped.

        Returns
        -------
        Sequence[Job]
            Those of which no body can have begun, as far as that is known without asking a worker.
        """

    def recall(self, jobs: Sequence[Job]) -> Sequence[Receipt]:
        """Take back what has not begun: let no further body of these jobs begin.

        Returns
        -------
        Sequence[Receipt]
            Those of the steps whose bodies never begin, as :func:`~prefectish.engine.jobs.job.taken_back` makes them.
            What has begun is reported when it ends; so is what a worker did not answer for, as begun or not.
        """

    def wake(self) -> None:
        """End the wait for receipts, from another thread; if there is none now, the next one ends at once."""

    def settle(self, held: Sequence[Held]) -> None:
        """Prepare for the end of the session: fetch `held` results that are to be read after it, or release them."""


class Executor(Protocol):
    """Opens sessions. An executor object can be used for many runs, one after another or at once.

    One with a method `waited_for` returns by it a block, in which a thread waits for a run (:func:`waited_for`).
    """

    def start(self, plan: Plan, run: Mapping[str, Any]) -> AbstractContextManager[Session]:
        """Open a session for a run; `run` holds the facts of the run (``flow_run_id``, ``flow_name``, ...).

        Raises FlowDefinitionError, and submits nothing, if a body cannot be pickled for where it has to run.
        """


def waited_for(executor: Executor) -> AbstractContextManager[Any]:
    """Return the block in which a thread waits for a run: a body gives up its place to what it waits for."""
    block: AbstractContextManager[Any] = getattr(executor, "waited_for", nullcontext)()
    return block
