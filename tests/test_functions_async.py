"""Async tasks in async flow functions, written as for Prefect 3: awaited, gathered, in tasks and groups of asyncio."""

from __future__ import annotations

import asyncio
import threading

import pytest
from bodies import inc, inverse

from prefectish import flow, task
from prefectish.engine.state import Failed, Success
from prefectish.functions.futures import CallFuture


@task
async def soon(x):
    await asyncio.sleep(0)
    return x + 1


@task
async def refuses(x):
    await asyncio.sleep(0)
    raise KeyError(x)


async def gathered():
    states = await refuses(1, return_state=True), await soon(1, return_state=True)
    kinds = [type(state) for state in states]
    allowed = await refuses(2, allow_failure=True)
    several = await asyncio.gather(soon(2), refuses(3), return_exceptions=True)
    return kinds, type(allowed), states[1].result, [several[0], repr(several[1])]


async def in_tasks():
    first = asyncio.create_task(soon(1), name="first")
    async with asyncio.TaskGroup() as group:
        others = [group.create_task(soon(n)) for n in (2, 3)]
    failed = asyncio.ensure_future(refuses(1))
    with pytest.raises(KeyError):
        await failed
    return await first, [other.result() for other in others]


async def in_time():
    return await asyncio.wait_for(soon(1), 60), sorted(
        [await found for found in asyncio.as_completed([soon(1), soon(5)])]
    )


async def again():
    called = soon(1)
    assert asyncio.iscoroutine(called)
    twice = await called, await called
    return twice, inc(called), inc.submit(called).result(), await soon(soon(called)), called.result()


async def after_it_was_taken():
    """Each asyncio task waits for it by itself, at once or later, also after a time limit."""

    @task
    async def late(x):
        await asyncio.sleep(0.2)
        return x + 1

    async def limited(called):
        return await asyncio.wait_for(called, 60)

    called = late(1)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(called, 0.001)
    at_once = await asyncio.gather(limited(called), limited(called))
    return at_once, await asyncio.gather(called), await asyncio.create_task(called), await called


async def by_default():
    asked = soon.copy(return_state=True)
    return type(await asked(1)), type(await refuses.copy(return_state=True)(1))


async def with_failures():
    @flow
    async def inner():
        return await asyncio.gather(soon(1), refuses(1))

    state = await inner(return_state=True)
    return type(state), type(inverse(0, return_state=True))


#: What each async flow gives, on every executor.
EXPECTED = {
    gathered: ([Failed, Success], Failed, 2, [3, "KeyError(3)"]),
    in_tasks: (2, [3, 4]),
    in_time: (2, [2, 6]),
    again: ((2, 2), 3, 3, 4, 2),
    after_it_was_taken: ([2, 2], [2], 2, 2),
    by_default: (Success, Failed),
    with_failures: (Failed, Failed),
}


@pytest.mark.parametrize("program", EXPECTED, ids=lambda program: program.__name__)
def test_async_task_is_awaited_as_its_coroutine(executor, program):
    assert asyncio.run(flow(program, executor=executor, history=False)()) == EXPECTED[program]


def test_call_that_is_given_up_goes_on():
    """A time limit of asyncio is of who waits; the flow waits for its calls."""
    ended = []

    @task
    async def late():
        await asyncio.sleep(0.05)
        ended.append(1)

    async def leaves():
        called = late()
        called.close()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(called, 0.001)
        refused = late()
        with pytest.raises(OSError, match="no"):
            refused.throw(OSError("no"))
        assert isinstance(called, CallFuture)

    asyncio.run(flow(leaves, history=False)())
    assert ended == [1, 1]


def test_call_whose_time_was_up_is_waited_for_again():
    released = threading.Event()

    @task
    async def late():
        while not released.is_set():
            await asyncio.sleep(0.01)
        return 7

    async def asks_again():
        called = late()
        try:
            for _ in range(2):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(asyncio.ensure_future(called), 0.01)
        finally:
            released.set()
        return [await asyncio.create_task(called), await asyncio.create_task(called)]

    assert asyncio.run(flow(asks_again, executor="threads", history=False)()) == [7, 7]
