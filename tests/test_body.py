"""Calling a body: functions, coroutines, running loops, and threads beside the slot."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest
from bodies import later

from prefectish import Flow, task
from prefectish.engine.capture import Error, Value, interrupt
from prefectish.engine.side_thread import SideThread, current_side_thread
from prefectish.engine.state import Failed, Success
from prefectish.engine.worker.body import call_body


@task
def plain(x):
    return x + 1


@task
def hands_on(x):
    return later.run(x)


@task
async def stream(x):
    yield x


def test_function_is_called_in_this_thread():
    @task
    def where():
        return threading.current_thread()

    assert call_body(where, {}).value is threading.current_thread()


@pytest.mark.parametrize("body", [plain, later, hands_on], ids=lambda body: body.name)
def test_result_of_a_body_is_a_value(body):
    outcome = call_body(body, {"x": 1})
    assert type(outcome) is Value
    assert outcome.value == 2


@pytest.mark.parametrize("body", [later, hands_on], ids=lambda body: body.name)
def test_coroutine_is_run_beside_a_running_loop(body):
    async def main():
        return call_body(body, {"x": 1})

    assert asyncio.run(main()).value == 2


def test_error_of_a_coroutine_begins_in_the_users_code():
    @task
    async def broken():
        raise ValueError("no")

    outcome = call_body(broken, {})
    assert type(outcome) is Error
    assert str(outcome.exception) == "no"
    frames = outcome.exception.__traceback__
    while frames.tb_next is not None:
        frames = frames.tb_next
    assert frames.tb_frame.f_code.co_name == "broken"


def test_coroutine_leaves_the_loop_of_its_thread_alone():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        call_body(later, {"x": 1})
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_async_generator_is_refused_with_the_way_out():
    outcome = call_body(stream, {"x": 1})
    assert type(outcome) is Error
    text = "stream is an async generator, which cannot be iterated over once its event loop has ended"
    assert str(outcome.exception).startswith(text)


def test_async_generator_fails_its_task_alone():
    with Flow("streams") as flow:
        bad, good = stream(1), later(1)
    state = flow.run()
    assert type(state.result[bad]) is Failed
    assert state.result[good] == Success(result=2)


# ---------------------------------------------------------------------- threads beside the slot


def test_helper_sees_the_context_of_the_thread_that_starts_it():
    variable = contextvars.ContextVar("variable")
    variable.set("set before")
    assert SideThread(lambda: Value(variable.get()), "test").wait(10).value == "set before"


def test_helper_keeps_its_changes_of_the_context_to_itself():
    variable = contextvars.ContextVar("variable", default="as it was")
    SideThread(lambda: Value(variable.set("changed")), "test").wait(10)
    assert variable.get() == "as it was"


def test_helper_that_is_left_behind_is_counted_until_it_ends():
    gate = threading.Event()
    helpers = [SideThread(lambda: Value(gate.wait(30)), "test") for _ in range(2)]
    assert helpers[0].wait(0.001) is None
    first, second = (helper.abandon() for helper in helpers)
    assert first >= 1
    assert second == first + 1
    gate.set()
    for helper in helpers:
        helper.thread.join(10)
        assert helper.wait(0) is None  # its late result is dropped
        assert helper.abandon() == 0
    third = SideThread(lambda: Value(threading.Event().wait(0.2)), "test")
    assert third.abandon() == first
    third.thread.join(10)


def test_helper_is_known_in_its_own_thread_only():
    def look():
        inner = []
        scope = contextvars.copy_context()
        thread = threading.Thread(target=lambda: inner.append(scope.run(current_side_thread)))
        thread.start()
        thread.join(10)
        return Value((current_side_thread(), inner[0]))

    helper = SideThread(look, "test")
    assert helper.wait(10).value == (helper, None)
    assert current_side_thread() is None


def test_users_interrupt_in_a_helper_ends_the_wait():
    def interrupted():
        raise KeyboardInterrupt

    interrupt.set()
    try:
        assert isinstance(SideThread(interrupted, "test").wait(10).exception, KeyboardInterrupt)
    finally:
        interrupt.clear()
