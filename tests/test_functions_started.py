"""Flow functions in the background: their handle is that of every run, on every executor."""

from __future__ import annotations

import threading

import pytest
from bodies import inc, later
from real import most_at_once, note, notes, spend, until, wait_for_file

from prefectish import flow, history, pause_task, tags, task, unmapped
from prefectish.engine.state import Cancelled, Running, Success
from prefectish.errors import ParameterError
from prefectish.executors import LocalExecutor
from prefectish.functions.background import FunctionHandle
from prefectish.results import LocalResult

LIMIT = 20.0


@task
def hold(gate, x):
    wait_for_file(gate, LIMIT)
    return x


@task
def check(mended, x):
    if x == 0 and not mended.exists():
        raise ValueError("not yet")
    return x


@task
def ask(x):
    return x * pause_task("how many?", input=int)


@task(tags=["db"])
def overlap(traces, x):
    note(traces, "+")
    spend(0.02)
    note(traces, "-")
    return x


def loop_is_free(executor):
    """Whether the loop answers while a body runs."""
    return not isinstance(executor, LocalExecutor) and getattr(executor, "scheduler", "") != "synchronous"


def test_handle_tells_how_far_the_run_is_and_ends_with_its_state(executor, tmp_path):
    gate = tmp_path / "gate"

    @flow(history=False)
    def waits(n):
        ended = inc.map(range(n)).result()
        return ended, hold.submit(gate, 5).result()

    run = waits.start(n=3, executor=executor, story=True)
    assert isinstance(run, FunctionHandle)
    assert run.state.is_running()
    if loop_is_free(executor):
        until(lambda: run.counts(hold), LIMIT)
        assert run.counts(inc) == {"Success": 3}
        now = run.snapshot()
        assert (type(now), list(now["inc"].results()), now.children("hold", failed=True)) == (Running, [1, 2, 3], [])
        with pytest.raises(TimeoutError, match="did not finish within"):
            run.wait(0.01)
    gate.touch()
    state = run.wait(LIMIT)
    assert (type(state), state.result) == (Success, ([1, 2, 3], 5))
    assert (run.counts(), run.counts(hold)) == ({"Success": 4}, {"Success": 1})
    assert [type(child) for child in run.snapshot()["hold"].map_states] == [Success]
    assert "finished   Success" in run.story("inc[1]")


def test_cancel_ends_the_run_a_task_a_map_or_a_child(executor, tmp_path):
    if not loop_is_free(executor):
        pytest.skip("a body holds up the loop")
    gate = tmp_path / "gate"

    @flow(history=False)
    def waits(n):
        return [type(future.state).__name__ for future in hold.map([gate] * n, range(n)) if future.wait()]

    run = waits.start(n=3, executor=executor)
    until(lambda: len(run.snapshot()["hold"].map_states) == 3 if run.counts() else 0, LIMIT)
    run.cancel(hold, 1)
    until(lambda: run.counts(hold).get("Cancelled"), LIMIT)
    gate.touch()
    assert run.wait(LIMIT).result == ["Success", "Cancelled", "Success"]
    gate.unlink()
    whole = waits.start(n=2, executor=executor)
    until(lambda: whole.counts(hold), LIMIT)
    whole.cancel(hold)
    assert whole.wait(LIMIT).result == ["Cancelled", "Cancelled"]
    ended = waits.start(n=2, executor=executor)
    until(lambda: ended.counts(hold), LIMIT)
    ended.cancel()
    assert type(ended.wait(LIMIT)) is Cancelled
    gate.touch()


def test_pause_holds_back_calls_until_resume(executor, tmp_path):
    begun, go_on, traces = threading.Event(), threading.Event(), tmp_path / "traces"

    @task
    def trace(x):
        note(traces, x)
        return x

    @flow(history=False)
    def calls():
        first = trace(1)
        begun.set()
        assert go_on.wait(LIMIT)
        return first, trace(2), trace.submit(3).result(), trace.map([4]).result()

    run = calls.start(executor=executor)
    assert begun.wait(LIMIT)
    run.pause()
    until(lambda: run._control.progress.run_state.paused, LIMIT)
    go_on.set()
    until(lambda: run.counts(trace).get("Pending"), LIMIT)
    assert (run.state.message, notes(traces)) == ("Nothing more is sent to be run until resume().", ["1"])
    run.resume()
    assert run.wait(LIMIT).result == (1, 2, 3, [4])
    assert notes(traces) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("what", [overlap, "db"])
def test_limit_holds_for_all_calls_of_a_task_also_those_to_come(executor, what, tmp_path):
    begun, go_on, traces = threading.Event(), threading.Event(), tmp_path / "traces"

    @flow(history=False)
    def calls():
        overlap(traces, 0)
        begun.set()
        assert go_on.wait(LIMIT)
        with tags("more"):
            tagged = [overlap.submit(traces, x) for x in range(3)]
        plain = [overlap.submit(traces, inc.submit(x)) for x in range(3)]
        mapped = overlap.map([traces] * 3, range(3))
        return [future.result() for future in (*tagged, *plain)] + mapped.result()

    run = calls.start(executor=executor)
    assert begun.wait(LIMIT)
    run.set_limit(what, 1)
    until(lambda: not run._control.mailbox.requests, LIMIT)
    go_on.set()
    assert run.wait(LIMIT).result == [0, 1, 2, 1, 2, 3, 0, 1, 2]
    assert most_at_once(traces) == 1


def test_limit_of_a_tag_holds_for_tasks_that_are_still_to_be_called(executor, tmp_path):
    begun, go_on, traces = threading.Event(), threading.Event(), tmp_path / "traces"

    @flow(history=str(tmp_path / "history.db"))
    def calls():
        begun.set()
        assert go_on.wait(LIMIT)
        return overlap.map([traces] * 6, range(6)).result()

    run = calls.start(executor=executor)
    assert begun.wait(LIMIT)
    run.set_limit("db", 1)
    until(lambda: not run._control.mailbox.requests, LIMIT)
    go_on.set()
    assert run.wait(LIMIT).result == list(range(6))
    assert most_at_once(traces) == 1


def test_failures_of_a_map_run_again_and_their_futures_show_it(executor, tmp_path):
    gate, mended = tmp_path / "gate", tmp_path / "mended"
    if not loop_is_free(executor):
        pytest.skip("a body holds up the loop")

    @task
    def check_or_hold(x):
        if x == 0 and not mended.exists():
            raise ValueError("not yet")
        if x == 3:
            wait_for_file(gate, LIMIT)
        return x

    @flow(history=False)
    def checks():
        checked = check_or_hold.map(range(4))
        first = checked[0]
        first.wait()
        checked.wait()
        return [future.result() for future in checked], first.result()

    run = checks.start(executor=executor)
    until(lambda: run.counts(check_or_hold).get("Failed"), LIMIT)
    mended.touch()
    assert run.retry(check_or_hold, ValueError) == 1
    until(lambda: run.counts(check_or_hold).get("Success") == 3, LIMIT)
    gate.touch()
    assert run.wait(LIMIT).result == ([0, 1, 2, 3], 0)
    with pytest.raises(RuntimeError, match=r"has ended; flow\.resume"):
        run.retry(check_or_hold)


@pytest.mark.parametrize("history_at", [None, "history.db"], ids=["unrecorded", "recorded"])
def test_calls_that_failed_run_again_as_long_as_nobody_knows(executor, tmp_path, history_at):
    go_on, mended = threading.Event(), tmp_path / "mended"

    @flow(history=False if history_at is None else str(tmp_path / history_at))
    def checks():
        source = inc.submit(-1)
        calls = [check.submit(mended, source), check.submit(mended, 0), check.submit(mended, 2)]
        assert go_on.wait(LIMIT)
        return [inc.submit(call).result() for call in calls]

    run = checks.start(executor=executor)
    until(lambda: run.counts(check) == {"Failed": 2, "Success": 1}, LIMIT)
    assert run.retry(check, OSError) == 0
    mended.touch()
    assert run.retry(check, ValueError) == 2
    until(lambda: run.counts(check) == {"Success": 3}, LIMIT)
    go_on.set()
    assert run.wait(LIMIT).result == [1, 1, 3]


def test_call_that_fails_again_can_run_again(executor, tmp_path):
    go_on = threading.Event()

    @flow(history=False)
    def checks():
        call = check.submit(tmp_path / "mended", 0)
        assert go_on.wait(LIMIT)
        return call.result()

    run = checks.start(executor=executor)
    for _ in range(3):
        until(lambda: run.counts(check) == {"Failed": 1}, LIMIT)
        assert run.retry(check) == 1
    (tmp_path / "mended").touch()
    until(
        lambda: (run.counts(check) == {"Failed": 1} and run.retry(check) == 1) or run.counts(check) == {"Success": 1},
        LIMIT,
    )
    until(lambda: run.counts(check) == {"Success": 1}, LIMIT)
    go_on.set()
    assert run.wait(LIMIT).result == 0


@pytest.mark.parametrize(
    ("reads", "why"),
    [
        (lambda call: call.exception(), r"the failure of check\[0\] was given to the flow function"),
        (lambda call: inc.submit(call).exception(), r"what reads check\[0\] has its failure"),
        (lambda call: inc.map([call, 1]).result(raise_on_failure=False), r"what reads check\[0\] has its failure"),
    ],
    ids=["read", "followed", "mapped over"],
)
def test_calls_whose_failure_is_known_cannot_run_again_and_say_why(tmp_path, reads, why):
    begun, go_on = threading.Event(), threading.Event()

    @flow(history=False)
    def checks():
        failed = check.submit(tmp_path / "no", 0)
        reads(failed)
        begun.set()
        assert go_on.wait(LIMIT)
        return failed.state

    run = checks.start()
    assert begun.wait(LIMIT)
    with pytest.raises(RuntimeError, match=f"check cannot run again now: {why}"):
        run.retry(check)
    go_on.set()
    assert run.wait(LIMIT).is_failed()


def test_approve_resumes_while_it_runs_and_continues_a_run_that_has_ended(executor, tmp_path):
    where = str(tmp_path / "history.db")

    @flow(result=LocalResult(str(tmp_path)), history=where)
    def asks():
        return inc(1), ask.submit(2).result()

    run = asks.start(executor=executor)
    assert (type(run.wait(LIMIT)), run.state.exit_code) == (Running, 5)
    run.approve(ask, 4)
    assert run.wait(LIMIT).result == (2, 8)
    assert [row.state for row in history.runs(store=where)] == ["Success"]

    @flow(history=False)
    def goes_on(gate):
        asked = ask.submit(3)
        wait_for_file(gate, LIMIT)
        return asked.result()

    beside = goes_on.start(gate=tmp_path / "gate", executor=executor)
    until(lambda: beside.counts(ask).get("Paused"), LIMIT)
    beside.approve("ask", 5)
    until(lambda: beside.counts(ask).get("Success"), LIMIT)
    (tmp_path / "gate").touch()
    assert beside.wait(LIMIT).result == 15
    with pytest.raises(RuntimeError, match="history=False did not record it"):
        beside.approve("ask", 5)


def test_handle_is_that_of_the_attempt_that_runs():
    attempts = []

    @flow(history=False, retries=2)
    def fails_twice():
        attempts.append(inc(len(attempts)))
        if len(attempts) < 3:
            raise OSError("again")
        return attempts

    run = fails_twice.start()
    assert run.wait(LIMIT).result == [1, 2, 3]
    assert run.counts() == {"Success": 1}


def test_async_flow_runs_in_the_background_and_by_run(executor):
    @flow(history=False)
    async def together():
        return await later(1), await later.submit(2)

    assert together.start(executor=executor).wait(LIMIT).result == (2, 3)
    assert together.run(executor=executor).result == (2, 3)

    async def in_a_loop():
        with pytest.raises(RuntimeError, match=r"await together\(\.\.\., return_state=True\)"):
            together.run()
        return await together()

    import asyncio

    assert asyncio.run(in_a_loop()) == (2, 3)


def test_what_cannot_be_meant_is_refused():
    go_on = threading.Event()
    begun = threading.Event()

    @flow(history=False)
    def calls(n: int):
        inc(1)
        inc.submit(inc.submit(n)).wait()
        begun.set()
        assert go_on.wait(LIMIT)

    with pytest.raises(ParameterError, match="missing: n"):
        calls.start()
    run = calls.start(n=2)
    assert begun.wait(LIMIT)
    with pytest.raises(ValueError, match="'nothing' was not called so far in <Flow: name=calls>; called were: inc"):
        run.cancel("nothing")
    with pytest.raises(ValueError, match=r"2 calls and maps are of <Task: inc>.*'inc-1', 'inc-2'"):
        run.cancel(inc, 0)
    with pytest.raises(ValueError, match="inc is not paused"):
        run.approve("inc-1")
    with pytest.raises(TypeError, match="n must be an int"):
        run.set_limit(inc, "2")
    go_on.set()
    assert run.wait(LIMIT).is_successful()
    assert repr(run).endswith("of <Flow: name=calls>, Success>")


def test_cancelled_run_makes_no_further_call(executor, tmp_path):
    traces, gate = tmp_path / "traces", tmp_path / "gate"

    @task
    def trace(x):
        note(traces, x)
        if x == 2:
            wait_for_file(gate, LIMIT)
        return x

    @flow(history=False)
    def loops():
        return [trace(x) for x in range(100)]

    run = loops.start(executor=executor)
    until(lambda: len(notes(traces)) == 3, LIMIT)
    run.cancel()
    until(lambda: run._control.progress.run_state.over, LIMIT)
    gate.touch()
    assert type(run.wait(LIMIT)) is Cancelled
    assert notes(traces) == ["0", "1", "2"]


def test_cancelled_task_ends_calls_that_wait_for_others(executor, tmp_path):
    gate = tmp_path / "gate"

    @flow(history=False)
    def waits():
        first = hold.submit(gate, 1)
        second = inc.submit(first)
        third = inc.submit(second)
        return [type(future.state).__name__ for future in (first, second, third) if future.wait()], inc(5)

    run = waits.start(executor=executor)
    until(lambda: sum(run.counts(inc).values()) == 2, LIMIT)
    run.cancel(inc)
    gate.touch()
    assert run.wait(LIMIT).result == (["Success", "Cancelled", "Cancelled"], 6)


def test_cancelled_run_ends_maps_that_wait_for_what_they_read(executor, tmp_path):
    gate, seen = tmp_path / "gate", []

    @task
    def pair(x, y):
        return x, y

    @task
    def several(x):
        yield x

    @flow(history=False)
    def waits():
        call = hold.submit(gate, 1)
        later = inc.map([call, 2])
        maps = [
            pair.map([1], unmapped(call)),
            pair.map([1], unmapped(later)),
            pair.map([1], [call]),
            pair.map(several.submit(call), unmapped(1)),
        ]
        maps.append(inc.map(maps[0]))
        maps.append(pair.map([1], unmapped(maps[1])))
        for future in maps:
            future.wait()
            seen.append(future.state.is_successful())

    run = waits.start(executor=executor)
    until(lambda: sum(run.counts(several).values()) == 1, LIMIT)
    run.cancel()
    gate.touch()
    assert type(run.wait(LIMIT)) is Cancelled
    until(lambda: len(seen) == 6, LIMIT)
    assert not any(seen[:2])
