"""Processes that die while they combine results of a map, or yield the items of one: with real processes.

Tests carry the number of their row in the fault matrix.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager

import dask
import pytest
from distributed import Client, LocalCluster
from real import meanwhile, note, notes, until, wait_for_file
from spellings import SPELLINGS, Spelled

from prefectish import history, reduce, task
from prefectish.executors import DaskExecutor, LocalDaskExecutor

pytestmark = [pytest.mark.time_limit(180), pytest.mark.fault]


@pytest.fixture(autouse=True)
def few_deaths():
    """Have a task of a cluster blamed after its second death, so that tests take half the time."""
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        yield


@contextmanager
def executors(kind):
    """Yield an executor of two processes of one thread, which may die."""
    if kind == "processes":
        yield LocalDaskExecutor("processes", num_workers=2)
        return
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**options) as cluster, Client(cluster, set_as_default=False) as client:
        yield DaskExecutor(client=client)


@pytest.fixture(params=["processes", "dask"])
def kind(request):
    return request.param


@pytest.fixture(params=SPELLINGS)
def spelled(request, kind):
    with executors(kind) as executor:
        yield Spelled(request.param, executor)


def end_process():
    os.kill(os.getpid(), signal.SIGKILL)


def begun(path):
    """Return how often each body began; its note begins with what it was given."""
    return Counter(line.partition(":")[0] for line in notes(path))


# ---------------------------------------------------------------------- reductions


def sums(tmp_path, spelled, deadly):
    """Sum eight numbers two by two, where `deadly` is called with what a combine is given."""
    leaves, combines = tmp_path / "leaves", tmp_path / "combines"

    @task
    def leaf(x):
        note(leaves, f"{x}:")
        return x

    @task
    def added(values):
        note(combines, f"{values}:")
        deadly(values)
        return sum(values)

    def program():
        children = leaf.map(range(8))
        return {"children": children, "sum": reduce(added, children, fan_in=2)}

    return *spelled.run(program), begun(leaves), begun(combines)


def test_w29_combine_whose_process_dies_runs_again_and_what_it_reads_does_not(tmp_path, spelled):
    died = tmp_path / "died"

    def once(values):
        if values == [4, 5] and not died.exists():
            died.touch()
            end_process()

    state, states, leaves, combines = sums(tmp_path, spelled, once)
    assert state.is_successful(), state
    assert states["sum"].result == 28
    assert leaves["4"] == leaves["5"] == 1
    assert max(leaves.values()) <= 2, "others may have run there, and not been told of"
    assert combines.pop("[4, 5]") == 2
    assert max(combines.values()) <= 2
    assert set(combines) == {"[0, 1]", "[2, 3]", "[6, 7]", "[1, 5]", "[9, 13]", "[6, 22]"}


def test_w29_combine_that_always_kills_its_process_crashes_and_others_end(tmp_path, spelled):
    def always(values):
        if values == [4, 5]:
            end_process()

    state, states, leaves, combines = sums(tmp_path, spelled, always)
    assert states["children"].result == list(range(8))
    assert states["sum"].is_failed()
    assert combines["[4, 5]"] <= 4
    assert combines["[1, 5]"] >= 1, "the other half is there"
    assert max(leaves.values()) <= 2
    assert spelled.in_function or state.exit_code == 3


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_w29_results_that_are_lost_before_they_are_combined_are_made_again(tmp_path, spelling):
    """The one combine that runs holds its worker; the other worker, which has others of the map, is killed."""
    path, gate = tmp_path / "leaves", tmp_path / "gate"

    @task
    def leaf(x):
        note(path, f"{x}: {os.getpid()}")
        return bytes([x]) * 300_000

    @task
    def joined(values):
        firsts = [value[0] for value in values]
        if firsts == [0, 1]:
            note(tmp_path / "combines", os.getpid())
            wait_for_file(gate)
        return b"".join(value[:1] if len(value) == 300_000 else value for value in values)

    def kill():
        combiner = int(until(lambda: notes(tmp_path / "combines"))[0])
        made = lambda: [pid for pid in (int(line.split()[-1]) for line in notes(path)) if pid != combiner]  # noqa: E731
        until(lambda: len(made()) >= 2)  # how many more run there and not at the other one depends on the machine
        other = made()[0]
        os.kill(other, signal.SIGKILL)
        until(lambda: not os.path.exists(f"/proc/{other}"))
        gate.touch()

    with executors("dask") as executor, meanwhile(kill):
        program = lambda: {"all": reduce(joined, leaf.map(range(12)), fan_in=2)}  # noqa: E731
        state, states = Spelled(spelling, executor).run(program)
    assert state.is_successful(), state
    assert states["all"].result == bytes(range(12))
    assert max(begun(path).values()) <= 2


# ---------------------------------------------------------------------- generators


def test_w30_generator_whose_process_dies_begins_again_after_what_it_delivered(tmp_path, spelled):
    children, generators = tmp_path / "children", tmp_path / "generators"

    @task
    def items(n):
        note(generators, f"{n}:")
        for x in range(n):
            if x == 3 and len(notes(generators)) == 1:
                until(lambda: len(notes(children)) == 3)
                end_process()
            yield x

    @task
    def child(x):
        note(children, f"{x}:")
        return 10 * x

    def program():
        called = spelled.call(items, 6)
        return {"items": called, "mapped": child.map(called)}

    state, states = spelled.run(program)
    assert state.is_successful(), state
    assert states["items"].result == list(range(6))
    assert states["mapped"].result == [0, 10, 20, 30, 40, 50]
    assert len(notes(generators)) == 2
    assert begun(children) == dict.fromkeys("012345", 1)


def test_w30_generator_that_always_kills_its_process_crashes_and_its_items_have_children(tmp_path, spelled):
    children = tmp_path / "children"

    @task
    def items():
        yield 1
        yield 2
        until(lambda: len(notes(children)) >= 2)
        end_process()

    @task
    def child(x):
        note(children, f"{x}:")
        return 10 * x

    def program():
        called = spelled.call(items)
        return {"items": called, "mapped": child.map(called)}

    state, states = spelled.run(program)
    assert type(states["items"]).__name__ == "Crashed", states["items"]
    assert states["items"].message.startswith("worker died ")
    mapped = states["mapped"].map_states
    assert [type(each).__name__ for each in mapped] == ["Success", "Success", "TriggerFailed"]
    assert [each.result for each in mapped[:2]] == [10, 20]
    assert max(begun(children).values()) <= 2
    assert spelled.in_function or state.exit_code == 3


def test_w30_generator_that_runs_again_alone_still_feeds_its_map(tmp_path, spelled, kind):
    """It waits for the children of what it yields: had they to wait for its end, neither would come to one."""
    children, generators = tmp_path / "children", tmp_path / "generators"
    deaths = 1 if kind == "processes" else 2

    @task
    def items(n):
        note(generators, f"{n}:")
        for x in range(n):
            if x == 1 and len(notes(generators)) <= deaths:
                end_process()
            yield x
            until(lambda x=x: len(notes(children)) > x, 60)

    @task
    def child(x):
        note(children, f"{x}:")
        return 10 * x

    def program():
        called = spelled.call(items, 4)
        return {"items": called, "mapped": child.map(called)}

    state, states = spelled.run(program)
    assert state.is_successful(), states["items"]
    assert states["mapped"].result == [0, 10, 20, 30]
    assert len(notes(generators)) == deaths + 1


# ---------------------------------------------------------------------- the client


#: Is killed while a generator feeds a map, or resumes: ``CODE run|resume FOLDER EXECUTOR FRONT``.
FED = """
import os, sys, time
from pathlib import Path
from prefectish import Flow, flow, history, task
from prefectish.executors import DaskExecutor, LocalDaskExecutor
from prefectish.results import LocalResult

act, folder, kind, front = sys.argv[1:]
folder = Path(folder)


def note(name, text):
    with open(folder / name, "ab", buffering=0) as file:
        file.write(f"{text}\\n".encode())


@task
def items(n):
    note("generators", n)
    for x in range(n):
        if x == 6 and act == "run":
            note("waits", x)
            time.sleep(300)
        yield x


@task
def child(x):
    note("children", x)
    return 10 * x


executor = (
    LocalDaskExecutor("processes", num_workers=2)
    if kind == "processes"
    else DaskExecutor(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1})
)
options = {"executor": executor, "history": str(folder / "history.db")}
store = LocalResult(folder / "results")


@flow(name="fed", result=store)
def fed():
    return child.map(items.submit(10)).result()


if front == "function":
    if act == "run":
        fed.run(**options)
    else:
        print(fed.resume(history.runs(store=options["history"])[0].id, **options).result)
else:
    with Flow("fed", result=store) as graph:
        out = child.map(items(10))
    if act == "run":
        graph.run(**options)
    else:
        print(graph.resume(history.runs(store=options["history"])[0].id, **options).result[out].result)
"""


@pytest.mark.time_limit(300)
@pytest.mark.parametrize("front", ["graph", "function"])
def test_w30_client_that_is_killed_while_a_generator_runs_resumes_after_what_was_recorded(tmp_path, kind, front):
    script = tmp_path / "fed.py"
    script.write_text(FED)
    command = [sys.executable, str(script)]
    with subprocess.Popen([*command, "run", str(tmp_path), kind, front], start_new_session=True) as process:
        fed = lambda: notes(tmp_path / "waits") and len(notes(tmp_path / "children")) == 6  # noqa: E731
        try:
            until(lambda: fed() or process.poll() is not None, 90)
            assert fed(), "it has ended by itself"
            (run,) = history.runs(store=str(tmp_path / "history.db"))
            until(lambda: any(facts["slug"] == "child-1" for facts in run.tasks()), 60)  # a function has just called it
            until(lambda: len(run.children("child-1", "Success")) == 6, 60)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    done = subprocess.run(
        [*command, "resume", str(tmp_path), kind, front], capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == str([10 * x for x in range(10)])
    assert len(notes(tmp_path / "generators")) == 2
    assert begun(tmp_path / "children") == dict.fromkeys("0123456789", 1), "what was recorded has run again"
