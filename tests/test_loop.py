"""The loop of a run, with a session and a clock made for it."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from prefectish import Flow, Parameter, Task, context, raise_on_exception, task
from prefectish.engine import clock as clocks
from prefectish.engine.capture import interrupt
from prefectish.engine.clock import LONGEST_WAIT
from prefectish.engine.driver.inline import LocalExecutor, SerialSession
from prefectish.engine.driver.options import RunOptions
from prefectish.engine.driver.run import run_flow
from prefectish.engine.jobs.job import Receipt
from prefectish.engine.jobs.protocol import Lost
from prefectish.engine.state import Failed, Running, Scheduled, Skipped, Success
from prefectish.engine.worker.run_steps import run_job


@task
def give(x):
    return x


class Clock(clocks.Clock):
    """A clock that passes only when somebody sleeps."""

    def __init__(self):
        self.passed = 1000.0
        self.slept = []

    def seconds(self):
        return self.passed

    def wall(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.passed)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.passed += seconds

    def receipts(self, session, in_flight, due, idle=None):
        return super().receipts(session, in_flight, due)


class Given:
    """An executor of one session, made beforehand."""

    def __init__(self, session):
        self.session = session
        self.closed = False

    @contextmanager
    def start(self, plan, run):
        self.plan, self.run = plan, run
        try:
            yield self.session
        finally:
            self.closed = True


class Session(SerialSession):
    window = 4

    def __init__(self, clock=None):
        super().__init__()
        self.waits = []
        self.submitted = []
        self.clock = clock

    def submit(self, jobs):
        self.submitted.append(len(jobs))
        super().submit(jobs)

    def receipts(self, timeout):
        self.waits.append(timeout)
        return super().receipts(timeout)


def test_loop_submits_what_progress_returns_and_closes_the_session():
    with Flow("loop") as flow:
        out = give.map(range(6))
    executor = Given(Session())
    state = run_flow(flow, {}, RunOptions(executor=executor))
    assert state.result[out].result == [0, 1, 2, 3, 4, 5]
    first, *rest = executor.session.submitted
    assert (first, sum(rest)) == (4, 2)
    assert executor.closed
    assert executor.plan.flow_name == executor.run["flow_name"] == "loop"


def test_loop_sleeps_until_a_retry_is_due_and_no_longer(tmp_path):
    path = tmp_path / "ran"

    @task(max_retries=1, retry_delay=timedelta(hours=1))
    def unsteady():
        if path.exists():
            return "done"
        path.touch()
        raise ValueError

    with Flow("timer") as flow:
        out = unsteady()
    clock = Clock()
    state = run_flow(flow, {}, RunOptions(executor=LocalExecutor()), clock=clock)
    assert state.result[out].result == "done"
    assert sum(clock.slept) == pytest.approx(3600, abs=5)
    assert max(clock.slept) <= LONGEST_WAIT


def test_loop_asks_for_receipts_no_longer_than_a_timer_allows():
    with Flow("timer") as flow:
        out = give(1)
        other = give(2)
    clock = Clock()
    session = Session()
    start = Scheduled(start_time=clock.wall() + timedelta(seconds=0.25))
    state = run_flow(flow, {}, RunOptions(executor=Given(session), task_states={out: start}), clock=clock)
    assert state.is_successful()
    assert {type(state.result[t]) for t in (out, other)} == {Success}
    assert session.waits[0] == pytest.approx(0.25)


def test_session_that_loses_a_job_gives_a_crash():
    class Losing(Session):
        def receipts(self, timeout):
            job = self._queue.popleft()
            lost = Lost("killed-worker", deaths=2) if job.index == 1 else None
            return [Receipt(job, () if lost else run_job(job), lost)]

    with Flow("losses") as flow:
        out = give.map([0, 1, 2])
    state = run_flow(flow, {}, RunOptions(executor=Given(Losing())))
    assert state.exit_code == 3
    assert [type(s).__name__ for s in state.result[out].map_states] == ["Success", "Crashed", "Success"]
    assert state.result[out].map_states[1].message == "worker died 2 times while running give-1[1]"


def test_session_that_cannot_start_lets_its_error_out():
    class Closed:
        def start(self, plan, run):
            raise ConnectionError("no scheduler")

    with Flow("closed") as flow:
        give(1)
    with pytest.raises(ConnectionError, match="no scheduler"):
        run_flow(flow, {}, RunOptions(executor=Closed()))
    assert "flow_run_id" not in context


@pytest.mark.parametrize("wrong", ["dusk", 3, LocalExecutor])
def test_executor_that_is_none_is_refused_by_name(wrong):
    flow = Flow("f", tasks=[Task()])
    with pytest.raises(TypeError, match="executor must be an Executor instance") as caught:
        flow.run(executor=wrong)
    assert repr(wrong) in str(caught.value)


def test_error_of_a_task_comes_out_under_raise_on_exception_and_the_session_is_closed():
    @task
    def fail():
        raise ValueError("out")

    with Flow("raises") as flow:
        fail()
    executor = Given(Session())
    with raise_on_exception(), pytest.raises(ValueError, match="out"):
        run_flow(flow, {}, RunOptions(executor=executor))
    assert executor.closed


def test_flow_handler_may_end_the_run_before_it_begins():
    with Flow("veto", state_handlers=[lambda flow, old, new: Skipped("not today")]) as flow:
        give(1)
    state = run_flow(flow, {}, RunOptions(executor=Given(None)))
    assert (type(state), state.message) == (Skipped, "not today")


def test_flow_handlers_see_the_state_that_was_given():
    seen = []
    with Flow("given", state_handlers=[lambda flow, old, new: seen.append((old, new))]) as flow:
        give(1)
    given = Scheduled("at noon")
    run_flow(flow, {}, RunOptions(state=given))
    assert seen[0][0] is given
    assert seen[0][1].message == "Running flow."


def test_flow_handler_that_breaks_comes_out_under_raise_on_exception():
    def break_down(flow, old, new):
        raise KeyError("handler")

    with Flow("broken", state_handlers=[break_down]) as flow:
        give(1)
    with raise_on_exception(), pytest.raises(KeyError, match="handler"):
        run_flow(flow, {})


def test_parameters_are_in_the_context_of_the_run():
    seen = {}

    @task
    def look(x):
        seen.update(context.parameters)

    with Flow("parameters") as flow:
        look(Parameter("x", default=3))
    run_flow(flow, {"x": 4})
    assert seen == {"x": 4}


def test_keyboard_interrupt_of_a_body_is_its_own():
    @task
    def interrupted():
        raise KeyboardInterrupt

    with Flow("own") as flow:
        out = interrupted()
    state = run_flow(flow, {})
    assert type(state.result[out]) is Failed
    assert not interrupt.is_set()


def test_interrupt_of_the_user_ends_the_run():
    before = signal.getsignal(signal.SIGINT)

    @task
    def interrupted():
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(5)

    with Flow("interrupt") as flow:
        interrupted()
    with pytest.raises(KeyboardInterrupt):
        run_flow(flow, {})
    assert signal.getsignal(signal.SIGINT) is before
    assert not interrupt.is_set()


def test_run_in_a_thread_leaves_signals_alone():
    with Flow("thread") as flow:
        out = give(1)
    states = []
    thread = threading.Thread(target=lambda: states.append(run_flow(flow, {})))
    thread.start()
    thread.join()
    assert states[0].result[out].result == 1


def test_runs_nest():
    with Flow("inner") as inner:
        inner_out = give(Parameter("x"))

    @task
    def outer(x):
        name = context.task_name
        result = run_flow(inner, {"x": x}).result[inner_out].result
        return (result, name, context.task_name, context.flow_name)

    with Flow("outer") as flow:
        out = outer(7)
    assert run_flow(flow, {}).result[out].result == (7, "outer", "outer", "outer")


def test_unfinished_run_says_so():
    with Flow("unfinished") as flow:
        out = give(1)
    state = run_flow(flow, {}, RunOptions(task_states={out: Running()}))
    assert type(state) is Running
    assert state.exit_code == 5


def test_states_of_tasks_that_are_not_in_the_flow_are_refused():
    with Flow("one") as flow:
        give(1)
    with Flow("other") as other:
        foreign = give(2)
    with pytest.raises(ValueError, match=r"task_states: <Task: give> not in <Flow: name=one>"):
        flow.run(task_states={foreign: Success()}, history=False)
    assert other.run(task_states={foreign: Success(result=5)}, history=False).result[foreign].result == 5


def test_given_states_are_states():
    with Flow("one") as flow:
        out = give(1)
    with pytest.raises(TypeError, match=r"task_states: the state of <Task: give> must be a State such as .*, got 5"):
        flow.run(task_states={out: 5}, history=False)
    with pytest.raises(TypeError, match="state must be a State, got 'Success'"):
        flow.run(state="Success", history=False)
