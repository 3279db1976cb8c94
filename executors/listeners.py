"""What a run has its scheduler listen to: why workers leave, when they end, and which children are short.

And what the client hears from workers: as long as it has runs, and for a while after, since the client sends messages
at most every ten milliseconds, and one that is sent when a run begins would hold up the first graph.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from distributed import Client

from prefectish.engine.capture import capture
from prefectish.executors import departures, lifetimes, past_queue, progress_reports, reading, same_modules, spilling
from prefectish.executors.connect import Connection
from prefectish.executors.dask_api import link_of, registered

#: What is done with what workers tell, by topic.
HEARD = {
    same_modules.TOPIC: same_modules.log_sent_away,
    progress_reports.TOPIC: progress_reports.note_report,
    progress_reports.ITEMS: progress_reports.take_items,
    spilling.TOPIC: spilling.note_trouble,
}
#: Seconds after the end of its last run in which a client hears workers.
IDLE = 10.0
_CLOSED = ("closing", "closed")


class _Subscription:
    """How a client hears workers."""

    __slots__ = ("idle_since", "is_watched", "link", "runs")

    def __init__(self) -> None:
        self.runs = 0
        self.link: Any = None  # the connection to the scheduler that was asked for the topics
        self.idle_since = 0.0
        self.is_watched = False  # it is looked at after a while


_subscriptions: WeakKeyDictionary[Client, _Subscription] = WeakKeyDictionary()
_lock = threading.Lock()


class Listening:
    """That a run hears workers, until it has ended: once, however often its session is closed."""

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client: Client | None = client
        subscribe(client)

    def end(self) -> None:
        """Hear them no more, unless another run of the client is open."""
        client, self._client = self._client, None
        if client is not None:
            unsubscribe(client)


def register_listeners(connection: Connection) -> Listening:
    """Give the scheduler the plugins that hear what workers and sessions tell, unless it has them, without waiting."""
    for plugin in (departures.Departures(), lifetimes.Lifetimes(), past_queue.PastQueue(), reading.Values()):
        if not connection.has(plugin.name):
            capture(connection.begin, registered(connection.client, plugin, plugin.name))
    return Listening(connection.client)


def subscribe(client: Client) -> None:
    """Hear workers for a run that begins; call `unsubscribe` when it has ended."""
    with _lock:
        subscription = _subscriptions.setdefault(client, _Subscription())
        link = link_of(client)
        if link is None or link is not subscription.link:  # while it connects anew its messages wait, and are sent then
            for topic, handler in HEARD.items():
                client.subscribe_topic(topic, handler)
            subscription.link = link
        subscription.runs += 1


def unsubscribe(client: Client) -> None:
    """Hear workers no more, after a while, unless another run of the client is open or begins."""
    with _lock:
        subscription = _subscriptions[client]
        subscription.runs -= 1
        subscription.idle_since = monotonic()
        if subscription.runs or subscription.is_watched or client.status in _CLOSED:
            return
        subscription.is_watched = True
    client.loop.add_callback(_end_if_idle, ref(client))


def _end_if_idle(reference: ReferenceType[Client]) -> None:
    """Unsubscribe if no run was open for a while, in the loop of the client."""
    client = reference()
    if client is None:
        return
    with _lock:
        subscription = _subscriptions[client]
        left = subscription.idle_since + IDLE - monotonic()
        if not subscription.runs and left > 0:
            client.loop.call_later(left, _end_if_idle, reference)
            return
        subscription.is_watched = False
        if subscription.runs or client.status in _CLOSED:
            return
        subscription.link = None
        for topic in HEARD:
            client.unsubscribe_topic(topic)
