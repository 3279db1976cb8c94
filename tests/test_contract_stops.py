"""The contract of every executor: limits hold, and what is stopped stops, in flows and in flow functions."""

from __future__ import annotations

import time

import pytest
from real import most_at_once, note, notes, spend, until

from prefectish import Flow, flow, history, task, triggers, unmapped
from prefectish.engine.scheduling.changes import Changes
from prefectish.engine.state import Cancelled

pytestmark = pytest.mark.time_limit(90)

#: The two ways to write a flow.
FRONT_ENDS = ("graph", "function")


@pytest.fixture(params=FRONT_ENDS)
def children(request, executor):
    """Map a task over items in a flow, or in a flow function; return the states of the children."""

    def in_graph(mapped, items, *constants, **options):
        with Flow("stops") as graph:
            out = mapped.map(items, *map(unmapped, constants))
        state = graph.run(executor=executor, history=False, **options)
        return state.result[out].map_states

    def in_function(mapped, items, *constants, **options):
        @flow(name="stops", executor=executor, history=False, **options)
        def calls():
            called = mapped.map(items, *map(unmapped, constants))
            called.wait()
            states.extend(called.state.map_states)

        states = []
        calls()
        return states

    return in_graph if request.param == "graph" else in_function


def outcomes(states):
    return [f"Cancelled: {s.message}" if isinstance(s, Cancelled) else type(s).__name__ for s in states]


# ---------------------------------------------------------------------- limits


def timed(x, path):
    note(path, "+")
    spend(0.05)
    note(path, "-")
    return x


@pytest.mark.parametrize("batch", [None, 3, "auto"])
@pytest.mark.parametrize("most", [1, 2])
def test_f2a_max_concurrency_holds_whatever_the_batch(children, tmp_path, batch, most):
    path = tmp_path / "notes"
    states = children(task(timed, max_concurrency=most, batch_size=batch), range(8), path)
    assert [state.result for state in states] == list(range(8))
    assert most_at_once(path) <= most


@pytest.mark.parametrize("batch", [None, 3])
def test_f2a_limit_of_a_tag_holds_whatever_the_batch(children, executor, tmp_path, batch):
    path = tmp_path / "notes"
    if not hasattr(executor, "tag_limits"):
        pytest.skip("an executor that runs one body at a time takes no limits of tags")
    executor.tag_limits = {"db": 1}
    states = children(task(timed, tags=["db"], batch_size=batch), range(6), path)
    assert [state.result for state in states] == list(range(6))
    assert most_at_once(path) == 1


# ---------------------------------------------------------------------- shares of failures


def fails_from_three(x):
    if x >= 3:
        raise ValueError(x)
    return x


@pytest.mark.parametrize(("tolerated", "options"), [(10, {"max_failures": 0.01}), (0, {"on_child_failure": "stop"})])
def test_f3_bodies_that_take_no_time_stop_as_others_do(children, in_process, tolerated, options):
    if not in_process:
        pytest.skip("in other processes a few begin until they are told")
    ended = outcomes(children(task(fails_from_three, **options), range(1000)))
    assert ended[:3] == ["Success"] * 3
    assert ended.count("Failed") <= tolerated + 8  # twice as many as there are threads
    assert ended[-1] == "Cancelled: never started"


def every_third(x):
    if x % 3 == 0:
        raise ValueError(x)
    return x


def test_f4_share_of_a_lazy_input_counts_over_what_has_ended(children):
    pulled = []

    def items():
        for x in range(3000):
            pulled.append(x)
            yield x

    states = children(task(every_third, max_failures=0.2, min_sample=10), items())
    failed = outcomes(states).count("Failed")
    assert 3 <= failed < 1000
    assert len(pulled) == len(states) < 3000


def test_f4_smaller_sample_than_the_minimum_stops_nothing(children):
    states = children(task(every_third, max_failures=0.2, min_sample=200), iter(range(3000)))
    assert 60 <= outcomes(states).count("Failed") < 1000


# ---------------------------------------------------------------------- maps that stop

#: Bodies that may begin once a failure is known: those that threads or processes are about to begin.
LATE = {"local": 0, "synchronous": 0, "threads": 4, "processes": 2, "dask": 8}


@pytest.fixture
def late(executor, request):
    return LATE[request.node.callspec.params["executor"]]


@pytest.fixture
def known(monkeypatch):
    """Return the times at which failures become known to the client."""
    times = []
    count = Changes._count_failure

    def counted(*args):
        times.append(time.time())
        count(*args)

    monkeypatch.setattr(Changes, "_count_failure", counted)
    return times


def failing_from(x, path, first):
    note(path, f"+ {x} {time.time()}")
    spend(0.1)
    if x >= first:
        raise ValueError(x)
    return x


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize(
    ("options", "failures"), [({"on_child_failure": "stop"}, 1), ({"max_failures": 2}, 3), ({"max_failures": 0.01}, 2)]
)
def test_u19_no_body_begins_once_the_failure_is_known(children, late, known, tmp_path, options, failures, batch):
    path = tmp_path / "notes"
    states = children(task(failing_from, batch_size=batch, **options), range(120), path, 3)
    found = outcomes(states)
    began = {int(line.split()[1]): float(line.split()[2]) for line in notes(path)}
    assert {n for n, outcome in enumerate(found) if outcome == "Cancelled: never started"} == set(range(120)) - set(
        began
    )
    assert {found[n] for n in began} == {"Success", "Failed"}
    assert sum(moment > known[failures - 1] for moment in began.values()) <= late


@pytest.mark.parametrize(
    ("options", "failures"),
    [
        ({"on_child_failure": "stop"}, 1),
        ({"on_child_failure": "stop", "batch_size": 4}, 1),
        ({"max_failures": 2}, 3),
        ({"max_failures": 0.5, "min_sample": 4}, 4),
    ],
)
def test_u19_of_a_lazy_input_no_body_begins_and_no_item_is_read_once_the_failure_is_known(
    children, late, known, tmp_path, options, failures
):
    path, read = tmp_path / "notes", []

    def items():
        for x in range(3000):
            read.append(time.time())
            yield x

    states = children(task(failing_from, **options), items(), path, 2)
    found = outcomes(states)
    began = {int(line.split()[1]): float(line.split()[2]) for line in notes(path)}
    assert len(read) == len(states) < 3000
    assert {n for n, outcome in enumerate(found) if outcome == "Cancelled: never started"} == set(
        range(len(read))
    ) - set(began)
    assert {found[n] for n in began} == {"Success", "Failed"}
    stopped = known[min(failures, len(known)) - 1]  # the order in which children end may save a share one failure
    assert sum(moment > stopped for moment in began.values()) <= late
    assert sum(moment > stopped for moment in read) <= late


@pytest.mark.parametrize("batch", [None, 4])
def test_u19_of_a_map_that_is_cancelled_what_has_not_begun_says_so(children, tmp_path, batch):
    path = tmp_path / "notes"
    states = children(task(failing_from, on_child_failure="cancel", batch_size=batch), range(120), path, 3)
    found = outcomes(states)
    began = {int(line.split()[1]) for line in notes(path)}
    never = {n for n, outcome in enumerate(found) if outcome == "Cancelled: never started"}
    assert never == set(range(120)) - began
    assert {found[n] for n in began} <= {"Success", "Failed", "Cancelled: cancelled: its map was stopped"}


def test_u19_stopped_step_of_a_row_that_has_begun_ends_without_its_body(run, tmp_path):
    path = tmp_path / "notes"

    @task
    def load(x):
        note(path, f"load {x}")
        return x

    @task(on_child_failure="stop")
    def check(x):
        note(path, f"check {x}")
        spend(0.1)
        raise ValueError(x)

    @task(trigger=triggers.all_finished)
    def read(x):
        note(path, f"read {x}")
        return x

    with Flow("rows") as graph:
        loaded = load.map(range(60))
        checked = check.map(loaded)
        after = read.map(checked)
    state = run(graph)
    columns = [outcomes(state.result[out].map_states) for out in (loaded, checked, after)]
    began = [{int(line.split()[1]) for line in notes(path) if line.startswith(name)} for name in ("load", "check")]
    for row, (first, second, third) in enumerate(zip(*columns, strict=True)):
        assert (first == "Success") == (row in began[0])
        assert second == ("Failed" if row in began[1] else "Cancelled: never started")
        assert third == ("Success" if second == "Failed" else "Cancelled: never started")
    assert len(began[1]) < 30


# ---------------------------------------------------------------------- time limits


@pytest.fixture
def warm(executor):
    """Start the processes of an executor, which count among what a time limit is for."""
    with Flow("warm") as graph:
        task(spend).map([0.05] * 8)
    graph.run(executor=executor, history=False)


def slow(x, path):
    note(path, x)
    spend(1.5)
    return x


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("batch", [None, 2])
def test_d8_child_that_has_not_begun_at_the_limit_of_its_map_never_started(children, tmp_path, batch):
    path = tmp_path / "notes"
    states = children(task(slow, map_timeout=0.8, batch_size=batch), range(24), path)
    began = set(map(int, notes(path)))
    assert 0 < len(began) < 8
    found = outcomes(states)
    # A body that holds up the loop of a flow function is not interrupted, and ends.
    assert {found[n] for n in began} in ({"TimedOut"}, {"Success"})
    assert {n for n, outcome in enumerate(found) if outcome == "Cancelled: never started"} == set(range(24)) - began


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("batch", [None, 2])
def test_d8_child_that_has_not_begun_at_the_limit_of_the_flow_never_started(executor, tmp_path, batch):
    path = tmp_path / "notes"
    with Flow("limited") as graph:
        out = task(slow, batch_size=batch).map(range(24), unmapped(path))
    state = graph.run(executor=executor, history=False, timeout=0.8)
    found = outcomes(state.result[out].map_states)
    began = set(map(int, notes(path)))
    assert 0 < len(began) < 8
    assert [outcome == "TimedOut" for outcome in found] == [n in began for n in range(24)]
    assert found.count("Cancelled: never started") == 24 - len(began)


@pytest.mark.usefixtures("warm")
def test_d8_resume_runs_what_never_started(executor, tmp_path):
    path, store = tmp_path / "notes", tmp_path / "history.db"

    @task
    def nap(x):
        note(path, x)
        spend(0 if len(notes(path)) > 8 else 1.5)
        return x

    with Flow("resumed") as graph:
        out = nap.map(range(24))
    first = graph.run(executor=executor, history=store, timeout=0.8)
    never = [n for n, found in enumerate(outcomes(first.result[out].map_states)) if found.startswith("Cancelled")]
    began = notes(path)
    assert len(never) > 16
    path.write_text("\n".join(["begun before"] * 9) + "\n")
    run_id = history.runs(store=store)[0].id
    second = graph.resume(run_id, executor=executor, history=store)
    assert set(never) <= {int(line) for line in notes(path) if line.isdigit()}
    assert [second.result[out].map_states[n].result for n in never] == never
    assert began


# ---------------------------------------------------------------------- steering


def shown(path):
    return [line for line in notes(path) if line.startswith("+")]


def test_f20_pause_takes_back_what_has_not_begun(executor, late, tmp_path):
    path = tmp_path / "notes"
    with Flow("paused") as graph:
        out = task(failing_from).map(range(60), unmapped(path), unmapped(60))
    handle = graph.start(executor=executor, history=False)
    until(lambda: shown(path))
    handle.pause()
    spend(0.3)
    held = len(shown(path))
    spend(0.5)
    assert len(shown(path)) == held < 30
    handle.resume()
    state = handle.wait()
    assert state.result[out].result == list(range(60))
    assert len(shown(path)) == 60


@pytest.mark.parametrize("batch", [None, 3])
def test_f20_lower_limit_counts_what_was_submitted_and_has_not_begun(executor, tmp_path, batch):
    path = tmp_path / "notes"
    with Flow("limited") as graph:
        out = (limited := task(timed, batch_size=batch)).map(range(60), unmapped(path))
    handle = graph.start(executor=executor, history=False)
    until(lambda: shown(path))
    handle.set_limit(limited, 1)
    spend(0.3)
    lines = notes(path)
    state = handle.wait()
    assert state.result[out].result == list(range(60))
    rest = tmp_path / "rest"
    running = sum(1 if line == "+" else -1 for line in lines)
    rest.write_text("\n".join(["+"] * running + notes(path)[len(lines) :]) + "\n")
    assert most_at_once(rest) == 1
    assert len(lines) < 100
