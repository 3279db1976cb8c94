"""Async children that share a slot: each waits until all of them have begun, which they never did one by one."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from bodies import append, lines, state_names
from real import spend
from spellings import Spelled

from prefectish import Flow, context, task, triggers
from prefectish.engine import signals
from prefectish.engine.state import TimedOut

#: Seconds after which a body gives up, and its test fails.
LIMIT = 30
at_once = pytest.mark.parametrize("executor", ["threads", "processes", "dask"], indirect=True)


@task(async_concurrency=10)
async def meet(folder, x, many=10):
    (folder / str(x)).touch()
    end = time.monotonic() + LIMIT
    while len(list(folder.iterdir())) < many:
        assert time.monotonic() < end, "the others did not begin"
        await asyncio.sleep(0.01)
    return x, context.get("map_index")


@at_once
def test_children_share_slots(spelled, tmp_path):
    from prefectish import unmapped

    states = spelled.states(lambda: {"met": meet.map(unmapped(tmp_path), range(10))})
    assert states["met"].result == [(n, n) for n in range(10)]


@at_once
def test_calls_share_slots(tmp_path, executor):
    spelled = Spelled("function", executor)
    program = lambda: {str(n): meet.submit(tmp_path, n) for n in range(10)}  # noqa: E731
    states = spelled.states(program)
    assert [state.result[0] for state in states.values()] == list(range(10))


def test_each_child_has_its_own_end(spelled, tmp_path):
    counted = tmp_path / "tries"

    @task(async_concurrency=4, max_retries=1, retry_delay=0)
    async def various(x):
        await asyncio.sleep(0)
        if x == 1:
            raise ValueError("one")
        if x == 2:
            raise signals.SKIP("two")
        if x == 3:
            append(counted, "x")
            if len(lines(counted)) == 1:
                raise ConnectionError("again")
        if x == 4:
            raise asyncio.CancelledError("four")
        return x

    states = spelled.states(lambda: {"various": various.map(range(6))})
    assert state_names(states["various"]) == ["Success", "Failed", "Skipped", "Success", "Failed", "Success"]


@at_once
def test_time_limit_cancels_one_of_them(spelled):
    @task(async_concurrency=4, timeout=0.3)
    async def slow(x):
        await asyncio.sleep(30 if x == 1 else 0)
        return x

    began = time.monotonic()
    states = spelled.states(lambda: {"slow": slow.map(range(3))})
    assert [type(child) is TimedOut for child in states["slow"].map_states] == [False, True, False]
    assert time.monotonic() - began < 25


@task(async_concurrency=2, timeout=0.5)
async def block(folder):
    (folder / "blocks").touch()
    end = time.monotonic() + LIMIT
    while not (folder / "others have run").exists() and time.monotonic() < end:
        spend(0.01)
    (folder / "went on").touch()


@task(async_concurrency=2, trigger=triggers.all_finished)
async def run_beside(folder, blocked):
    await asyncio.sleep(0)
    found = (folder / "blocks").exists(), (folder / "went on").exists()
    (folder / "others have run").touch()
    return found


def test_body_that_blocks_past_its_time_limit_holds_up_nothing_later(spelled, tmp_path):
    def program():
        blocked = block.map([tmp_path])
        return {"blocked": blocked, "beside": run_beside.map([tmp_path], blocked)}

    states = spelled.states(program)
    assert state_names(states["blocked"]) == ["TimedOut"]
    assert states["beside"].result == [(True, False)]


def test_body_that_exits_leaves_the_loop_to_the_others(spelled):
    @task(async_concurrency=3)
    async def leaves(x):
        await asyncio.sleep(0)
        if x == 0:
            raise SystemExit(3)
        await asyncio.sleep(0.01)
        return x

    states = spelled.states(lambda: {"leaves": leaves.map(range(3))})
    assert state_names(states["leaves"]) == ["Failed", "Success", "Success"]


def test_what_cannot_share_a_slot_is_refused():
    with pytest.raises(ValueError, match="plain: async_concurrency needs an async function; write `async def`"):
        task(lambda x: x, name="plain", async_concurrency=3)
    with pytest.raises(ValueError, match="async_concurrency must be >= 1, got 0"):
        task(meet.fn, async_concurrency=0)
    with pytest.raises(ValueError, match="async_concurrency=3 contradicts isolation='process'"):
        task(meet.fn, async_concurrency=3, isolation="process")
    with pytest.raises(ValueError, match="needs an async function"):
        task(lambda x: x, name="plain").copy(async_concurrency=2)
    assert meet.copy(async_concurrency=None).async_concurrency is None


@pytest.mark.parametrize("executor", ["threads"], indirect=True)
def test_bodies_that_only_wait_need_no_thread_each(executor):
    seen = []

    @task(async_concurrency=200)
    async def wait_for_all(x):
        seen.append(x)
        end = time.monotonic() + LIMIT
        while len(seen) < 200:
            assert time.monotonic() < end, "the others did not begin"
            await asyncio.sleep(0.01)
        return sum(thread.name.startswith("prefectish") for thread in threading.enumerate())

    with Flow("waiting") as flow:
        counts = wait_for_all.map(range(200))
    state = flow.run(executor=executor)
    assert max(state.result[counts].result) < 20


@pytest.mark.parametrize("executor", ["threads"], indirect=True)
def test_tasks_that_share_slots_have_them_together_whatever_is_attached_to_them(executor):
    running, peaks = [], []

    async def count(x):
        running.append(x)
        peaks.append(len(running))
        await asyncio.sleep(0.01)
        running.remove(x)

    with Flow("together") as flow:
        task(count, name="bare", async_concurrency=2).map(range(12))
        task(count, name="handled", async_concurrency=2, state_handlers=[lambda t, old, new: new]).map(range(20, 32))
        task(count, name="limited", async_concurrency=2, timeout=60).map(range(40, 52))
    assert flow.run(executor=executor).is_successful()
    assert 1 < max(peaks) <= 2 * executor.num_workers
