"""Pauses that the body asks for, and loops, on every executor."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from bodies import append, inc, lines

from prefectish import Flow, context, pause_task, task
from prefectish.engine import signals
from prefectish.engine.state import Failed, Mapped, Paused, Pending, Resume, Retrying, Running, Success


@task
def ask(x=0):
    pause_task(f"may I use {x}?")
    return x


# ---------------------------------------------------------------------- pauses


def test_pause_task_raises_the_signal_outside_a_run():
    with pytest.raises(signals.PAUSE) as caught:
        ask.run()
    state = caught.value.state
    assert (type(state), state.message, state.start_time) == (Paused, "may I use 0?", None)


def test_pause_task_passes_when_resumed():
    with context(resume=True):
        assert ask.run(x=3) == 3


@pytest.mark.parametrize("duration", [60, 60.0, timedelta(minutes=1)], ids=repr)
def test_pause_task_with_a_duration_is_due(duration):
    before = datetime.now(UTC)
    with pytest.raises(signals.PAUSE) as caught:
        pause_task(duration=duration)
    due = caught.value.state.start_time
    assert before + timedelta(minutes=1) <= due <= datetime.now(UTC) + timedelta(minutes=1)


@pytest.mark.parametrize("duration", [-1, timedelta(seconds=-1)], ids=repr)
def test_pause_task_refuses_to_go_back_in_time(duration):
    with pytest.raises(ValueError, match=r"^pause_task: duration=.* is negative$"):
        pause_task(duration=duration)


def test_u18_paused_task_ends_the_run_unfinished_and_continues_when_resumed(run):
    with Flow("asks") as flow:
        out = ask(1)
        behind, beside = inc(out), inc(5)
    paused = run(flow)
    assert type(paused) is Running
    assert type(paused.result[out]) is Paused
    assert paused.result[out].message == "may I use 1?"
    assert type(paused.result[behind]) is Pending
    assert paused.result[beside] == Success(result=6)
    resumed = run(flow, task_states={**paused.result, out: Resume()})
    assert type(resumed) is Success
    assert resumed.result[behind] == Success(result=2)


def test_paused_children_are_resumed_one_by_one(run):
    with Flow("asks") as flow:
        out = ask.map([1, 2, 3])
        behind = inc.map(out)
    first = run(flow)
    assert [type(child) for child in first.result[out].map_states] == [Paused] * 3
    children = list(first.result[out].map_states)
    children[1] = Resume()
    second = run(flow, task_states={**first.result, out: Mapped(map_states=children)})
    assert [type(child) for child in second.result[out].map_states] == [Paused, Success, Paused]
    assert type(second) is Running
    rest = [c if c.is_finished() else Resume() for c in second.result[out].map_states]
    third = run(flow, task_states={**second.result, out: Mapped(map_states=rest)})
    assert third.result[behind].result == [2, 3, 4]


def test_pause_with_a_duration_continues_by_itself(run, tmp_path):
    @task
    def nap(path):
        append(path, time.time())
        pause_task("soon", duration=0.4)
        return context.resume

    with Flow("naps") as flow:
        out = nap.map([tmp_path / "a", tmp_path / "b"])
        behind = inc(0, upstream_tasks=[out])
    state = run(flow)
    assert type(state) is Success
    assert state.result[out].result == [True, True]
    assert state.result[behind] == Success(result=1)
    for name in "ab":
        asked, went_on = map(float, lines(tmp_path / name))
        assert went_on - asked >= 0.4


def test_pause_with_a_duration_holds_no_slot(run, tmp_path):
    """More children pause than there are slots: if each held one, the last could not ask before the first went on."""

    @task
    def nap(path):
        append(path, "asked" if not context.get("resume") else "went on")
        pause_task(duration=1)

    with Flow("naps") as flow:
        nap.map([tmp_path / "order"] * 6)
    assert type(run(flow)) is Success
    assert lines(tmp_path / "order") == ["asked"] * 6 + ["went on"] * 6


def test_second_question_after_a_resume_is_passed_too(run):
    @task
    def twice():
        pause_task("first?")
        pause_task("second?")
        return "both"

    with Flow("asks") as flow:
        out = twice()
    paused = run(flow)
    assert paused.result[out].message == "first?"
    assert run(flow, task_states={out: Resume()}).result[out].result == "both"


def test_failure_after_a_resume_asks_again(run):
    @task(max_retries=1, retry_delay=0)
    def ask_then_fail():
        pause_task("may I?")
        raise ValueError("no")

    with Flow("asks") as flow:
        out = ask_then_fail()
    assert type(run(flow).result[out]) is Paused
    again = run(flow, task_states={out: Resume()}).result[out]
    assert type(again) is Paused


# ---------------------------------------------------------------------- loops


@task
def count_to(n):
    done = context.get("task_loop_result", 0) + 1
    if done < n:
        raise signals.LOOP(f"turn {done}", result=done)
    return (done, context.task_loop_count)


def test_hundreds_of_turns_do_not_grow_the_stack(run):
    @task
    def deep(n):
        count = context.get("task_loop_count", 1)
        depth = 0
        frame = sys._getframe()
        while frame is not None:
            depth, frame = depth + 1, frame.f_back
        depths = context.get("task_loop_result", ()) or ()
        if count < n:
            raise signals.LOOP(result=(*depths[-1:], depth))
        return (depths[-1] == depth, count)

    with Flow("loops") as flow:
        out = deep(700)
    assert run(flow).result[out] == Success(result=(True, 700))


def test_loops_of_children_are_their_own(run):
    with Flow("loops") as flow:
        out = count_to.map([2, 5, 3])
        behind = inc.map(inc.map([1, 2, 3]), upstream_tasks=[out])
    state = run(flow)
    assert state.result[out].result == [(2, 2), (5, 5), (3, 3)]
    assert state.result[behind].result == [3, 4, 5]


def test_failure_in_mid_loop_waits_with_count_and_result(run, tmp_path):
    @task(max_retries=2, retry_delay=0)
    def stumble(path):
        count = context.get("task_loop_count", 1)
        append(path / "turns", f"{count} {context.task_run_count} {context.get('task_loop_result', '-')}")
        if count == 3 and context.task_run_count <= 2:
            raise ValueError("not yet")
        if count < 4:
            raise signals.LOOP(result=f"after {count}")
        return context.task_loop_result

    def record(task, old, new):
        if isinstance(new, Retrying):
            append(tmp_path / "retries", new.run_count)

    with Flow("loops") as flow:
        out = stumble(tmp_path, task_args={"state_handlers": [record]})
    assert run(flow).result[out] == Success(result="after 3")
    turns = [line.partition(" ")[0] for line in lines(tmp_path / "turns")]
    assert turns == ["1", "2", "3", "3", "3", "4"]
    assert [line.split(" ", 2)[2] for line in lines(tmp_path / "turns")][2:5] == ["after 2"] * 3
    assert lines(tmp_path / "retries") == ["1", "2"]


def test_each_turn_of_a_loop_has_all_retries_of_its_task(run, tmp_path):
    @task(max_retries=1, retry_delay=0)
    def turn(path):
        count = context.get("task_loop_count", 1)
        append(path / "turns", f"{count}.{context.task_run_count}")
        append(path / "keys", context.child_key)
        if context.task_run_count == 1 or count == 3:
            raise ValueError("not yet")
        raise signals.LOOP(result=count)

    with Flow("loops") as flow:
        out = turn(tmp_path)
    state = run(flow).result[out]
    assert type(state) is Failed
    assert lines(tmp_path / "turns") == ["1.1", "1.2", "2.1", "2.2", "3.1", "3.2"]
    assert [key.rpartition("-")[2] for key in lines(tmp_path / "keys")] == ["1", "2", "2", "3", "3", "4"]


def test_pause_after_a_retry_in_a_loop_continues_with_the_count_of_its_turn(run, tmp_path):
    @task(max_retries=1, retry_delay=0)
    def turn(path):
        count = context.get("task_loop_count", 1)
        append(path, f"{count}.{context.task_run_count}")
        if context.task_run_count == 1:
            raise ValueError("not yet")
        if count == 3:
            return pause_task("halfway") or context.task_run_count
        raise signals.LOOP(result=count)

    with Flow("loops") as flow:
        out = turn(tmp_path / "turns")
    paused = run(flow).result[out]
    assert type(paused) is Paused
    resumed = run(flow, task_states={out: Resume(context=paused.context)})
    assert resumed.result[out] == Success(result=2)
    assert lines(tmp_path / "turns") == ["1.1", "1.2", "2.1", "2.2", "3.1", "3.2", "3.2"]


def test_retrying_state_of_a_loop_can_be_gone_on_from(run):
    waiting = Retrying(run_count=1, context={"task_loop_count": 4, "task_loop_result": 3})
    with Flow("loops") as flow:
        out = count_to(6)
    assert run(flow, task_states={out: waiting}).result[out] == Success(result=(6, 6))


def test_loop_may_start_from_the_context_of_the_flow(run):
    @task
    def look():
        return context.task_loop_count

    with Flow("loops") as flow:
        out = look()
    assert run(flow, context={"task_loop_count": 20}).result[out] == Success(result=20)


@task
def ask_in_turn(path, duration=None):
    """Loop to a third turn, with a pause in the second."""
    count = context.get("task_loop_count", 1)
    append(path, count)
    if count == 2:
        pause_task("halfway", duration)
    if count < 3:
        raise signals.LOOP(result=[count])
    return (count, context.task_loop_result)


def test_pause_in_mid_loop_continues_from_there(run, tmp_path):
    with Flow("loops") as flow:
        out = ask_in_turn(tmp_path / "turns")
    paused = run(flow).result[out]
    assert type(paused) is Paused
    resumed = run(flow, task_states={out: Resume(context=paused.context)})
    assert resumed.result[out] == Success(result=(3, [2]))
    assert lines(tmp_path / "turns") == ["1", "2", "2", "3"]


def test_timed_pause_in_mid_loop_continues_from_there(run, tmp_path):
    with Flow("loops") as flow:
        out = ask_in_turn(tmp_path / "turns", duration=0.1)
    assert run(flow).result[out] == Success(result=(3, [2]))
    assert lines(tmp_path / "turns") == ["1", "2", "2", "3"]


def test_retry_signal_in_mid_loop_continues_from_there(run, tmp_path):
    @task
    def turn(path):
        count = context.get("task_loop_count", 1)
        append(path, f"{count}.{context.task_run_count}")
        if count == 2 and context.task_run_count == 1:
            raise signals.RETRY("again")
        if count < 3:
            raise signals.LOOP(result=[count])
        return context.task_loop_result

    with Flow("loops") as flow:
        out = turn(tmp_path / "turns")
    assert run(flow).result[out] == Success(result=[2])
    assert lines(tmp_path / "turns") == ["1.1", "2.1", "2.2", "3.1"]


def test_loop_result_of_one_attempt_need_not_be_picklable(run):
    """Turns of one attempt run in one place, so what they hand on need not be pickled."""

    @task
    def hand_on():
        if context.get("task_loop_result") is None:
            raise signals.LOOP(result=(i for i in range(3)))
        return list(context.task_loop_result)

    with Flow("loops") as flow:
        out = hand_on()
    assert run(flow).result[out] == Success(result=[0, 1, 2])


def test_loop_result_that_cannot_wait_for_a_retry_fails_the_task(run, in_process):
    @task(max_retries=1, retry_delay=0)
    def stumble():
        if context.get("task_loop_result") is None:
            raise signals.LOOP(result=(i for i in range(3)))
        if context.task_run_count == 1:
            raise ValueError("again")
        return list(context.task_loop_result)

    with Flow("loops") as flow:
        out = stumble()
    state = run(flow).result[out]
    if in_process:
        assert state == Success(result=[0, 1, 2])
    else:
        assert type(state) is Failed
        assert state.message.startswith("loop result of stumble-1 could not be pickled: TypeError: cannot pickle")
