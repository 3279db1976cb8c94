"""When a client hears what workers tell: while it has runs, and for a while after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("distributed")

from prefectish import Flow, task
from prefectish.executors import listeners
from prefectish.executors.listeners import HEARD, Listening, subscribe, unsubscribe


class Loop:
    """Keeps what is to be called, until it is told to."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Callable[[], None]]] = []

    def add_callback(self, function: Callable[..., None], *args: Any) -> None:
        self.call_later(0.0, function, *args)

    def call_later(self, seconds: float, function: Callable[..., None], *args: Any) -> None:
        self.later.append((seconds, lambda: function(*args)))

    def turn(self) -> list[float]:
        """Call what is to be called, and return after how many seconds it was to be."""
        now, self.later = self.later, []
        for _, call in now:
            call()
        return [seconds for seconds, _ in now]


class FakeClient:
    """Notes which topics it is subscribed to, and how often it was asked."""

    def __init__(self) -> None:
        self.loop, self.status = Loop(), "running"
        self.scheduler_comm: object | None = object()
        self.topics: set[str] = set()
        self.asked = 0

    def subscribe_topic(self, topic: str, handler: object) -> None:
        self.topics.add(topic)
        self.asked += 1

    def unsubscribe_topic(self, topic: str) -> None:
        self.topics.remove(topic)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(listeners, "monotonic", lambda: now[0])
    return now


def test_client_hears_workers_until_its_last_run_has_ended_for_a_while(clock: list[float]) -> None:
    client: Any = FakeClient()
    subscribe(client)
    subscribe(client)
    assert (client.topics, client.asked) == (set(HEARD), len(HEARD))
    unsubscribe(client)
    assert client.loop.turn() == []
    unsubscribe(client)
    assert client.loop.turn() == [0.0]
    clock[0] += 4
    assert client.loop.turn() == [listeners.IDLE]  # too early, since its clock is its own
    assert client.topics == set(HEARD)
    clock[0] += listeners.IDLE
    client.loop.turn()
    assert (client.topics, client.loop.later) == (set(), [])
    subscribe(client)
    assert (client.topics, client.asked) == (set(HEARD), 2 * len(HEARD))


def test_runs_in_a_row_ask_once_and_leave_one_look_behind(clock: list[float]) -> None:
    client: Any = FakeClient()
    for _ in range(5):
        subscribe(client)
        unsubscribe(client)
        clock[0] += 1
    assert (client.asked, len(client.loop.later)) == (len(HEARD), 1)
    subscribe(client)
    client.loop.turn()
    assert (client.topics, client.loop.later) == (set(HEARD), [])  # a run is open, whose end is another reason to look


def test_run_that_begins_while_its_client_connects_anew_hears_workers(clock: list[float]) -> None:
    client: Any = FakeClient()
    client.scheduler_comm = None
    subscribe(client)
    assert client.topics == set(HEARD)
    client.scheduler_comm = object()
    subscribe(client)  # it is not known whether this is the connection that was asked
    subscribe(client)
    assert client.asked == 2 * len(HEARD)


def test_closed_client_is_left_alone(clock: list[float]) -> None:
    client: Any = FakeClient()
    subscribe(client)
    unsubscribe(client)
    client.status = "closed"
    clock[0] += listeners.IDLE + 1
    client.loop.turn()
    assert client.topics == set(HEARD)
    subscribe(client)
    unsubscribe(client)
    assert client.loop.later == []


def test_long_lived_client_hears_nothing_while_it_runs_nothing(
    dask: Any, dask_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from real import until

    monkeypatch.setattr(listeners, "IDLE", 0.0)

    def heard() -> set[str]:
        def subscribed(client: str, dask_scheduler: Any) -> list[str]:
            return [name for name, topic in dask_scheduler._broker._topics.items() if client in topic.subscribers]

        return set(dask_client.run_on_scheduler(subscribed, client=dask_client.id)) & set(HEARD)

    with Flow("listens") as flow:
        task(lambda: 1, name="one")()
    assert flow.run(executor=dask, history=False).is_successful()
    until(lambda: not heard(), 30.0)
    subscribe(dask_client)
    until(lambda: heard() == set(HEARD), 30.0)
    unsubscribe(dask_client)
    until(lambda: not heard(), 30.0)


def test_session_that_is_closed_twice_takes_nothing_from_another_run() -> None:
    client: Any = FakeClient()
    first, second = Listening(client), Listening(client)
    first.end()
    first.end()
    assert listeners._subscriptions[client].runs == 1
    second.end()
    assert listeners._subscriptions[client].runs == 0
