"""Bodies in processes of their own: killed at the limit, crashing alone, seeing and saying what others do."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest
from real import spend, until

from prefectish import Flow, Task, context, history, task
from prefectish.engine import signals
from prefectish.engine.state import Crashed, Failed, Success, TimedOut
from prefectish.engine.worker.isolation import frames
from prefectish.errors import RemoteError


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def run_alone(body, *args, **options):
    with Flow("alone") as flow:
        out = body(*args, **options)
    return flow.run().result[out]


isolated = task(isolation="process")


class Point:
    def __init__(self, x):
        self.x = x


@task(isolation="process")
def pid(x=None):
    return os.getpid()


@task(isolation="process", timeout=0.5)
def hang(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    spend(60)


@task(isolation="process")
def die(code):
    os._exit(code)


# ---------------------------------------------------------------------- the contract of every executor


def test_body_runs_in_a_process_of_its_own(run):
    with Flow("isolated") as flow:
        out = pid.map([1, 2])
    first, second = run(flow).result[out].result
    assert first != second
    assert os.getpid() not in (first, second)
    assert not alive(first)
    assert not alive(second)


def test_u13_body_is_killed_at_its_limit(run, tmp_path):
    with Flow("hangs") as flow:
        out = hang.map([tmp_path / "a", tmp_path / "b"])
        after = pid()
    state = run(flow)
    for child, name in zip(state.result[out].map_states, "ab", strict=True):
        assert type(child) is TimedOut
        assert child.message == "Task timed out during execution."
        assert not alive(int((tmp_path / name).read_text()))
    assert type(state.result[after]) is Success


def test_u13_killed_within_a_second(tmp_path):
    began = time.monotonic()
    state = run_alone(hang, tmp_path / "pid")
    seconds = time.monotonic() - began
    assert type(state) is TimedOut
    started = os.stat(tmp_path / "pid").st_mtime  # the body's first line
    assert time.time() - started < 0.5 + 1
    assert seconds < 10


def test_results_and_errors_come_back(run):
    @task(isolation="process")
    def answer(how):
        if how == "raise":
            raise KeyError("missing")
        if how == "skip":
            raise signals.SKIP("not me", result=[1])
        if how == "exit":
            sys.exit(3)
        return Point(how)

    with Flow("answers") as flow:
        out = answer.map(["x", "raise", "skip", "exit"])
    value, error, skipped, left = run(flow).result[out].map_states
    assert (type(value), value.result.x) == (Success, "x")
    assert error.message == "Error during execution of task: KeyError('missing')"
    assert isinstance(error.result, KeyError)
    assert "in answer" in error.traceback
    assert (skipped.message, skipped.result) == ("not me", [1])
    assert left.message == "Error during execution of task: SystemExit(3)"


def test_process_that_dies_is_a_crash_of_its_child_alone(run):
    with Flow("crashes") as flow:
        out = die.map([7])
        beside = pid()
    state = run(flow)
    (child,) = state.result[out].map_states
    assert type(child) is Crashed
    assert child.message == "process died while running die-1[0]: exit code 7"
    assert child.cause == "killed-process"
    assert child.evidence["exit_code"] == 7
    assert "signal" not in child.evidence
    assert type(state.result[beside]) is Success
    assert type(state) is Failed
    assert state.exit_code == 3


def test_body_finds_its_context(run):
    names = ("flow_name", "flow_run_id", "map_index", "task_full_name", "task_run_count", "parameters", "extra")

    @task(isolation="process", tags=["a"])
    def look(x):
        return {name: context.get(name) for name in names} | {"tags": context.task_tags, "log": context.logger.name}

    with Flow("looks") as flow:
        out = look.map([1])
    state = run(flow, context={"extra": 7})
    assert state.result[out].result == [
        {
            "flow_name": "looks",
            "flow_run_id": state.context["flow_run_id"],
            "map_index": 0,
            "task_full_name": "look[0]",
            "task_run_count": 1,
            "parameters": {},
            "extra": 7,
            "tags": {"a"},
            "log": "prefectish.look[0]",
        }
    ]


def test_result_that_cannot_be_pickled_fails_its_child(run):
    @task(isolation="process")
    def lock():
        return threading.Lock()

    with Flow("locks") as flow:
        out = lock()
    state = run(flow).result[out]
    assert type(state) is Failed
    assert state.message.startswith("result of lock-1 could not be pickled: TypeError: cannot pickle")


def test_loop_and_retry_run_in_processes_of_their_own(run):
    @task(isolation="process", max_retries=1, retry_delay=0)
    def turn():
        count, so_far = context.get("task_loop_count", 1), context.get("task_loop_result", [])
        if count == 2 and context.task_run_count == 1:
            raise ValueError("once more")
        if count < 3:
            raise signals.LOOP(result=[*so_far, count])
        return [*so_far, count]

    with Flow("turns") as flow:
        out = turn()
    assert run(flow).result[out] == Success(result=[1, 2, 3])


def test_async_body_is_run_to_its_end(run):
    @task(isolation="process", timeout=30)
    async def later(x):
        import asyncio

        await asyncio.sleep(0)
        return (x, os.getpid())

    with Flow("async") as flow:
        out = later(1)
    value, where = run(flow).result[out].result
    assert value == 1
    assert where != os.getpid()


# ---------------------------------------------------------------------- what it says


def test_prints_and_logs_come_out_here(capsys, caplog):
    @task(isolation="process")
    def talk(x):
        print("printed", x)
        print("an error", file=sys.stderr)
        sys.stdout.write("no newline")
        context.logger.warning("logged %s", x, extra={"answer": 42})
        logging.getLogger("other").error("other %s", "one")
        logging.getLogger("quiet").info("not shown here, not sent")

    with Flow("talks") as flow:
        talk.map(["a"])
    flow.run()
    out, err = capsys.readouterr()
    assert out == "printed a\nno newline"
    assert err == "an error\n"
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
        ("prefectish.talk[0]", "WARNING", "logged a"),
        ("other", "ERROR", "other one"),
    ]
    assert caplog.records[0].answer == 42


def test_levels_of_loggers_hold_in_the_process(caplog):
    caplog.set_level(logging.ERROR, "prefectish")
    caplog.set_level(logging.DEBUG, "chatty")  # last: it sets the level of the handler too

    @isolated
    def talk():
        logging.getLogger("chatty").debug("a detail")
        context.logger.warning("not worth it")

    run_alone(talk)
    assert [r.getMessage() for r in caplog.records] == ["a detail"]


def test_what_bypasses_python_goes_to_standard_error(capfd):
    @isolated
    def bypass():
        os.write(1, b"from the body\n")
        return subprocess.run(["echo", "from a program"], check=True).returncode

    assert run_alone(bypass) == Success(result=0)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "from the body\nfrom a program\n"


def test_traceback_of_a_logged_error_comes_along(caplog):
    @task(isolation="process")
    def stumble():
        try:
            raise ValueError("inside")
        except ValueError:
            context.logger.exception("stumbled", extra={"lock": threading.Lock()})

    run_alone(stumble)
    (record,) = caplog.records
    assert record.getMessage() == "stumbled"
    assert "ValueError: inside" in record.exc_text


def test_failure_is_logged_with_the_traceback_of_the_process(caplog):
    @task(isolation="process")
    def fail():
        raise ValueError("no")

    run_alone(fail)
    (record,) = caplog.records
    assert record.getMessage() == "failed: ValueError: no"
    assert record.exc_text.startswith("  Traceback")  # as other lines of a record that do not begin one
    assert "in fail" in record.exc_text


def test_print_without_end_does_not_stop_the_body():
    @task(isolation="process", timeout=30)
    def chatter():
        for i in range(20_000):
            print(i, end=" ")
        return "done"

    assert run_alone(chatter).result == "done"


# ---------------------------------------------------------------------- what it needs


def test_handlers_and_triggers_stay_here():
    lock = threading.Lock()
    seen = []

    def handler(task, old, new):
        with lock:
            seen.append(type(new).__name__)

    @task(isolation="process", state_handlers=[handler], trigger=lambda states: not lock.locked())
    def body():
        return 1

    assert run_alone(body) == Success(result=1)
    assert seen == ["Running", "Success"]


def test_argument_that_cannot_be_pickled_is_named():
    state = run_alone(isolated(lambda a, b: None), a=1, b=threading.Lock())
    assert type(state) is Failed
    assert state.message.startswith("argument 'b' of <lambda>-1 could not be pickled: TypeError: cannot pickle")
    assert isinstance(state.result, TypeError)


def test_body_that_cannot_be_pickled_is_named():
    lock = threading.Lock()

    @isolated
    def closes_over():
        return lock

    assert run_alone(closes_over).message.startswith("task closes_over-1 could not be pickled: TypeError")


class NeverLoads:
    def __reduce__(self):
        return never_load, ()


def never_load():
    raise RuntimeError("not here")


def test_argument_that_cannot_be_loaded_is_reported():
    state = run_alone(isolated(lambda x: None), NeverLoads())
    assert type(state) is Failed
    text = "an argument of <lambda>-1 could not be unpickled in its process: RuntimeError: not here"
    assert state.message == text
    assert isinstance(state.result, RemoteError)


def test_context_that_cannot_be_pickled_is_left_out():
    @isolated
    def look():
        return ("lock" in context, context.get("extra"))

    with Flow("context") as flow:
        out = look()
    state = flow.run(context={"lock": threading.Lock(), "extra": 1})
    assert state.result[out].result == (False, 1)


def test_task_class_brings_its_attributes():
    class Adder(Task):
        def __init__(self, by, **options):
            self.by = by
            super().__init__(**options)

        def run(self, x):
            return x + self.by

    assert run_alone(Adder(5, isolation="process"), 1).result == 6


def test_body_reads_no_input_and_its_programs_neither():
    @isolated
    def read():
        return sys.stdin.read() + subprocess.run(["cat"], capture_output=True, text=True, check=True).stdout

    assert run_alone(read).result == ""


def test_body_imports_what_can_be_imported_here(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("answer = 42")
    monkeypatch.syspath_prepend(tmp_path)

    @isolated
    def look():
        import only_here

        return only_here.answer

    assert run_alone(look).result == 42


def test_large_result_of_a_signal_crosses():
    @isolated
    def succeed():
        raise signals.SUCCESS(result=bytes(2_000_000))

    assert run_alone(succeed).result == bytes(2_000_000)


def test_large_values_cross_both_ways():
    @task(isolation="process")
    def double(data):
        return data * 2

    data = os.urandom(1 << 22)
    assert run_alone(double, data).result == data * 2


# ---------------------------------------------------------------------- how it ends


def test_what_the_body_started_is_killed_with_it(tmp_path):
    @task(isolation="process", timeout=1)
    def start():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        (tmp_path / "pid").write_text(str(child.pid))
        child.wait()

    assert type(run_alone(start)) is TimedOut
    until(lambda: not alive(int((tmp_path / "pid").read_text())) or zombie(int((tmp_path / "pid").read_text())))


def zombie(pid):
    """Whether a process is dead, but nobody asked: so it stays in a container without an init."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


def test_body_killed_by_a_signal_is_a_crash_that_names_it():
    @isolated
    def suicide():
        os.kill(os.getpid(), signal.SIGKILL)

    state = run_alone(suicide)
    assert type(state) is Crashed
    assert state.message == "process died while running suicide-1: killed by signal 9 (SIGKILL)"
    assert (state.evidence["exit_code"], state.evidence["signal"]) == (-9, "SIGKILL")
    assert state.evidence["pid"] > 0


def test_crash_is_not_charged_to_the_retries_of_errors(tmp_path):
    @task(isolation="process", max_retries=3, retry_delay=0)
    def dies():
        with open(tmp_path / "starts", "a") as file:
            file.write("x")
        os._exit(1)

    assert type(run_alone(dies)) is Crashed
    assert (tmp_path / "starts").read_text() == "x"


def test_crash_retries_start_the_body_again(tmp_path, caplog):
    @task(isolation="process", crash_retries=2)
    def third_time():
        with open(tmp_path / "starts", "a") as file:
            file.write("x")
        if len((tmp_path / "starts").read_text()) < 3:
            os._exit(1)
        return context.task_run_count

    assert run_alone(third_time) == Success(result=1)
    texts = [r.getMessage() for r in caplog.records]
    again = "attempt 1: process died while running third_time-1: exit code 1; it is started again"
    assert texts == [again, again]


def test_crash_retry_is_an_attempt_of_its_own_in_the_history(tmp_path):
    changes = []

    @task(isolation="process", crash_retries=1, state_handlers=[lambda t, old, new: changes.append(type(new).__name__)])
    def second_time():
        with open(tmp_path / "starts", "a") as file:
            file.write("x")
        if len((tmp_path / "starts").read_text()) < 2:
            os._exit(1)
        return context.task_run_count

    with Flow("history") as flow:
        out = second_time()
    path = str(tmp_path / "history.db")
    state = flow.run(history=path)
    assert state.result[out] == Success(result=1)
    (child,) = history.run(state.context["flow_run_id"], store=path).children("second_time")
    assert (child.attempts, [attempt.state for attempt in child.earlier()]) == (2, ["Retrying"])
    assert changes == ["Running", "Crashed", "Retrying", "Running", "Success"]


def test_crashes_and_failures_are_counted_apart(tmp_path):
    @task(isolation="process", crash_retries=1, max_retries=1, retry_delay=0)
    def fourth_time():
        with open(tmp_path / "starts", "a") as file:
            file.write(str(context.task_run_count))
        if len((tmp_path / "starts").read_text()) == 1:
            os._exit(1)
        raise ValueError("again")

    assert type(run_alone(fourth_time)) is Failed
    assert (tmp_path / "starts").read_text() == "112"


def test_crash_retries_end_with_a_crash():
    @task(isolation="process", crash_retries=1)
    def dies():
        os._exit(1)

    state = run_alone(dies)
    assert (type(state), state.context) == (Crashed, {})
    assert state.message == "process died while running dies-1: exit code 1"


def test_thread_that_the_body_leaves_is_ended_with_the_process(caplog, monkeypatch):
    monkeypatch.setattr("prefectish.engine.worker.isolation.parent.LINGER_SECONDS", 0.3)

    @isolated
    def leave():
        threading.Thread(target=spend, args=(60,)).start()
        return os.getpid()

    began = time.monotonic()
    state = run_alone(leave)
    assert time.monotonic() - began < 30
    assert type(state) is Success
    assert not alive(state.result)
    assert "its process did not end after the body had, and was killed" in caplog.text


def test_process_ends_when_the_one_that_asked_dies(tmp_path):
    script = f"""
import os, time
from prefectish import Flow, task

@task(isolation="process")
def hang():
    open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
    time.sleep(60)

with Flow("hangs") as flow:
    hang()
flow.run()
"""
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        body = int((tmp_path / "pid").read_text())
        assert alive(body)
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not alive(body) or zombie(body))


def test_interrupt_kills_the_process(tmp_path):
    def interrupt():
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        signal.raise_signal(signal.SIGINT)

    @isolated
    def wait():
        (tmp_path / "pid").write_text(str(os.getpid()))
        spend(60)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_alone(wait)
    assert not alive(int((tmp_path / "pid").read_text()))


def test_process_that_cannot_be_started_fails_its_task(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    state = run_alone(pid)
    assert type(state) is Failed
    assert isinstance(state.result, FileNotFoundError)


# ---------------------------------------------------------------------- frames


def test_frames_are_read_as_they_were_written(tmp_path):
    with open(tmp_path / "frames", "wb") as file:
        frames.write(file, frames.PRINTED, b"x" * 3_000_000)
        frames.write(file, frames.BEGAN)
    with open(tmp_path / "frames", "rb") as file:
        assert frames.read(file) == (frames.PRINTED, b"x" * 3_000_000)
        assert frames.read(file) == (frames.BEGAN, b"")
        assert frames.read(file) is None


def test_frame_that_breaks_off_is_the_end(tmp_path):
    with open(tmp_path / "frames", "wb") as file:
        frames.write(file, frames.ENDED, pickle.dumps("answer"))
    os.truncate(tmp_path / "frames", 12)
    with open(tmp_path / "frames", "rb") as file:
        assert frames.read(file) is None
