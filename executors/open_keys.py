"""What a session knows of the keys that are open on a cluster, and of the chains that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from distributed import Future

from prefectish.engine.jobs.bundle import Bundle
from prefectish.engine.jobs.job import Job, Record
from prefectish.engine.plan.placement import Placement
from prefectish.executors.chain_bytes import ChainBytes
from prefectish.executors.dask_api import Key
from prefectish.executors.lower import PackedChain
from prefectish.executors.whole_chains import WHOLE


class OpenKey:
    """One key whose value the session will read.

    Attributes
    ----------
    bundle
        What a batch carries; None for a single job.
    refused
        Records of the jobs of a batch that were left out, by their number in it.
    again
        Of a whole chain, what makes its large results again; empty if they are never used up.
    position
        The step, None for a batch.
    value
        For a receipt: the key it is a receipt of, and its size in bytes.
    known
        What the client knows of the key; the session reads it far more often than it does anything else.
    reads
        Whether it reads a value that was sent beside the calls.
    asks
        Whether it asks where its jobs run, and runs none of them.
    follows
        Whether it reads what another open job makes.
    """

    __slots__ = (
        "_jobs", "again", "asks", "bundle", "follows", "future", "known", "position", "reads", "refused", "value",
    )  # fmt: skip

    def __init__(
        self,
        jobs: Sequence[Job] | Bundle,
        position: int | None,
        future: Future,
        value: tuple[Future, int] | None = None,
    ) -> None:
        self.bundle = jobs if isinstance(jobs, Bundle) else None
        self._jobs: Sequence[Job] = () if isinstance(jobs, Bundle) else jobs
        self.refused: dict[int, list[tuple[int, Record]]] = {}
        self.again: tuple[Any, ...] = ()
        self.position = position
        self.future = future
        self.value = value
        self.known: Any = None
        self.reads = False
        self.asks = False
        self.follows = False

    @property
    def is_whole(self) -> bool:
        """Whether it is of a whole chain of single tasks."""
        return self.bundle is not None and self.bundle.number == WHOLE

    @property
    def count(self) -> int:
        """Return the number of its jobs."""
        return len(self._jobs) if self.bundle is None else len(self.bundle)

    def receipt(self, future: Future, nbytes: int) -> OpenKey:
        """Return what is known of the receipt of its value, which has so many bytes."""
        receipt = OpenKey(self.bundle or self._jobs, self.position, future, (self.future, nbytes))
        receipt.refused, receipt.again = self.refused, self.again
        return receipt

    @property
    def jobs(self) -> Sequence[Job]:
        """Return the job it belongs to, or the jobs of a batch in order."""
        return self._jobs if self.bundle is None else self.bundle.jobs


class Sending(NamedTuple):
    """How the scheduler is to treat a graph.

    Attributes
    ----------
    first_death
        Whether its keys are given up at the first death of their worker.
    ahead
        How many of them each thread is given ahead, 0 if they wait for their turn; None if that is not said.
    """

    placement: Placement
    first_death: bool = False
    ahead: int | None = None


#: Graphs that are about to be sent, with the keys to read.
Graphs = dict[Sending, tuple[dict[Key, Any], dict[Key, OpenKey]]]


class OpenChain:
    """What is known of a chain.

    Attributes
    ----------
    placement
        Where its rows run; None if each is asked.
    watched
        Whether the first death of a worker under one of its rows is reported: it may have been of memory.
    """

    __slots__ = ("_content", "_packed", "placement", "watched")

    def __init__(self, packed: PackedChain, content: ChainBytes, placement: Placement | None, watched: bool) -> None:
        self._packed = packed
        self._content = content
        self.placement = placement
        self.watched = watched

    def packed(self, alone: bool = False) -> PackedChain:
        """Return it for some of its jobs, or for one that comes alone: not of a map."""
        if self._content.are_small:
            return self._packed
        return self._packed._replace(payload=self._content.reference(alone))
