"""How many rows of maps a session on a cluster keeps open, and which of them are short, as they end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future as Answer

from prefectish.engine.capture import Error, capture
from prefectish.engine.jobs.job import CALL, ChainSpec
from prefectish.engine.plan.placement import Placement
from prefectish.engine.plan.steps import Plan
from prefectish.engine.scheduling.ahead import Pace, window_of
from prefectish.executors.connect import Connection
from prefectish.executors.dask_api import Key
from prefectish.executors.open_keys import OpenKey

#: Rows of maps open at once where bodies are long: at least, and for each thread of the cluster.
_WIDEST = 1000
_WIDEST_OF_THREAD = 64
#: Seconds between two questions how many threads there are: workers come and go.
_ASK_INTERVAL = 2.0


class OpenWindow:
    """Follows how long the children of each map take.

    Parameters
    ----------
    threads
        Of the cluster, as many as it may grow to.
    most
        Rows that may be open, as the user says; None for as many as keep the cluster busy.
    plan
        What is run: of maps that come in batches nothing is measured.

    Attributes
    ----------
    rows
        How many rows may be open now.
    """

    def __init__(self, connection: Connection, threads: int, most: int | None, plan: Plan) -> None:
        self._connection = connection
        self._threads = self._least_threads = threads
        self._most = most
        self._paces: dict[int, Pace | None] = {}  # None for a chain whose children are never short
        self._unmeasured: dict[int, Pace] = {}
        self._question: Answer[int] | None = None
        self._next_question = time.monotonic() + _ASK_INTERVAL
        measured = plan.grows or any(step.mapped and step.task.batch_size is None for step in plan.steps)
        self.rows = window_of(self._widest(), threads, [None] if measured else [])

    def _widest(self) -> int:
        return self._most or max(_WIDEST, _WIDEST_OF_THREAD * self._threads)

    def add(self, chain: ChainSpec, placement: Placement | None, watched: bool) -> None:
        """Note a chain: of one whose children have places of their own, or come in batches, none is short."""
        step = chain.steps[0]
        if not (step.mapped or step.precedence == CALL):
            return
        apart = placement is None or placement.resources or placement.workers
        if apart or watched or chain.batch_size is not None:
            self._paces[chain.ident] = None
        else:
            self._paces[chain.ident] = self._unmeasured[chain.ident] = Pace(time.monotonic())

    def ahead(self, ident: int) -> int | None:
        """Return how many children of a chain each thread is given ahead; None for one whose children are apart."""
        pace = self._paces.get(ident)
        return None if pace is None else pace.ahead(time.monotonic()) or 0

    def note(self, ident: int, seconds: float) -> None:
        """Note that a branch of a chain has ended."""
        pace = self._paces.get(ident)
        if pace is not None:
            pace.note(seconds)

    def keeps_results(self, ident: int) -> None:
        """Note that results of a chain stay on workers: no more of them are made than wait for their turn there."""
        if ident in self._paces:
            self._paces[ident] = None

    def is_overdue(self, now: float) -> bool:
        """Whether a chain turns out to be long because none of its children ends: more of them may be open."""
        for ident, pace in self._unmeasured.items():
            if pace.ahead(now) is not None:
                del self._unmeasured[ident]
                return True
        return False

    def update(self, open_keys: Mapping[Key, OpenKey], now: float) -> None:
        """Set how many rows may be open, by what is open."""
        self._count_threads(now)
        if len(self._paces) > 1:
            open_chains = {entry.jobs[0].chain.ident for entry in open_keys.values()}
            paces = [self._paces[ident] for ident in open_chains if ident in self._paces]
        else:
            paces = list(self._paces.values())
        known = [0 if pace is None else pace.ahead(now) for pace in paces]
        self.rows = window_of(self._widest(), self._threads, known)

    def _count_threads(self, now: float) -> None:
        """Ask now and then how many threads there are, and take the answer when it is there."""
        if self._question is None and now >= self._next_question and self._connection.client.status == "running":
            self._next_question = now + _ASK_INTERVAL
            self._question = self._connection.begin(self._connection.ask_threads())
        elif self._question is not None and self._question.done():
            answer = capture(self._question.result)
            self._question = None
            if not isinstance(answer, Error):
                self._threads = max(1, self._least_threads, answer.value)
