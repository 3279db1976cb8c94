"""Async bodies on every executor, and flows that run beside a running loop, as in a notebook."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading

import pytest
from bodies import inc, later
from real import until

from prefectish import Flow, context, task
from prefectish.engine import signals
from prefectish.engine.state import Failed, Skipped, Success


@task
async def several(xs):
    """Let coroutines run beside one another in one body."""
    gates = [asyncio.Event() for _ in xs]

    async def wait(i):
        gates[i - 1].set()  # none goes on before all have begun
        await gates[i].wait()
        return xs[i]

    return await asyncio.gather(*(wait(i) for i in range(len(xs))))


def test_async_bodies_map_and_mix_with_others(run):
    with Flow("async") as flow:
        out = inc.map(later.map([1, 2, 3]))
        together = several(out)
    state = run(flow)
    assert state.result[out].result == [3, 4, 5]
    assert state.result[together].result == [3, 4, 5]


def test_async_body_finds_its_context_after_an_await(run):
    @task
    async def look():
        before = context.map_index
        await asyncio.sleep(0)
        return (before, context.map_index, await asyncio.create_task(inner()), await asyncio.to_thread(name))

    async def inner():
        return context.task_full_name

    def name():
        return context.flow_name

    with Flow("async") as flow:
        out = look.map(upstream_tasks=[[0, 1]])
    assert run(flow).result[out].result == [(0, 0, "look[0]", "async"), (1, 1, "look[1]", "async")]


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_async_body_raises_signals_and_errors(run, isolation):
    @task(isolation=isolation)
    async def end(how):
        await asyncio.sleep(0)
        if how == "skip":
            raise signals.SKIP("not me")
        raise ValueError("no")

    with Flow("async") as flow:
        out = end.map(["skip", "fail"])
    skipped, failed = run(flow).result[out].map_states
    assert (type(skipped), skipped.message) == (Skipped, "not me")
    assert (type(failed), failed.message) == (Failed, "Error during execution of task: ValueError('no')")


def test_async_body_retries_and_loops(run):
    @task(max_retries=1, retry_delay=0)
    async def turns():
        await asyncio.sleep(0)
        if context.task_run_count == 1:
            raise ValueError("again")
        if context.get("task_loop_count", 1) < 3:
            raise signals.LOOP(result=context.get("task_loop_result", 0) + 1)
        return context.task_loop_result

    with Flow("async") as flow:
        out = turns()
    assert run(flow).result[out] == Success(result=2)


def test_task_left_in_the_loop_is_cancelled_with_it(run, tmp_path):
    @task
    async def leave():
        begun = asyncio.Event()

        async def background():
            try:
                begun.set()
                await asyncio.sleep(60)
            finally:
                (tmp_path / "ended").touch()

        asyncio.create_task(background())  # noqa: RUF006  nobody waits for it
        await begun.wait()
        return "done"

    with Flow("async") as flow:
        out = leave()
    assert run(flow).result[out].result == "done"
    assert (tmp_path / "ended").exists()


def test_async_generator_fails_its_task(run):
    @task
    async def stream():
        yield 1

    with Flow("async") as flow:
        out = stream()
    state = run(flow).result[out]
    assert type(state) is Failed
    assert "collect in the body, `return [x async for x in ...]`" in state.message


# ---------------------------------------------------------------------- beside a running loop


def test_c8_flow_runs_inside_a_running_loop(run):
    with Flow("notebook") as flow:
        out = inc.map(later.map([1, 2]))

    async def cell():
        return run(flow)

    assert asyncio.run(cell()).result[out].result == [3, 4]


def test_body_in_a_thread_of_its_own_keeps_the_context_variables_of_the_cell():
    variable = contextvars.ContextVar("variable", default="nothing")

    @task
    async def look():
        return (variable.get(), threading.current_thread() is threading.main_thread())

    with Flow("notebook") as flow:
        out = look()

    async def cell():
        variable.set("of the cell")
        return flow.run()

    assert asyncio.run(cell()).result[out].result == ("of the cell", False)


def test_interrupt_beside_a_running_loop_ends_the_run(tmp_path):
    @task
    async def wait():
        (tmp_path / "began").touch()
        await asyncio.sleep(60)

    with Flow("notebook") as flow:
        wait()

    def interrupt():
        until((tmp_path / "began").exists, 20)
        os.kill(os.getpid(), signal.SIGINT)

    async def cell():
        with pytest.raises(KeyboardInterrupt):
            flow.run()
        return "the loop goes on"

    threading.Thread(target=interrupt).start()
    assert asyncio.run(cell()) == "the loop goes on"
