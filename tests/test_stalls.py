"""When nothing ends for a while: a warning, once, that names what is open; also a crash is told."""

from __future__ import annotations

import logging
import os
import threading

import pytest
from real import until

from prefectish import Flow, task
from prefectish.executors import LocalDaskExecutor, LocalExecutor


def told(caplog, text):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and text in r.getMessage()]


@pytest.mark.parametrize("limit", [0.2, None])
def test_stall_on_threads_is_reported_once(caplog, limit):
    gate = threading.Event()

    @task
    def wait(x):
        assert gate.wait(90)
        return x

    with Flow("stall") as flow:
        waiting = wait.map(range(3))
    run = flow.start(executor=LocalDaskExecutor("threads", num_workers=3, stall_warning=limit), history=False)
    if limit is None:
        with pytest.raises(TimeoutError):
            run.wait(2)
        assert not told(caplog, "nothing has ended")
    else:
        (text,) = until(lambda: told(caplog, "nothing has ended for"))
        assert "3 tasks are open: wait[0], wait[1], wait[2]" in text
        with pytest.raises(TimeoutError):
            run.wait(2)
        assert len(told(caplog, "nothing has ended for")) == 1, "it was told again"
    gate.set()
    assert run.wait(90).result[waiting].result == [0, 1, 2]


def test_retry_that_waits_is_not_a_stall(caplog):
    tried = []

    @task(max_retries=1, retry_delay=2)
    def work():
        tried.append(1)
        if len(tried) == 1:
            raise ValueError("again")

    with Flow("waits") as flow:
        work()
    state = flow.run(executor=LocalDaskExecutor("threads", num_workers=1, stall_warning=0.3), history=False)
    assert state.is_successful()
    assert not told(caplog, "nothing has ended")


def test_crash_is_logged_with_the_last_words_of_the_process(caplog):
    @task
    def work(x):
        logging.getLogger("mine").warning("these are the last words")
        os._exit(7)

    with Flow("crash") as flow:
        work(1)
    flow.run(executor=LocalDaskExecutor("processes", num_workers=1), history=False)
    (text,) = told(caplog, "worker died 2 times while running work-1 (exit code 7)")
    assert "mine WARNING these are the last words" in text


@pytest.mark.parametrize("scheduler", ["local", "synchronous"])
def test_body_that_holds_up_the_loop_is_reported_by_name(caplog, scheduler):
    executor = (
        LocalExecutor(stall_warning=0.3) if scheduler == "local" else LocalDaskExecutor(scheduler, stall_warning=0.3)
    )

    @task
    def wait(x):
        if x == 1:
            until(lambda: told(caplog, "nothing has ended for"))
        return x

    with Flow("stall") as flow:
        waited = wait.map(range(3))
    state = flow.run(executor=executor, history=False)
    assert state.result[waited].result == [0, 1, 2]
    (text,) = told(caplog, "nothing has ended for")
    assert "what runs is wait[1]. One that never ends needs a timeout" in text
