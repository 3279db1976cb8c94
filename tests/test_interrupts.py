"""Ctrl-C, SIGTERM and the time limit of a run: every child ends in a state."""

from __future__ import annotations

import _thread
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from real import spend, until

import prefectish
from prefectish import Flow, history, task, triggers
from prefectish.engine.state import Cancelled, Failed, State, Success, TimedOut
from prefectish.executors import LocalDaskExecutor
from prefectish.interrupting import Latch

LIMIT = 60.0

SCRIPT = """
import json, sys, time
from prefectish import Flow, task, unmapped
from prefectish.executors import DaskExecutor, LocalDaskExecutor, LocalExecutor

EXECUTORS = {
    "local": LocalExecutor,
    "threads": lambda: LocalDaskExecutor(num_workers=2),
    "dask": lambda: DaskExecutor(cluster_kwargs={"n_workers": 1, "threads_per_worker": 2}),
}


@task
def slow(x, mark):
    if x == 0:
        open(mark, "w").close()
    time.sleep(0.5 if x < 2 else 3)
    return x


with Flow("interrupted") as flow:
    slowly = slow.map(list(range(40)), unmapped(sys.argv[2]))
    task(len, name="count")(slowly)

if __name__ == "__main__":
    try:
        flow.run(executor=EXECUTORS[sys.argv[1]](), history=False)
    except BaseException as error:
        state = error.state
        children = state.result[slowly].map_states
        messages = sorted({str(c.message) for c in children if type(c).__name__ == "Cancelled"})
        facts = {"type": type(error).__name__, "code": state.exit_code, "n": len(children), "messages": messages}
        print(json.dumps(facts), flush=True)
        raise
"""


def interrupt(tmp_path: Path, executor: str, number: int) -> tuple[int, dict[str, Any], float]:
    """Run the script, send it a signal once a body has begun; return exit code, what it printed, seconds it took."""
    script, started = tmp_path / "script.py", tmp_path / "started"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), executor, str(started)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: started.exists() or process.poll() is not None, LIMIT)
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=LIMIT)
        assert out, err[-2000:]
        return process.returncode, json.loads(out), time.monotonic() - began


@pytest.mark.parametrize("executor", ["local", "threads", "dask"])
def test_c1_ctrl_c_ends_the_run_with_a_state_for_every_child(tmp_path: Path, executor: str) -> None:
    code, facts, _ = interrupt(tmp_path, executor, signal.SIGINT)
    assert code in (130, -signal.SIGINT)
    assert facts["type"] == "KeyboardInterrupt"
    assert facts["code"] == 130
    assert facts["n"] == 40
    assert set(facts["messages"]) <= {"interrupted", "never started"}
    assert facts["messages"]


def test_c5_sigterm_ends_the_run_with_code_143(tmp_path: Path) -> None:
    code, facts, _ = interrupt(tmp_path, "threads", signal.SIGTERM)
    assert code == 143
    assert (facts["type"], facts["code"], facts["n"]) == ("SystemExit", 143, 40)


BACKGROUND = """
import os, sys, time
from prefectish import Flow, task, unmapped
from prefectish.executors import LocalDaskExecutor, LocalExecutor

EXECUTORS = {
    "local": LocalExecutor,
    "threads": lambda: LocalDaskExecutor(num_workers=2),
    "processes": lambda: LocalDaskExecutor("processes", num_workers=2),
}


@task
def slow(x, mark, last):
    if x == last:
        open(mark, "w").close()
    time.sleep(0 if x == 0 else 60)


with Flow("behind") as flow:  # with two at once, the third begins when the first has ended
    slow.map(list(range(9)), unmapped(sys.argv[2]), unmapped(1 if sys.argv[1] == "local" else 2))

run = flow.start(executor=EXECUTORS[sys.argv[1]](), history=sys.argv[3])
if sys.argv[4] == "wait":
    run.wait()
while not os.path.exists(sys.argv[2] + ".go"):
    time.sleep(0.02)
"""
#: Seconds after a signal within which a program that waits for a run ends, on a machine that does other things, too.
PATIENCE = 20.0


@pytest.mark.parametrize(
    ("executor", "number", "code"),
    [
        ("local", signal.SIGINT, 130),
        ("threads", signal.SIGINT, 130),
        ("processes", signal.SIGINT, 130),
        ("local", signal.SIGTERM, 143),
        ("threads", signal.SIGTERM, 143),
        ("threads", None, 0),
    ],
)
def test_c1_c5_run_in_the_background_ends_with_its_program(
    tmp_path: Path, executor: str, number: int | None, code: int
) -> None:
    script, mark, store = tmp_path / "script.py", tmp_path / "mark", tmp_path / "history.db"
    script.write_text(BACKGROUND)
    command = [sys.executable, str(script), executor, str(mark), str(store), "end" if number is None else "wait"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: mark.exists() or process.poll() is not None, LIMIT)
        began = time.monotonic()
        if number is None:
            mark.with_suffix(".go").touch()
        else:
            process.send_signal(number)
        try:
            err = process.communicate(timeout=LIMIT)[1]
        finally:
            process.kill()
    assert time.monotonic() - began < PATIENCE
    assert process.returncode in (code, -signal.SIGINT if code == 130 else code), err
    [run] = history.runs(store=store)
    assert (run.state, run.is_lost) == ("Cancelled", False)
    assert (run.exit_code, run.message) == ((143, "terminated") if code == 143 else (130, "interrupted"))
    children = run.children("slow")
    assert len(children) == 9
    assert children[0].state == "Success"
    assert {child.state for child in children[1:]} == {"Cancelled"}
    assert {child.message for child in children[1:]} <= {"interrupted", "never started"}
    if code != 143:
        assert f"flow.resume({run.id!r}) continues it" in err


def test_wait_that_was_interrupted_can_be_waited_for_again() -> None:
    waits, release = threading.Event(), threading.Event()

    def hold() -> int:
        waits.set()
        assert release.wait(LIMIT)
        return 7

    with Flow("held") as flow:
        held = task(hold)()
    run = flow.start(executor=LocalDaskExecutor(num_workers=1), history=False)

    def interrupt_the_wait() -> None:
        assert waits.wait(LIMIT)
        until(lambda: signal.getsignal(signal.SIGTERM) != signal.SIG_DFL, LIMIT)  # a wait takes it
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt_the_wait, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run.wait(LIMIT)
    assert run.state.is_running()
    release.set()
    assert run.wait(LIMIT).result[held].result == 7


def test_wait_hears_a_signal_that_came_just_before_it() -> None:
    """Nothing wakes it then: Python has noted the signal, and runs its handler once the wait returns."""
    release = threading.Event()
    with Flow("deaf") as flow:
        task(lambda: release.wait(LIMIT), name="held")()
    run = flow.start(executor=LocalDaskExecutor(num_workers=1), history=False)

    def note_a_signal() -> None:
        until(lambda: signal.getsignal(signal.SIGTERM) != signal.SIG_DFL, LIMIT)  # a wait takes it
        time_to_block.wait(0.2)
        _thread.interrupt_main()  # it does not interrupt what the thread waits for

    time_to_block = threading.Event()
    threading.Thread(target=note_a_signal, daemon=True).start()
    threading.Timer(PATIENCE, release.set).start()
    with pytest.raises(KeyboardInterrupt):
        run.wait()
    assert not release.is_set(), "it was heard when the run had ended"
    release.set()
    run.wait(LIMIT)


@pytest.mark.parametrize("moment", ["the thread has started", "the run begins"])
def test_c1_start_that_is_interrupted_leaves_no_run_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    store, start = tmp_path / "history.db", threading.Thread.start

    def interrupted_start(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == "prefectish-run" and moment == "the thread has started":
            raise KeyboardInterrupt

    def interrupt_the_caller(flow: Any, old: State, new: State) -> None:
        if moment == "the run begins" and new.is_running():
            _thread.interrupt_main()

    monkeypatch.setattr(threading.Thread, "start", interrupted_start)
    with Flow("unborn", state_handlers=[interrupt_the_caller]) as flow:
        task(spend, name="long").map([60.0, 60.0])
    with pytest.raises(KeyboardInterrupt):
        flow.start(executor=LocalDaskExecutor(num_workers=1), history=store)
    [run] = history.runs(store=store)
    assert (run.state, run.message) == ("Cancelled", "interrupted")


def give_one() -> int:
    return 1


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), KeyboardInterrupt()], ids=["thread", "ctrl-c"]
)
@pytest.mark.parametrize("front", ["graph", "function"])
def test_start_of_a_run_that_cannot_begin_raises_at_once(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, front: str
) -> None:
    start = threading.Thread.start

    def broken_start(thread: threading.Thread) -> None:
        if thread.name == "prefectish-run":
            raise error
        start(thread)

    def broken_registration(run: Any) -> None:
        raise error

    if isinstance(error, RuntimeError):
        monkeypatch.setattr(threading.Thread, "start", broken_start)
    else:
        monkeypatch.setattr("prefectish.engine.driver.handle._end_with_the_program", broken_registration)
    monkeypatch.setattr("prefectish.engine.driver.handle.END_WITHIN", LIMIT)
    waits_until = time.monotonic() + LIMIT / 2
    unborn: Any = Flow("unborn", tasks=[task(give_one)]) if front == "graph" else prefectish.flow(give_one)
    with pytest.raises(type(error)) as raised:
        unborn.start(history=False)
    assert raised.value is error
    assert time.monotonic() < waits_until, "it waited for the end of a run that never began"


def test_latch_can_be_set_and_waited_for_wherever_a_wait_of_it_was_interrupted() -> None:
    """An Event, at two of these places, makes the thread that sets it wait for ever."""
    code, places = Latch.wait.__code__, 0

    def interrupted_at(place: int) -> bool:
        latch, left = Latch(), place

        def trace(frame: Any, event: str, arg: Any) -> Any:
            nonlocal left
            if frame.f_code is not code:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            latch.wait(0.01)
            return False
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
            setter = threading.Thread(target=latch.set, daemon=True)
            setter.start()
            setter.join(LIMIT)
            assert not setter.is_alive(), place
            assert latch.wait(LIMIT), place

    while interrupted_at(places):
        places += 1
    assert places > 20


def test_u3_keyboard_interrupt_of_a_body_is_its_own() -> None:
    def interrupt_yourself() -> None:
        raise KeyboardInterrupt

    out = task(interrupt_yourself)
    state = Flow("own", tasks=[out]).run(history=False)
    assert type(state.result[out]) is Failed
    assert state.result[out].message == "Error during execution of task: KeyboardInterrupt()"


# ---------------------------------------------------------------------- the limit of a run


def test_timeout_of_a_run_ends_open_and_unstarted_tasks(run: Callable[..., State], tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")

    def wait(x: int) -> int:
        until(lambda: not x or Path(mark).exists(), LIMIT)
        return x

    with Flow("limited") as flow:
        waited = task(wait).map([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
        after = task(len, name="after", trigger=triggers.all_finished)(waited)
    threading.Timer(3.0, lambda: Path(mark).touch()).start()
    state = run(flow, timeout=0.5)
    children = state.result[waited].map_states
    assert {type(child) for child in children} <= {Success, TimedOut, Cancelled}
    assert any(type(child) is TimedOut for child in children) or type(state.result[after]) is Cancelled
    assert state.result[after].message == "never started"
    assert type(state) in (Failed, Cancelled)
    Path(mark).touch()


def test_flow_has_a_timeout_of_its_own() -> None:
    release = threading.Event()
    flow = Flow("own limit", tasks=[held := task(lambda: release.wait(LIMIT), name="held")], timeout=0.1)
    try:
        state = flow.run(executor=LocalDaskExecutor(num_workers=1), history=False)
        assert type(state.result[held]) is TimedOut
        assert state.result[held].message == "the flow run took longer than its timeout of 0.1 s"
    finally:
        release.set()


def test_map_timeout_ends_open_children_and_leaves_the_rest_unstarted() -> None:
    release = threading.Event()

    def hold(x: int) -> int:
        if x:
            assert release.wait(LIMIT)
        return x

    with Flow("map limit") as flow:
        held = task(hold, map_timeout=0.2).map(list(range(2000)))
        count = task(len, name="count", trigger=triggers.all_finished)(held)
    run = flow.start(executor=LocalDaskExecutor(num_workers=2), history=False)
    until(lambda: run.counts(held).get("TimedOut"), LIMIT)
    release.set()  # the abandoned bodies hold the threads that what follows needs
    state = run.wait(LIMIT)
    children = state.result[held].map_states
    assert len(children) == 2000
    assert type(children[0]) is Success
    assert any(type(child) is TimedOut for child in children)
    assert {child.message for child in children if type(child) is Cancelled} == {"never started"}
    assert state.result[count].result == 2000
