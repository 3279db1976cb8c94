from __future__ import annotations

import logging
import os
import sys
import threading
import types

import pytest

from prefectish import Flow, Parameter, flatten, task
from prefectish.display import live
from prefectish.engine import signals
from prefectish.engine.driver import progress_view
from prefectish.engine.driver.progress_view import ProgressTicker, show_end, ticker_for
from prefectish.engine.state import Success
from prefectish.executors import LocalDaskExecutor


class Fake:
    """Sees everything, all the time."""

    shows_causes = False

    def __init__(self):
        self.seen, self.ends, self.rests = [], [], 0

    def refresh(self, progress):
        self.seen.append({step.slug: step for step in progress.tasks})

    def release_screen(self):
        self.rests += 1

    def ended(self, progress, state, stop=None):
        self.ends.append(({step.slug: step for step in progress.tasks}, state))


@pytest.fixture
def fake(monkeypatch):
    found = Fake()
    monkeypatch.setattr(live, "progress_view", lambda *_: found)
    for name in ("FIRST_AFTER", "MIN_INTERVAL", "COST_FACTOR"):
        monkeypatch.setattr(progress_view, name, 0.0)
    return found


@task
def numbers(n):
    return list(range(n))


@task(max_retries=1, retry_delay=0.01)
def load(x):
    if x % 10 == 3:
        raise ValueError(x)
    if x % 10 == 4:
        raise signals.SKIP("nothing in it")
    return x


@task
def total(values):
    return len(values)


def a_flow():
    with Flow("loads") as flow:
        total(load.map(numbers(Parameter("n"))))
    return flow


@pytest.mark.parametrize("executor", [None, LocalDaskExecutor("threads", num_workers=2)])
def test_counts_add_up_at_every_look(fake, executor):
    a_flow().run(n=30, history=False, progress=True, executor=executor)
    assert fake.seen
    for seen in fake.seen:
        assert set(seen) == {"numbers-1", "load-1", "total-1"}
        for step in seen.values():
            known = step.failed + step.skipped + step.cached + step.cancelled
            assert 0 <= known <= step.ended <= (step.width or 0)
            open_now = step.running + step.retrying + step.paused
            assert step.ended + open_now <= (step.width or 1)
    ended = [seen["load-1"].ended for seen in fake.seen]
    assert ended == sorted(ended)
    assert max(seen["load-1"].retrying for seen in fake.seen) > 0
    ((last, state),) = fake.ends
    assert state.is_finished()
    step = last["load-1"]
    assert (step.width, step.ended, step.failed, step.skipped, step.final) == (30, 30, 3, 3, True)
    assert (step.running, step.retrying, step.closed, step.mapped) == (0, 0, True, True)
    assert (last["numbers-1"].width, last["numbers-1"].ended, last["numbers-1"].final) == (1, 1, True)


def test_width_is_unknown_until_it_is_known(fake):
    a_flow().run(n=5, history=False, progress=True)
    assert fake.seen[0]["load-1"].width in (None, 5)
    assert not fake.seen[0]["load-1"].final


def test_flattened_map_grows(fake):
    @task
    def rows(x):
        return [x] * x

    with Flow("grows") as flow:
        load.map(flatten(rows.map([1, 2, 2])))
    flow.run(history=False, progress=True)
    ((last, _),) = fake.ends
    assert (last["load-1"].width, last["load-1"].closed) == (5, True)
    assert any(not seen["load-1"].closed for seen in fake.seen)


def test_step_that_ended_before_it_had_children_is_counted(fake):
    @task
    def broken():
        raise ValueError("no rows")

    with Flow("broken") as flow:
        load.map(broken())
    flow.run(history=False, progress=True)
    ((last, _),) = fake.ends
    assert (last["load-1"].final, last["load-1"].failed, last["load-1"].ended) == (True, 1, 1)


def test_c9_a_failing_display_is_logged_once_and_the_run_is_unaffected(fake, caplog):
    fake.refresh = lambda progress: 1 / 0
    with caplog.at_level(logging.WARNING, "prefectish"):
        state = a_flow().run(n=2, history=False, progress=True)
    assert state.is_successful()
    told = [record for record in caplog.records if record.name == "prefectish.progress"]
    assert len(told) == 1
    assert "could not refresh: ZeroDivisionError" in told[0].getMessage()
    assert fake.ends == []
    assert fake.rests == 1


def test_c9_a_display_that_cannot_be_made_is_logged_once(monkeypatch, caplog):
    monkeypatch.setattr(live, "progress_view", lambda *_: 1 / 0)
    monkeypatch.setattr(progress_view, "FIRST_AFTER", 0.0)
    with caplog.at_level(logging.WARNING, "prefectish"):
        assert a_flow().run(n=2, history=False, progress=True).is_successful()
    assert [record.name for record in caplog.records].count("prefectish.progress") == 1


def test_end_is_shown_when_a_run_breaks_off(fake):
    from prefectish import raise_on_exception

    with raise_on_exception(), pytest.raises(ValueError, match="3"):
        a_flow().run(n=4, history=False, progress=True)
    ((_, state),) = fake.ends
    assert state is None


def test_nothing_is_shown_without_a_screen(fake, capfd):
    a_flow().run(n=2, history=False)
    a_flow().run(n=2, history=False, progress=False)
    assert fake.seen == fake.ends == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("setting", "shown"), [("1", True), ("on", True), ("0", False), ("False", False)])
def test_setting_decides_where_the_call_does_not(fake, monkeypatch, setting, shown):
    monkeypatch.setenv("PREFECTISH_PROGRESS", setting)
    a_flow().run(n=2, history=False)
    assert bool(fake.ends) == shown
    a_flow().run(n=2, history=False, progress=not shown)
    assert len(fake.ends) == 1


def test_setting_that_says_nothing_is_refused(monkeypatch):
    monkeypatch.setenv("PREFECTISH_PROGRESS", "perhaps")
    with pytest.raises(ValueError, match="PREFECTISH_PROGRESS must be true or false, got 'perhaps'"):
        a_flow().run(n=2, history=False)


def use_terminal(monkeypatch):
    found = types.SimpleNamespace(isatty=lambda: True, write=lambda _: None, flush=lambda: None)
    monkeypatch.setattr(sys, "stderr", found)


def test_terminal_is_a_screen_unless_the_user_types_there(monkeypatch):
    use_terminal(monkeypatch)
    assert ticker_for(None, "f", nested=False, background=False) is not None
    assert ticker_for(None, "f", nested=False, background=True) is None
    assert ticker_for(True, "f", nested=False, background=True) is not None


def test_flow_that_a_task_runs_is_not_shown_of_itself(monkeypatch):
    use_terminal(monkeypatch)
    assert ticker_for(None, "f", nested=True, background=False) is None


def test_nested_run_leaves_the_screen_to_the_outer_one(fake, monkeypatch):
    use_terminal(monkeypatch)
    inner = a_flow()

    @task
    def runs():
        return inner.run(n=2, history=False)

    with Flow("outer") as flow:
        runs()
    flow.run(history=False)
    assert all(set(counts) == {"runs-1"} for counts, _ in fake.ends)
    assert fake.ends


def test_short_run_is_shown_only_if_that_was_asked_for(monkeypatch):
    fake = Fake()
    monkeypatch.setattr(live, "progress_view", lambda *_: fake)
    monkeypatch.setattr(progress_view, "FIRST_AFTER", 3600.0)
    for wanted in (False, True):
        watch = ProgressTicker(lambda run_id: fake, always=wanted)
        watch.refresh()
        show_end(watch, Success())
        assert (fake.seen, len(fake.ends)) == ([], int(wanted))
    show_end(None, Success())


def test_stderr_that_is_gone_is_not_a_screen(monkeypatch):
    for stream in (None, types.SimpleNamespace()):
        monkeypatch.setattr(sys, "stderr", stream)
        assert ticker_for(None, "f", nested=False, background=False) is None


def test_looks_are_seldom_where_looking_takes_long(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress_view, "monotonic", lambda: now[0])
    spent = iter([0.0, 0.01, 1.0, 1.0, 5.0, 9.0])
    monkeypatch.setattr(progress_view, "thread_time", lambda: next(spent))
    watch = ProgressTicker(lambda run_id: Fake(), always=False)
    gaps = []
    for _ in range(3):
        now[0] = watch.due
        watch.refresh()
        gaps.append(watch.due - now[0])
    assert gaps == pytest.approx([1.0, progress_view.MIN_INTERVAL, progress_view.MAX_INTERVAL])


def test_long_body_does_not_keep_anybody_from_looking(fake, monkeypatch):
    monkeypatch.setattr(progress_view, "TICK", 0.01)
    looked = threading.Event()
    fake.refresh = lambda progress: looked.set() if any(step.running for step in progress.tasks) else None

    @task
    def waits():
        assert looked.wait(60)  # in the thread of the loop

    with Flow("waits") as flow:
        waits()
    assert flow.run(history=False, progress=True).is_successful()
    assert len(fake.ends) == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "prefectish-progress" and not ends(thread)]


def ends(thread):
    thread.join(60)
    return not thread.is_alive()


def test_program_in_the_background_of_a_shell_leaves_its_terminal_alone(monkeypatch):
    use_terminal(monkeypatch)
    monkeypatch.setattr(sys.stderr, "fileno", lambda: 2, raising=False)
    for group, shown in ((os.getpgrp(), True), (os.getpgrp() + 1, False)):
        monkeypatch.setattr(os, "tcgetpgrp", lambda fd, group=group: group)
        assert (ticker_for(None, "f", nested=False, background=False) is not None) == shown


def test_screen_is_left_to_a_question(fake, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda _: "y")

    from prefectish import pause_task

    @task
    def asks():
        pause_task("may I?")
        return 1

    with Flow("asks") as flow:
        asks()
    assert flow.run(history=False, progress=True, on_pause="prompt").is_successful()
    assert fake.rests >= 1
    assert max(seen["asks-1"].paused for seen in fake.seen) == 1


def test_started_run_is_shown_if_that_was_asked_for(fake):
    gate = threading.Event()

    @task
    def waits():
        assert gate.wait(60)

    with Flow("waits") as flow:
        waits()
    handle = flow.start(history=False, progress=True)
    gate.set()
    assert handle.wait(60).is_successful()
    assert len(fake.ends) == 1
