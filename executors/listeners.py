"""What a run has its scheduler listen to: why workers leave, and when they end."""

from __future__ import annotations

from prefectish.engine.capture import capture
from prefectish.executors import departures, lifetimes
from prefectish.executors.connect import Connection
from prefectish.executors.dask_api import registered
from prefectish.executors.same_modules import TOPIC, log_sent_away


def register_listeners(connection: Connection) -> None:
    """Give the scheduler the plugins that hear what workers tell, unless it has them; nothing waits for that."""
    for plugin in (departures.Departures(), lifetimes.Lifetimes()):
        capture(connection.begin, registered(connection.client, plugin, plugin.name))
    connection.client.subscribe_topic(TOPIC, log_sent_away)
