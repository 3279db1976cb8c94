"""What a run has its scheduler listen to: why workers leave, when they end, and which children are short.

And what the client hears from workers. It hears it as long as it is connected: the client sends messages at most every
ten milliseconds, so one that is sent when a run begins would hold up the first graph.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from prefectish.engine.capture import capture
from prefectish.executors import departures, lifetimes, past_queue, progress_reports, same_modules, spilling
from prefectish.executors.connect import Connection
from prefectish.executors.dask_api import link_of, registered

#: What is done with what workers tell, by topic.
HEARD = {
    same_modules.TOPIC: same_modules.log_sent_away,
    progress_reports.TOPIC: progress_reports.note_report,
    progress_reports.ITEMS: progress_reports.take_items,
    spilling.TOPIC: spilling.note_trouble,
}
#: Connections to schedulers that were asked for these topics.
_hearing: WeakSet[Any] = WeakSet()


def register_listeners(connection: Connection) -> None:
    """Give the scheduler the plugins that hear what workers and sessions tell, unless it has them, without waiting."""
    there = () if connection.presence is None else connection.presence.plugins
    for plugin in (departures.Departures(), lifetimes.Lifetimes(), past_queue.PastQueue()):
        if plugin.name not in there:
            capture(connection.begin, registered(connection.client, plugin, plugin.name))
    link = link_of(connection.client)
    if link not in _hearing:
        _hearing.add(link)
        for topic, handler in HEARD.items():
            connection.client.subscribe_topic(topic, handler)
