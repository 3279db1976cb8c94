"""What is kept of failures: large exceptions as text, later ones of a cause in short."""

from __future__ import annotations

import array
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefectish import Flow, flow, history, task
from prefectish.engine.jobs.envelope import MAX_ERROR_BYTES, encode_error
from prefectish.engine.jobs.failures import (
    MOST_CAUSES,
    SHORT_TEXT,
    WHOLE_OF_CAUSE,
    WHOLE_OF_TASK,
    KeptFailures,
    of_bounded_size,
    weight,
)
from prefectish.engine.scheduling.causes import cause_of
from prefectish.engine.state import Failed, Success
from prefectish.errors import RemoteError

BIG = "x" * 1_000_000


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return caught


def with_attribute():
    error = ValueError("small")
    error.table = {"rows": [BIG]}
    return error


def with_note():
    error = ValueError("small")
    error.add_note(BIG)
    return error


def with_cause():
    error = ValueError("small")
    error.__cause__ = KeyError(BIG)
    return error


HEAVY = {
    "message": lambda: ValueError(BIG),
    "attribute": with_attribute,
    "note": with_note,
    "cause": with_cause,
    "group": lambda: ExceptionGroup("small", [ValueError(BIG)]),
    "buffer": lambda: ValueError(array.array("d", [0.0] * 100_000)),
    "text of its own": lambda: ValueError(type("Text", (str,), {})(BIG)),
}


@pytest.mark.parametrize("make", HEAVY.values(), ids=HEAVY)
def test_u20_large_exception_is_replaced_by_its_text(make):
    error = raised(make())
    assert weight(error) > MAX_ERROR_BYTES
    state = of_bounded_size(Failed("no", error))
    assert type(state.result) is RemoteError
    assert state.result.type_name == type(error).__name__
    assert state.traceback


def test_small_exception_and_results_stay():
    error = raised(ValueError("small", {"a": [1, 2]}))
    assert of_bounded_size(Failed("no", error)).result is error
    state = Success("yes", BIG)
    assert of_bounded_size(state) is state


class Liar:
    def __len__(self):
        raise RuntimeError

    __sizeof__ = __iter__ = __getattr__ = __len__


def test_weighing_runs_no_code_of_the_user():
    loop = []
    loop.append(loop)
    assert weight(ValueError(Liar(), loop)) == 0


@given(st.integers(1, 400))
def test_first_failures_of_a_cause_are_whole_and_later_ones_short(count):
    kept = KeptFailures()
    for number in range(count):
        state = Failed("e" * 2000, raised(ValueError(f"{number} {'y' * 5000}")), traceback="Traceback of its own")
        own, noted = kept.take(state)
        if number < WHOLE_OF_CAUSE:
            assert own is noted is state
        else:
            assert own.result.__traceback__ is None
            assert len(own.message) < SHORT_TEXT + 50
            assert len(own.result.message) < SHORT_TEXT + 50
            assert noted.result.message == f"{number} {'y' * 5000}"
            assert cause_of(own).fingerprint == cause_of(state).fingerprint


def test_causes_are_bounded_too():
    kept = KeptFailures()
    whole = 0
    for number in range(WHOLE_OF_TASK + MOST_CAUSES + 50):
        state = Failed("no", ValueError(f"{chr(97 + number % 26)}{chr(0x4E00 + number)}"))
        whole += kept.take(state)[0] is state
    assert whole == WHOLE_OF_TASK
    assert len(kept._causes) <= MOST_CAUSES + 1


def test_encoded_failures_are_cut_too():
    kept = KeptFailures()
    for number in range(WHOLE_OF_CAUSE + 1):
        error = encode_error(raised(ValueError(f"{number} {'z' * 9000}")), "load[0]")
        own, noted = kept.take(Failed("no", error))
    assert (type(own.result), own.result.type_name) == (RemoteError, "ValueError")
    assert len(own.result.message) < SHORT_TEXT + 50
    assert len(noted.result.message) > 9000
    assert all(sys.getsizeof(text) < SHORT_TEXT + 150 for text in (own.result.message, own.message or "")), "two bytes"


PROGRAM = """
import resource, sys
from prefectish import Flow, flow, task
from prefectish.executors import *
import logging; logging.getLogger("prefectish").setLevel(logging.CRITICAL)
def body(i):
    raise ValueError(f"{{i}} " + chr(97 + i % 26) * 1_000_000)
load = task(body, name="load")
def calls():
    return load.map(list(range(600)))
if __name__ == "__main__":
    if {graph}:
        with Flow("large") as made:
            load.map(list(range(600)))
    else:
        made = flow(calls)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    state = made.run(executor={executor}, progress=False, history={history!r})
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(state.is_failed(), grown // 1000)
"""
EXECUTORS = {
    "local": "LocalExecutor()",
    "threads": "LocalDaskExecutor('threads', num_workers=2)",
    "processes": "LocalDaskExecutor('processes', num_workers=2)",
    "dask": "DaskExecutor(cluster_kwargs={'n_workers': 1, 'threads_per_worker': 1})",
}


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "function"])
@pytest.mark.parametrize("executor", EXECUTORS)
def test_u20_failures_with_messages_of_a_megabyte_leave_the_client_small(tmp_path, executor, graph):
    """U20. On LocalExecutor, LocalDaskExecutor(threads, processes) and DaskExecutor."""
    import subprocess

    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(graph=graph, executor=EXECUTORS[executor], history=str(tmp_path / "history.db")))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120, check=False)
    failed, grown = done.stdout.split()[-2:]
    assert failed == "True", done.stderr
    assert int(grown) < 250, "600 messages of 1 MB would be 600 MB"


@pytest.mark.parametrize("front", ["graph", "function"])
def test_classes_of_one_name_from_two_modules_are_two_causes(executor, tmp_path, front):
    @task(name="load")
    def load(module):
        raise type("Late", (ValueError,), {"__module__": module})("no answer")

    modules, home = ["netlib", "disklib", "netlib"], str(tmp_path / "history.db")

    @flow(name="late", history=home)
    def function():
        load.map(modules).result(raise_on_failure=False)

    with Flow("late") as graph:
        load.map(modules)
    state = (graph if front == "graph" else function).run(executor=executor, **{"history": home})
    groups = history.run(state.context["flow_run_id"], home).failures()
    assert sorted((g.type, g.message, g.count) for g in groups) == [("Late", "no answer", 1), ("Late", "no answer", 2)]


def test_later_failures_of_one_name_keep_the_traceback_of_their_own_module():
    kept = KeptFailures()
    kinds = [type("Late", (ValueError,), {"__module__": module}) for module in ("netlib", "disklib")]
    for n in range(2 * WHOLE_OF_CAUSE + 2):
        try:
            raise kinds[n % 2]("no answer")
        except ValueError as error:
            last, _ = kept.take(Failed("failed", error))
    assert type(last._raw_result) is RemoteError
    assert last.traceback.endswith("disklib.Late: no answer\n")
