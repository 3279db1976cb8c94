"""F18: a resumed run can run some of its failed children again, as a live one can; both kinds of flows."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefectish import Flow, flow, history, task
from prefectish.results import LocalResult


def counting(tmp_path, mended):
    """Return a task that notes its calls, and fails in two ways unless it is mended."""

    @task(result=LocalResult(str(tmp_path / "results")))
    def parse(x):
        with open(tmp_path / "calls", "a") as file:
            file.write(f"{x} ")
        if x == 1 and not (tmp_path / mended).exists():
            raise ConnectionError("down")
        if x == 2 and not (tmp_path / mended).exists():
            raise ValueError("bad")
        return x

    @task(result=LocalResult(str(tmp_path / "results")), name="follow")
    def follow(x):
        return x * 10

    return parse, follow


def called(tmp_path):
    made = (tmp_path / "calls").read_text().split()
    (tmp_path / "calls").write_text("")
    return sorted(made)


def recorded_flow(tmp_path):
    parse, follow = counting(tmp_path, "mended")
    with Flow("parses") as parses:
        follow.map(parse.map([0, 1, 2]))
    return parses


def function_flow(tmp_path):
    parse, follow = counting(tmp_path, "mended")

    @flow
    def parses():
        return follow.map(parse.map([0, 1, 2])).result()

    return parses


WHERE = {
    "type": lambda run: ConnectionError,
    "name": lambda run: "ConnectionError",
    "function": lambda run: lambda state: "down" in str(state.message),
    "group": lambda run: next(group for group in run.failures() if "ConnectionError" in str(group)),
}


@pytest.mark.parametrize("make", [recorded_flow, function_flow])
@pytest.mark.parametrize("where", WHERE)
def test_f18_resume_runs_a_group_of_failures_again(executor, make, where, tmp_path):
    parses, store = make(tmp_path), str(tmp_path / "history.db")
    first = parses.run(executor=executor, history=store)
    assert first.is_failed()
    assert called(tmp_path) == ["0", "1", "2"]
    (tmp_path / "mended").touch()
    run = history.run(first.context["flow_run_id"], store)
    second = parses.resume(run.id, executor=executor, history=store, where=WHERE[where](run))
    assert second.is_failed()  # the other group stands
    assert called(tmp_path) == ["1"]
    states = {child.index: child.state for child in history.run(run.id, store).children("follow-1")}
    assert (states[0], states[1], states[2]) == ("Success", "Success", "TriggerFailed")
    third = parses.resume(run.id, executor=executor, history=store, retry_failed=True)
    assert third.is_successful()
    assert called(tmp_path) == ["2"]


@pytest.mark.parametrize("make", [recorded_flow, function_flow])
def test_f18_what_is_no_choice_is_refused(make, tmp_path):
    parses, store = make(tmp_path), str(tmp_path / "history.db")
    run_id = parses.run(history=store).context["flow_run_id"]
    with pytest.raises(TypeError, match="retry_failed must be True or False, got <class 'ConnectionError'>; where="):
        parses.resume(run_id, history=store, retry_failed=ConnectionError)
    with pytest.raises(TypeError, match="force must be True or False, got 'yes'"):
        parses.resume(run_id, history=store, force="yes")
    with pytest.raises(TypeError, match="where must be an exception type"):
        parses.resume(run_id, history=store, where=3)


class Refused(ConnectionError):
    """An error of the user's with a constructor that wants more than a text."""

    def __init__(self, host, port):
        super().__init__(f"{host}:{port} refused")
        self.host = host
        self.port = port

    def __reduce__(self):  # it travels with the body, as an item of a list
        return type(self), (self.host, self.port)


def failing_flow(kind, failures, tmp_path):
    """Return a flow of either kind in which child n raises failure n, and a folder in which a file mends it."""

    @task(result=LocalResult(str(tmp_path / "results")), name="parse")
    def parse(n):
        if not (tmp_path / "mended").exists():
            raise failures[n]
        return n

    if kind == "graph":
        with Flow("parses") as parses:
            parse.map(range(len(failures)))
        return parses

    @flow
    def parses():
        return parse.map(range(len(failures))).result()

    return parses


def opened_error():
    try:
        Path("/nowhere/at all").read_text()
    except OSError as error:
        return error


FAILURES = [
    ConnectionResetError("down"),
    KeyError("a"),
    Refused("db", 5432),
    opened_error(),
    ValueError(),
    TypeError("x"),
]


@pytest.mark.parametrize("kind", ["graph", "function"])
def test_f18_function_sees_the_class_and_the_text_of_each_failure(executor, kind, tmp_path):
    parses, store = failing_flow(kind, FAILURES, tmp_path), str(tmp_path / "history.db")
    run_id = parses.run(executor=executor, history=store).context["flow_run_id"]
    seen = {}

    def where(state):
        seen[str(state.message)] = state.result
        return isinstance(state.result, OSError) and "refused" in str(state.result)

    (tmp_path / "mended").touch()
    assert parses.resume(run_id, executor=executor, history=store, where=where).is_failed()
    assert {(type(error), str(error)) for error in seen.values()} == {(type(e), str(e)) for e in FAILURES}
    missing = next(error for error in seen.values() if type(error) is FileNotFoundError)
    assert (missing.errno, missing.filename) == (2, "/nowhere/at all")
    assert "in parse\n" in missing.__cause__.traceback
    children = history.run(run_id, store).children("parse-1")
    assert {child.index for child in children if child.state == "Success"} == {2}


@pytest.mark.parametrize("kind", ["graph", "function"])
def test_f18_type_is_that_of_a_base_too_as_in_a_live_run(executor, kind, tmp_path):
    parses, store = failing_flow(kind, FAILURES, tmp_path), str(tmp_path / "history.db")
    run_id = parses.run(executor=executor, history=store).context["flow_run_id"]
    (tmp_path / "mended").touch()
    parses.resume(run_id, executor=executor, history=store, where=(OSError, LookupError))
    children = history.run(run_id, store).children("parse-1")
    assert {child.index for child in children if child.state == "Success"} == {0, 1, 2, 3}


def test_failure_that_is_kept_is_caught_by_its_class_in_a_resumed_flow_function(executor, tmp_path):
    seen = []

    @task(result=LocalResult(str(tmp_path / "results")))
    def parse(x):
        raise ConnectionResetError(f"db:{x} refused")

    @flow
    def parses():
        try:
            parse(5432)
        except ConnectionError as error:
            seen.append(str(error))
        if not (tmp_path / "mended").exists():
            raise RuntimeError("later")

    store = str(tmp_path / "history.db")
    run_id = parses.run(executor=executor, history=store).context["flow_run_id"]
    (tmp_path / "mended").touch()
    assert parses.resume(run_id, executor=executor, history=store).is_successful()
    assert seen == ["db:5432 refused"] * 2


@pytest.mark.parametrize("kind", ["graph", "function"])
def test_f18_type_is_no_other_of_the_same_name(executor, kind, tmp_path):
    """A library's own ConnectionError is not Python's, though the library is not loaded where the run is resumed."""

    def of_netlib():
        return type("ConnectionError", (Exception,), {"__module__": "netlib"})

    @task(result=LocalResult(str(tmp_path / "results")), name="parse")
    def parse(n):
        if not (tmp_path / "mended").exists():
            raise of_netlib()("its own") if n == 0 else ConnectionError("of Python")
        return n

    with Flow("parses") as parses:
        parse.map([0, 1])
    if kind == "function":
        parses = flow(lambda: parse.map([0, 1]).result(), name="parses")
    store = str(tmp_path / "history.db")
    run_id = parses.run(executor=executor, history=store).context["flow_run_id"]

    def again(where):
        parses.resume(run_id, executor=executor, history=store, where=where)
        children = history.run(run_id, store).children("parse-1")
        return {child.index for child in children if child.state == "Success"}

    (tmp_path / "mended").touch()
    assert again(ConnectionError) == {1}
    assert again(of_netlib()) == {0, 1}
