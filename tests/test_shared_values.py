"""A large argument of a loop of calls is sent once; one that was changed meanwhile is another one."""

from __future__ import annotations

import pytest

from prefectish import flow, task
from prefectish.engine.jobs.envelope import encode
from prefectish.executors import DaskExecutor
from prefectish.executors.shared_values import SharedValues

LARGE = 1 << 19  # bytes; too many for each call


@task
def length(n, data):
    return n + len(data)


@task
def last(data):
    return data[-1]


def run(function, executor):
    return function.with_options(executor=executor, history=False)()


@pytest.fixture
def sent(monkeypatch):
    """Count the large values that were sent."""
    from prefectish.executors import session

    found = []
    send = session.ClusterSession._send_to_worker

    def counted(self, value, nbytes):
        found.append(nbytes)
        return send(self, value, nbytes)

    monkeypatch.setattr(session.ClusterSession, "_send_to_worker", counted)
    return found


@pytest.mark.parametrize("kind", [bytes, bytearray, lambda n: list(range(n // 2))], ids=["bytes", "bytearray", "list"])
def test_argument_of_a_loop_is_sent_once(executor, sent, kind):
    big = kind(LARGE)

    @flow
    def looped():
        futures = [length.submit(n, big) for n in range(10)]
        return [future.result() for future in futures], length(0, big)

    found, called = run(looped, executor)
    assert found == [len(big) + n for n in range(10)]
    assert called == len(big)
    assert len(sent) == isinstance(executor, DaskExecutor)


def test_changed_argument_is_another_one(executor, sent):
    @flow
    def changed():
        numbers = list(range(LARGE // 2))
        found = []
        for n in range(3):
            numbers.append(n)
            found.append(last.submit(numbers).result())
        numbers[-1] = "x"
        return [*found, last(numbers)]

    assert run(changed, executor) == [0, 1, 2, "x"]


def test_place_of_one_that_is_gone_is_taken_by_another(executor, sent):
    @flow
    def several():
        return [last.submit([n] * (LARGE // 2)).result() for n in range(5)]

    assert run(several, executor) == list(range(5))


def test_same_argument_of_several_tasks_and_places_is_sent_once(dask, sent):
    big = bytes(LARGE)

    @flow
    def mixed():
        first = length.submit(0, big)
        second = last.submit(data=big)
        return first.result(), second.result(), length.submit(first, big).result()

    assert run(mixed, dask) == (LARGE, 0, 2 * LARGE)
    assert len(sent) == 1


def test_references_are_by_content_and_few_are_kept():
    made = []

    def send(value):
        made.append(value)
        return len(made)

    shared = SharedValues(send)
    numbers = [1, 2, 3]
    assert [shared.reference(encode(numbers, "x", keep=False)) for _ in range(2)] == [1, 1]
    assert shared.reference(encode([1, 2, 3], "y", keep=False)) == 1
    numbers.append(4)
    assert shared.reference(encode(numbers, "x", keep=False)) == 2
    assert [shared.reference(str(n)) for n in (1, 2, 3, 1)] == [3, 4, 5, 3]
    assert shared.reference(encode([1, 2, 3], "x", keep=False)) == 6  # the oldest had to go
    shared.forget()
    assert shared.reference("3") == 7


def test_value_that_is_seen_once_is_sent_by_itself():
    shared = SharedValues(lambda value: f"file of {value}", first=lambda value: value)
    assert [shared.reference("a"), shared.reference("b"), shared.reference("a"), shared.reference("a")] == [
        "a",
        "b",
        "file of a",
        "file of a",
    ]
    assert shared.reference(17) == "file of 17"
