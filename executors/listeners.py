"""What a run has its scheduler listen to: why workers leave, when they end, and which children are short."""

from __future__ import annotations

from prefectish.engine.capture import capture
from prefectish.executors import departures, lifetimes, past_queue
from prefectish.executors.connect import Connection
from prefectish.executors.dask_api import registered
from prefectish.executors.same_modules import TOPIC, log_sent_away


def register_listeners(connection: Connection) -> None:
    """Give the scheduler the plugins that hear what workers and sessions tell, unless it has them, without waiting."""
    there = () if connection.presence is None else connection.presence.plugins
    for plugin in (departures.Departures(), lifetimes.Lifetimes(), past_queue.PastQueue()):
        if plugin.name not in there:
            capture(connection.begin, registered(connection.client, plugin, plugin.name))
    connection.client.subscribe_topic(TOPIC, log_sent_away)
