"""Many jobs on threads: each thread runs one after another from one line, and none waits behind another."""

from __future__ import annotations

import contextvars
import threading

import pytest
from jobs import jobs_of
from real import until

from prefectish import Flow, task
from prefectish.executors import LocalDaskExecutor
from prefectish.executors.pool_jobs import PoolJob
from prefectish.executors.threads import Threads

#: How long a body waits for another one: longer than any machine needs.
LONG = 30
MANY = 100


@task
def double(x):
    return 2 * x


@pytest.fixture
def threads():
    made = Threads(2, "run")
    yield made
    made.close()


def pool_jobs_of(body, width=MANY):
    with Flow("line") as flow:
        body.map(list(range(width)))
    _, jobs = jobs_of(flow)
    return [PoolJob(job) for job in jobs]


def test_each_step_of_a_long_graph_is_reported_once(threads):
    reported = []
    threads.run(pool_jobs_of(double), reported.append, 4, None)
    assert sorted((b.job.index, record.state.result) for b, _, record in reported) == [(x, 2 * x) for x in range(MANY)]


def test_slow_job_holds_up_no_other(threads):
    others = threading.Semaphore(0)

    @task
    def wait_for_all(x):
        if x == 10:
            assert all(others.acquire(timeout=LONG) for _ in range(MANY - 1))
        else:
            others.release()
        return x

    reported = []
    threads.run(pool_jobs_of(wait_for_all), reported.append, 4, None)
    assert [record.state.is_successful() for _, _, record in reported] == [True] * MANY
    assert reported[-1][0].job.index == 10


def test_what_a_body_sets_is_not_seen_by_the_next(threads):
    seen = contextvars.ContextVar("seen", default=None)

    @task
    def note(x):
        before = seen.get()
        seen.set(x)
        return before

    reported = []
    threads.run(pool_jobs_of(note), reported.append, 4, None)
    assert {record.state.result for _, _, record in reported} == {None}


def test_job_that_is_cancelled_meanwhile_never_begins(threads):
    made = pool_jobs_of(double)

    def report(arrival):
        reported.append(arrival)
        if len(reported) == 20:
            for pool_job in made:
                pool_job.cancelled = True

    reported = []
    threads.run(made, report, 4, None)
    assert len(reported) == MANY
    assert sum(record is not None for _, _, record in reported) <= 21


def test_error_of_a_report_breaks_the_graph_and_nothing_more_begins(threads):
    reported = []

    def report(arrival):
        reported.append(arrival)
        raise RuntimeError("no place to report to")

    with pytest.raises(RuntimeError, match="no place to report to"):
        threads.run(pool_jobs_of(double), report, 4, None)
    assert len(reported) <= 2


def test_calls_go_before_what_is_left_of_a_line(threads):
    order, wait = [], threading.Event()

    class Call:
        def submitted(self):
            wait.set()

    @task
    def note(x):
        if x == 20:
            threads.pool.submit_first(Call(), order.append, "call").add_done_callback(lambda ended: None)
            assert wait.wait(LONG)
        order.append(x)

    reported = []
    threads.run(pool_jobs_of(note), reported.append, 4, None)
    assert len(reported) == MANY
    assert order.index("call") <= 23


def test_threads_that_a_call_came_to_go_on_with_the_line_while_another_job_takes_long(threads):
    """The long one ends when all others have: if a thread waited for it, they would never."""
    ended, first_ran, both = [], threading.Event(), threading.Barrier(2)

    class Call:
        def submitted(self):
            pass

    @task
    def work(x):
        if x < 2:
            both.wait(LONG)
        if x == 20:
            threads.pool.submit_first(Call(), first_ran.set).add_done_callback(lambda ended: None)
            assert first_ran.wait(LONG)
            until(lambda: len(ended) == MANY - 1, LONG)
        ended.append(x)

    reported = []
    threads.run(pool_jobs_of(work), reported.append, 4, None)
    assert len(reported) == MANY
    assert {record.state.message for _, _, record in reported} == {"Task run succeeded."}


def test_map_of_many_quick_children_has_all_results():
    with Flow("many") as flow:
        out = double.map(list(range(3000)))
    state = flow.run(executor=LocalDaskExecutor(num_workers=4), history=False)
    assert state.result[out].result == [2 * x for x in range(3000)]
