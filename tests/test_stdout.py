"""`log_stdout`: prints of a body in its task's log, prints of others where they belong."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading

import pytest

from prefectish import Flow, task
from prefectish.engine.worker.logs.stdout import logged_prints
from prefectish.secrets.masking import MASK
from prefectish.secrets.output_masking import mask_output


@pytest.fixture(autouse=True)
def info(caplog):
    caplog.set_level(logging.INFO, "prefectish")


def texts(caplog):
    return [(r.name, r.levelname, r.getMessage()) for r in caplog.records]


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize("timeout", [None, 30])
def test_prints_go_to_the_log_of_their_task(caplog, capsys, isolation, timeout):
    @task(log_stdout=True, isolation=isolation, timeout=timeout)
    def talk(x):
        print("one\ntwo", x)
        print("100%", end="")
        print("err", file=sys.stderr)
        return x

    with Flow("talks") as flow:
        out = talk.map(["a"])
    assert flow.run().result[out].result == ["a"]
    expected = [("prefectish.talk[0]", "INFO", line) for line in ("one", "two a", "100%")]
    assert texts(caplog) == expected
    assert capsys.readouterr() == ("", "err\n")


def test_bodies_that_ask_for_a_secret_leave_one_stream_that_masks(monkeypatch):
    """However many there are: of streams that are put before one another at each body no print comes to its end."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())

    @task(log_stdout=True)
    def logged(x):
        mask_output("a secret of mine")
        print(x, "a secret of mine")

    with Flow("talks") as flow:
        out = logged.map(range(1000))
    assert flow.run(history=False).result[out].is_successful()
    print("a secret of mine")
    assert type(sys.stdout._stream) is io.StringIO
    assert sys.stdout.getvalue() == f"{MASK}\n"


def test_other_tasks_print_as_ever(caplog, capsys):
    @task
    def quiet():
        print("shown")

    @task(log_stdout=True)
    def logged():
        print("logged")

    with Flow("talks") as flow:
        quiet(upstream_tasks=[logged(upstream_tasks=[quiet()])])
    flow.run()
    assert texts(caplog) == [("prefectish.logged", "INFO", "logged")]
    assert capsys.readouterr().out == "shown\nshown\n"


def test_all_lines_of_a_failing_task_are_logged(caplog):
    @task(log_stdout=True)
    def fail():
        print("last word", end="")
        raise ValueError("no")

    with Flow("fails") as flow:
        fail()
    flow.run()
    assert caplog.records[0].getMessage() == "last word"


def test_bodies_beside_one_another_are_distinguished(caplog, capsys):
    both_in = threading.Barrier(2)

    def talk(name):
        with logged_prints(logging.getLogger(f"prefectish.{name}")):
            both_in.wait(20)
            print("from", name)
            both_in.wait(20)

    threads = [threading.Thread(target=talk, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    print("afterwards")
    assert sorted(texts(caplog)) == [("prefectish.a", "INFO", "from a"), ("prefectish.b", "INFO", "from b")]
    assert capsys.readouterr().out == "afterwards\n"


def test_print_of_another_thread_is_not_taken(caplog, capsys):
    with logged_prints(logging.getLogger("prefectish.mine")):
        other = threading.Thread(target=print, args=("from another",))
        other.start()
        other.join(20)
        print("mine")
    assert texts(caplog) == [("prefectish.mine", "INFO", "mine")]
    assert capsys.readouterr().out == "from another\n"


def test_stdout_is_put_back():
    before = sys.stdout
    with logged_prints(logging.getLogger("prefectish.a")):
        assert sys.stdout is not before
        with logged_prints(logging.getLogger("prefectish.b")):
            assert sys.stdout.encoding == before.encoding
        assert sys.stdout is not before
    assert sys.stdout is before


def test_print_after_a_body_is_not_the_bodys(caplog, capsys):
    with logged_prints(logging.getLogger("prefectish.a")):
        with logged_prints(logging.getLogger("prefectish.b")):
            print("in b")
        print("in a")
    assert texts(caplog) == [("prefectish.b", "INFO", "in b"), ("prefectish.a", "INFO", "in a")]


def test_body_that_redirects_its_prints_has_them(caplog):
    with logged_prints(logging.getLogger("prefectish.a")):
        with contextlib.redirect_stdout(io.StringIO()) as mine:
            print("to myself")
        print("to the log")
    assert mine.getvalue() == "to myself\n"
    assert texts(caplog) == [("prefectish.a", "INFO", "to the log")]


def test_process_without_stdout_stays_without(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with logged_prints(logging.getLogger("prefectish.a")):
        print("nowhere")
    assert sys.stdout is None
