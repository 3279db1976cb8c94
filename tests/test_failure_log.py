"""The log of failures and retries: the level and the words of each, and one traceback for each cause."""

from __future__ import annotations

import logging
import re
import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from prefectish import Flow, flow, get_run_logger, history, task
from prefectish.engine import signals
from prefectish.engine.driver.failure_log import MAX_CAUSES, RETRIES, CauseCount, FailureLog, reason_of
from prefectish.engine.jobs.envelope import encode_error
from prefectish.engine.scheduling.events import FailureEvent
from prefectish.engine.state import Crashed, Failed, Retrying, Success, TimedOut
from prefectish.engine.worker.logs import digest
from prefectish.executors import LocalDaskExecutor, LocalExecutor
from prefectish.next_command import NextCommand
from prefectish.triggers import all_finished


def event(state, row=3, attempt=1, retries=0, due=None, mapped=True):
    step = SimpleNamespace(
        number=0, slug="load-1", name="load", label="load", mapped=mapped, task=SimpleNamespace(max_retries=retries)
    )
    return FailureEvent(step, row, attempt, state, due, datetime(2026, 1, 1, tzinfo=UTC), None)


def failed(text="no", **context):
    error = ValueError(text)
    return Failed(f"Error during execution of task: {error!r}", error, context=context)


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (event(failed()), "load[3]: failed: ValueError: no"),
        (event(failed(), mapped=False), "load: failed: ValueError: no"),
        (event(failed(task_run_name="eu.csv")), "load[3] (eu.csv): failed: ValueError: no"),
        (event(failed(), attempt=3, retries=2), "load[3]: attempt 3 of 3 failed: ValueError: no"),
        (event(failed(), retries=2), "load[3]: attempt 1 of 3 failed: ValueError: no; not retried"),
        (
            event(Retrying("again", OSError("slow disk"), context={"task_run_name": "item.png"}), retries=2, due=2.0),
            "load[3] (item.png): attempt 1 of 3 failed: OSError: slow disk; retrying in 2 s",
        ),
        (event(Retrying("not yet"), due=1500.0), "load[3]: attempt 1: not yet; retrying in 1,500 s"),
        (event(TimedOut("Task timed out.", TimeoutError())), "load[3]: failed: Task timed out."),
        (event(Failed("x could not be pickled"), attempt=0), "load[3]: failed: x could not be pickled"),
        (event(Failed("lengths differ"), row=-1, attempt=0), "load: failed: lengths differ"),
        (event(Crashed("worker died 4 times"), attempt=0), "load[3]: crashed: worker died 4 times"),
    ],
)
def test_line_tells_the_attempt_the_cause_and_what_comes_next(caplog, failure, text):
    log = FailureLog("run", None)
    log.note(failure)
    assert [digest.text_of(record).split(maxsplit=2)[2] for record in caplog.records] == [text]
    level = logging.WARNING if isinstance(failure.state, Retrying) else logging.ERROR
    assert caplog.records[0].levelno == level


def test_line_of_a_process_that_died_has_its_last_words(caplog):
    FailureLog("run", None).note(event(Crashed("died", evidence={"log": ["boom"]})))
    assert caplog.records[0].getMessage().splitlines() == ["crashed: died", "  boom"]


def test_exception_that_came_as_bytes_is_named_without_loading_it():
    assert reason_of(Retrying("again", encode_error(KeyError("k"), "load"))) == "KeyError: 'k'"


def test_first_failure_of_a_cause_is_logged_and_then_powers_of_ten(caplog):
    log = FailureLog("run", None)
    for row in range(120):
        log.note(event(failed(f"no {row}"), row=row))
    log.note(event(failed("other"), row=120))
    log.end()
    assert [f"{r.name[11:]}: {r.getMessage()}" for r in caplog.records] == [
        "load[0]: failed: ValueError: no 0",
        "load: 10 failures so far: ValueError: no 0",
        "load: 100 failures so far: ValueError: no 0",
        "load[120]: failed: ValueError: other",
        "engine: load: 119 more failures were not logged one by one: ValueError: no 0 (120 in all); "
        "state.children('load', failed=True) has them",
    ]


def test_recorded_run_says_where_all_failures_are(caplog):
    log = FailureLog("run-7", NextCommand(history="h.db"))
    for row in range(2):
        log.note(event(failed(), row=row))
    log.end()
    assert caplog.messages[-1].endswith("(2 in all); `prefectish failures run-7 --history h.db` and `logs` show them")


def test_retries_are_counted_apart_from_failures(caplog):
    log = FailureLog("run", None)
    for row in range(RETRIES + 2):
        log.note(event(Retrying("again", OSError("slow")), row=row, retries=1, due=1.0))
    log.note(event(failed()))
    log.end()
    assert log.causes() == [
        CauseCount("load", "OSError: slow", RETRIES + 2, "load[0]", False),
        CauseCount("load", "ValueError: no", 1, "load[3]", True),
    ]
    assert len(caplog.records) == RETRIES + 2
    assert "2 more attempts that failed and were retried were not" in caplog.messages[-1]


def test_texts_that_all_differ_are_counted_together_after_some(caplog):
    log = FailureLog("run", None)
    for row in range(500):
        log.note(event(failed(f"odd{'x' * row}"), row=row))
    assert len(log.causes()) == MAX_CAUSES + 1
    assert sum(count.number for count in log.causes()) == 500
    assert len(caplog.records) < MAX_CAUSES + 5


def test_live_view_keeps_failures_off_the_error_output(capsys, monkeypatch):
    from prefectish.engine.worker.logs import capture

    top = logging.getLogger("prefectish")
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(top, "handlers", [capture.handler])
    for is_live, shown in ((True, 0), (False, 1)):
        log = FailureLog("run", None, lambda is_live=is_live: is_live)
        log.note(event(failed()))
        log.end()
        assert capsys.readouterr().err.count("load[3]: failed") == shown


def test_run_that_ends_before_its_view_is_drawn_writes_its_failures(capsys, monkeypatch):
    from prefectish.engine.worker.logs import capture

    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.getLogger("prefectish"), "handlers", [capture.handler])
    log = FailureLog("run", None, lambda: None)
    log.note(event(failed()))
    assert capsys.readouterr().err == ""
    log.end()
    assert "ERROR   load[3]: failed: ValueError: no" in capsys.readouterr().err


# -- on every executor -------------------------------------------------------------------------------------------------


@task(max_retries=2, retry_delay=0.01, retry_on=OSError, task_run_name="${x}")
def load(x):
    if x == "slow.png":
        raise OSError("slow disk")
    if x.startswith("bad"):
        raise ValueError(f"{x} is broken")
    return x


@task
def two():
    return [1, 2]


@task
def three():
    return [1, 2, 3]


@task
def five():
    return 5


@task
def lock():
    return threading.Lock()


@task
def add(x, y=0):
    return x


@task(trigger=all_finished)
def end(values):
    return None


def said(caplog, level):
    """Return what the error output would show, without the clock."""
    records = [r for r in caplog.records if r.levelno == level and r.name.startswith("prefectish.")]
    return [digest.text_of(r).split(maxsplit=2)[2].splitlines()[0] for r in records]


ITEMS = ["slow.png", *(f"bad{n}.png" for n in range(5)), "ok.png"]
RETRIED = [f"load[0] (slow.png): attempt {n} of 3 failed: OSError: slow disk; retrying in 0.01 s" for n in (1, 2)]


def check_lines(caplog):
    assert said(caplog, logging.WARNING)[:2] == RETRIED
    errors = said(caplog, logging.ERROR)
    assert "load[0] (slow.png): attempt 3 of 3 failed: OSError: slow disk" in errors
    (first,) = [line for line in errors if "broken" in line]
    assert first.endswith("is broken; not retried")
    assert caplog.text.count("Traceback (most recent call last)") == 2
    assert caplog.text.count('raise ValueError(f"{x} is broken")') == 1
    assert "load: 4 more failures were not logged one by one: ValueError: bad" in caplog.text


def test_retries_and_failures_of_a_map(run, caplog):
    with Flow("loads") as graph:
        end(load.map(ITEMS))
    run(graph)
    check_lines(caplog)


def test_retries_and_failures_of_a_flow_function(executor, caplog):
    @flow
    def loads():
        load.map(ITEMS, return_state=True)

    loads.run(executor=executor, history=False)
    check_lines(caplog)


@task
def odd(x):
    get_run_logger().warning("looking at it")
    if x % 2:
        raise ValueError(f"odd, kind {'x' * x}")  # a cause of its own: each is logged
    return x


@pytest.fixture
def shown(capsys, monkeypatch):
    """Return a function that runs a flow, and returns its state and by which names the console called children."""

    def run(flow, **options):
        monkeypatch.setattr(logging.root, "handlers", [])
        monkeypatch.setattr(logging.getLogger("prefectish"), "handlers", [])
        state = flow.run(progress=False, **options)
        return state, re.findall(r"(?:ERROR|WARNING) +(odd\S*): (?:failed|looking)", capsys.readouterr().err)

    return run


ON_THIS_MACHINE = pytest.mark.parametrize(
    "executor", [LocalExecutor(), LocalDaskExecutor("threads"), LocalDaskExecutor("processes")], ids=repr
)


@ON_THIS_MACHINE
def test_console_calls_children_of_tasks_of_one_name_as_the_record_does(executor, shown, tmp_path):
    with Flow("three") as graph:
        odd(1)
        odd.map([2, 3])
        odd.map([5])
    store = str(tmp_path / "h.db")
    state, names = shown(graph, executor=executor, history=store)
    lines = history.run(state.context["flow_run_id"], store=store).logs()
    assert sorted(names) == sorted(line.child for line in lines if line.child is not None)
    assert {line.child for line in lines} == {"odd-1", "odd-2[0]", "odd-2[1]", "odd-3[0]"}


@ON_THIS_MACHINE
def test_console_calls_children_of_a_function_by_what_is_known_of_it_then(executor, shown):
    """Its second task of a name is called by its slug, as the future is."""

    @flow
    def three():
        for begin in (lambda: [odd.submit(1)], lambda: odd.map([2, 3]), lambda: odd.map([5])):
            for future in begin():
                future.wait()
                assert future.state.is_finished()

    _, names = shown(three, executor=executor, history=False)
    assert sorted(names) == ["odd-2[0]", *["odd-2[1]"] * 2, *["odd-3[0]"] * 2, *["odd[0]"] * 2]


def test_what_is_said_to_have_all_failures_has_them(caplog):
    with Flow("alike") as graph:
        give_up = task(lambda x: int("no"), name="odd")
        give_up.map([1, 2])
        give_up.map([3])
    state = graph.run(history=False)
    (said,) = [r.getMessage() for r in caplog.records if "2 more failures were not logged" in r.getMessage()]
    hints = re.findall(r"state\.children\('(\S+)', failed=True\)", said)
    assert [len(state.children(name, failed=True)) for name in hints] == [2, 1], said


def test_handlers_of_the_user_see_the_item_once(run, caplog):
    with Flow("loads") as graph:
        load.map(["bad.png"])
    run(graph)
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    line = f"{record.levelname}:{record.name}:{record.getMessage()}"
    assert line == "ERROR:prefectish.load[0]:bad.png: attempt 1 of 3 failed: ValueError: bad.png is broken; not retried"


def test_record_has_its_child_and_the_line_that_raised(run, caplog):
    with Flow("loads") as graph:
        load.map(["bad.png"])
    run(graph)
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert (record.task_name, record.task_slug, record.map_index) == ("load", "load-1", 0)
    assert record.task_run_name == "bad.png"
    assert (record.filename, record.lineno) == ("test_failure_log.py", load.run.__code__.co_firstlineno + 5)


def test_what_the_engine_decides_is_logged_too(run, caplog):
    with Flow("decides") as graph:
        add.copy(name="unmappable").map(five())
        add.copy(name="unequal").map(two(), three())
    run(graph)
    errors = said(caplog, logging.ERROR)
    assert [line for line in errors if line.startswith("unmappable: failed: At least one upstream state has an")]
    assert [line for line in errors if line.startswith("unequal: failed: ") and "length" in line]
    assert len(errors) == 2


def test_result_that_cannot_be_pickled_is_logged(run, caplog, in_process):
    with Flow("locks") as graph:
        add(lock())
    run(graph)
    errors = said(caplog, logging.ERROR)
    assert errors == [] if in_process else errors[0].startswith("lock: failed: result of lock-1 could not be pickled")


def test_task_that_only_follows_and_signals_are_not_logged_as_failures(run, caplog):
    @task
    def skip(x):
        raise signals.SKIP("on purpose")

    with Flow("follows") as graph:
        add(load("bad.png"))
        skip(1)
    run(graph)
    assert [line.partition(":")[0] for line in said(caplog, logging.ERROR)] == ["load (bad.png)"]


def test_trigger_that_breaks_is_logged(run, caplog):
    def break_down(upstream):
        raise KeyError("lost")

    with Flow("breaks") as graph:
        add.copy(trigger=break_down)(1)
    run(graph)
    assert "failed: Unexpected error while checking task trigger: KeyError('lost')" in caplog.text


def test_time_out_is_logged(caplog):
    hold = threading.Event()

    @task(timeout=0.05)
    def hang():
        hold.wait(60)

    with Flow("hangs") as graph:
        hang()
    graph.run(history=False, executor=LocalDaskExecutor("threads", num_workers=1))
    hold.set()
    assert "failed: Task timed out during execution." in caplog.text


def test_handler_that_raises_stops_no_run(monkeypatch):
    class Broken(logging.Handler):
        def emit(self, record):
            raise OSError("full")

    monkeypatch.setattr(logging.getLogger("prefectish"), "handlers", [Broken()])
    with Flow("loads") as graph:
        load.map(["bad.png", "ok.png"])
    state = graph.run(history=False, executor=LocalExecutor())
    assert state.results("load").ok == {1: "ok.png"}


def test_every_failure_is_a_line_of_its_child_in_the_history(run, caplog, tmp_path):
    with Flow("loads") as graph:
        load.map(ITEMS)
    run_id = run(graph, history=tmp_path / "h.db").context["flow_run_id"]
    recorded = history.run(run_id, store=tmp_path / "h.db")
    (line,) = recorded.logs("load", 4)
    assert line.text == "attempt 1 of 3 failed: ValueError: bad3.png is broken; not retried"
    assert "Traceback" in line.traceback
    assert [line.level for line in recorded.logs("load", 0)] == ["WARNING", "WARNING", "ERROR"]


def test_handler_that_makes_a_failure_a_success_hides_no_error(run, caplog):
    def mend(task, old, new):
        return Success("mended", 0) if new.is_failed() else new

    with Flow("mends") as graph:
        load.copy(state_handlers=[mend], task_run_name=None)("bad.png")
    assert run(graph).is_successful()
    assert "failed: ValueError('bad.png is broken'); a state handler made it Success" in caplog.text
