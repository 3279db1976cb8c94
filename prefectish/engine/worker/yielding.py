"""What a generator yields, sent to the client while it runs, for the maps over it.

The list of all items is the result, as always; what is sent early is a part of it, in order and by position. So nothing
depends on it that it arrives: what did not is read from the result, and what comes twice, after a retry or a lost
worker, is known by its position.

In the process of the client the items are handed over as they are. In another process the executor's own way is taken,
which it leaves in the context of the run; without one nothing is sent early.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import monotonic
from types import GeneratorType
from typing import Any, NamedTuple

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.context import current
from prefectish.engine.jobs.envelope import encode, weight
from prefectish.engine.worker.body_progress import OWNER
from prefectish.process_tree import process_id

#: Key of the context of a run: called where a body begins, with the id of the run, it returns what sends its items
#: from there to the client; None if nothing can be sent.
SENDER = "yield_sender"
#: Longest time that items wait for more of them, in seconds.
INTERVAL = 0.05
#: Items, and bytes, that are sent at once, roughly.
MOST_ITEMS, MOST_BYTES = 500, 1 << 16
#: An item of more bytes is not sent: it, and what comes after it, is read from the result.
LARGEST = 1 << 18
_END = object()


class Yielded(NamedTuple):
    """Items that a generator has yielded, from a position on."""

    number: int  # of the step
    row: int
    first: int  # position of the first of them
    items: tuple[Any, ...]


class Receiver(NamedTuple):
    """Takes the items of a run, in any thread; those of bodies in the thread of the loop `at_once`, one by one."""

    take: Callable[[Yielded], None]
    thread: int  # that of the loop

    @property
    def at_once(self) -> bool:
        """Whether this is the thread of the loop, which turns in between."""
        return threading.get_ident() == self.thread


#: Receivers of the runs of this process, by id of the run.
receivers: dict[str, Receiver] = {}


def receive(run_id: str, yielded: Yielded) -> None:
    """Hand items over to a run of this process; those of another run, or one that has ended, are dropped."""
    receiver = receivers.get(run_id)
    if receiver is not None:
        receiver.take(yielded)


class _Feed:
    """Sends the items of one attempt, several at once if they come quickly."""

    def __init__(
        self, send: Callable[[Yielded], None], place: tuple[int, int], label: str | None, at_once: bool
    ) -> None:
        self._send = send
        self._place = place
        self._label = label  # what errors call them if they are pickled; None where live objects are handed over
        self._at_once = at_once
        self._lock = threading.Lock()
        self._items: list[Any] = []
        self._bytes = 0
        self._first = 0
        self._sent = 0.0
        self._timer: threading.Timer | None = None
        self._is_broken = False

    def put(self, item: Any) -> None:
        """Send an item, now or in a moment."""
        if self._is_broken:
            return
        if self._label is not None:
            packed = capture(encode, item, self._label, False)
            if isinstance(packed, Error) or weight(packed.value) > LARGEST:
                self.flush()
                self._is_broken = True
                return
            item = packed.value
        with self._lock:
            self._items.append(item)
            self._bytes += weight(item)
            waits = len(self._items) < MOST_ITEMS and self._bytes < MOST_BYTES
            if waits and not self._at_once and monotonic() - self._sent < INTERVAL:
                self._later()
                return
        self.flush()

    def _later(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(INTERVAL, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def flush(self) -> None:
        """Send what waits."""
        with self._lock:
            timer, self._timer = self._timer, None
            if timer is not None:
                timer.cancel()
            items, self._items = tuple(self._items), []
            if not items:
                return
            first, self._first = self._first, self._first + len(items)
            self._bytes = 0
            self._sent = monotonic()
            if not self._at_once:  # in order
                self._send(Yielded(*self._place, first, items))
                return
        self._send(Yielded(*self._place, first, items))


def collected(generator: GeneratorType[Any, Any, Any]) -> Value | Error:
    """Return the items of a generator as a list; if they are mapped over, they are sent as they come."""
    feed = _feed_of(getattr(current(), "attempt", None))
    if feed is None:
        return capture(list, generator)
    items: list[Any] = []
    try:
        for outcome in _outcomes(generator):
            if isinstance(outcome, Error):
                return outcome
            items.append(outcome.value)
            feed.put(outcome.value)  # may turn the loop of the run, whose errors are none of the body's
    finally:
        feed.flush()
    return Value(items)


def _outcomes(generator: GeneratorType[Any, Any, Any]) -> Iterator[Value | Error]:
    """Yield items until there are none, or one is an error."""
    while True:
        outcome = capture(next, generator, _END)
        if isinstance(outcome, Value) and outcome.value is _END:
            return
        yield outcome
        if isinstance(outcome, Error):
            return


def _may_be_interrupted(ctx: Any) -> bool:
    """Whether a time limit may interrupt this thread, in which the loop of the run would turn."""
    return ctx.is_timed or ctx.allowance is not None or ctx.spec.limit is not None


def _feed_of(ctx: Any) -> _Feed | None:
    """Return what sends the items of an attempt; None if nothing maps over them, or nothing can be sent."""
    if ctx is None or not ctx.spec.measure or ctx.spec.mapped:
        return None
    run, place = ctx.run, (ctx.spec.number, max(ctx.index, 0))
    run_id = str(run.get("flow_run_id"))
    if run.get(OWNER) == process_id():
        receiver = receivers.get(run_id)
        if receiver is None or (receiver.at_once and _may_be_interrupted(ctx)):
            return None
        return _Feed(receiver.take, place, None, receiver.at_once)
    send = run[SENDER](run_id) if SENDER in run else None
    return None if send is None else _Feed(send, place, ctx.spec.label_of(ctx.index), False)
