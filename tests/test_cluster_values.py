"""Values that break where they are packed or opened: the child fails, the cluster stays, nothing hangs.

Alone, Dask loses workers, and in one case the whole cluster, over each of these.
"""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
from distributed import Client, LocalCluster
from real import kinds, note, notes

from prefectish import Flow, task, triggers, unmapped
from prefectish.engine.state import Failed, Success, TriggerFailed
from prefectish.errors import FlowDefinitionError, RemoteError, ResultUnpickleError
from prefectish.executors import DaskExecutor

pytestmark = pytest.mark.time_limit(60)


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as made:
        yield made


@pytest.fixture
def client(cluster):
    """A client; the workers must be the same processes after the test as before."""
    with Client(cluster, set_as_default=False) as made:
        before = made.run(os.getpid)
        assert len(before) == 2
        yield made
        assert made.run(os.getpid) == before, "a worker was lost"


@pytest.fixture
def dask(client):
    return DaskExecutor(client=client)


def workers_of(client):
    return list(client.scheduler_info()["workers"])


class NoWayOut:
    """Cannot be pickled."""

    def __reduce__(self):
        raise TypeError("stays here")


def explode(*args):
    raise ImportError("no module of that name")


class NoWayIn:
    """Can be pickled, and loaded nowhere."""

    def __reduce__(self):
        return explode, ()


def refuse_on_worker(test_pid):
    if os.getpid() != test_pid:
        raise ModuleNotFoundError("not on this machine")
    return Foreign()


class Foreign:
    """Can be loaded in the process of the test only."""

    def __reduce__(self):
        return refuse_on_worker, (os.getpid(),)


@task(trigger=triggers.all_finished)
def name_of(x):
    return type(x).__name__


@task
def give(x):
    return 1 if isinstance(x, int) else type(x).__name__


# ---------------------------------------------------------------------- results


@pytest.mark.parametrize(
    ("make", "text"),
    [(threading.Lock, "cannot pickle '_thread.lock' object"), (lambda: (i for i in "ab"), "cannot pickle 'generator'")],
    ids=["lock", "generator"],
)
@pytest.mark.parametrize("batch", [None, 3])
def test_p1_result_that_cannot_be_pickled_fails_its_child(dask, client, make, text, batch):
    first, second = workers_of(client)

    @task(batch_size=batch, workers=first)
    def produce(x):
        return make() if x == 1 else x

    @task(batch_size=batch, workers=second)
    def consume(x):
        return x

    with Flow("p1") as flow:
        made = produce.map(range(4))
        used = consume.map(made)
    state = flow.run(executor=dask)
    failed = state.result[made].map_states[1]
    assert type(failed) is Failed
    assert failed.message.startswith(f"result of produce-1[1] could not be pickled: TypeError: {text}")
    assert kinds(state.result[made]) == {"Success": 3, "Failed": 1}
    assert kinds(state.result[used]) == {"Success": 3, "TriggerFailed": 1}
    assert state.exit_code == 1


@pytest.mark.parametrize("verify", [False, True])
def test_p2_result_that_cannot_be_loaded_fails_who_reads_it(client, verify):
    first, second = workers_of(client)

    @task(workers=first)
    def produce(x):
        return NoWayIn() if x == 1 else x

    @task(workers=second)
    def consume(x):
        return x

    with Flow("p2") as flow:
        made = produce.map(range(4))
        used = consume.map(made)
    flow.set_reference_tasks([made])
    state = flow.run(executor=DaskExecutor(client=client, verify_results=verify))
    produced, consumed = state.result[made].map_states[1], state.result[used].map_states[1]
    if verify:
        assert type(produced) is Failed
        assert produced.message == ("result of produce-1[1] could not be pickled: ImportError: no module of that name")
        assert type(consumed) is TriggerFailed
    else:
        assert type(produced) is Success
        with pytest.raises(ResultUnpickleError, match=r"produce-1\[1\]"):
            produced.result  # noqa: B018
        assert type(consumed) is Failed
        assert "upstream produce-1[1] could not be unpickled on the worker: ImportError" in consumed.message
    assert kinds(state.result[used])["Success"] == 3


# ---------------------------------------------------------------------- arguments


def test_p3_argument_that_cannot_be_pickled_fails_its_child(dask, tmp_path):
    path = tmp_path / "notes"

    @task
    def use(x):
        note(path, x)
        return 1

    with Flow("p3") as flow:
        children = use.map([1, NoWayOut(), 3])
    state = flow.run(executor=dask)
    assert [type(s) for s in state.result[children].map_states] == [Success, Failed, Success]
    assert state.result[children].map_states[1].message == (
        "argument 'x' of use-1[1] could not be pickled: TypeError: stays here"
    )
    assert sorted(notes(path)) == ["1", "3"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(NoWayIn(), "ImportError: no module of that name"), (Foreign(), "ModuleNotFoundError: not on this machine")],
    ids=["p4-nowhere", "p5-on-workers"],
)
def test_argument_that_cannot_be_loaded_fails_its_child(dask, value, text):
    with Flow("p4 p5") as flow:
        children = give.map([1, value, *range(8)])
        seen = name_of.map(children)
    state = flow.run(executor=dask)
    failed = state.result[children].map_states[1]
    assert type(failed) is Failed
    assert f"could not be unpickled on the worker: {text}" in failed.message
    assert kinds(state.result[children]) == {"Success": 9, "Failed": 1}
    assert kinds(state.result[seen]) == {"Success": 10}


@pytest.mark.parametrize("value", [NoWayIn(), Foreign()], ids=["nowhere", "on-workers"])
def test_constant_that_cannot_be_loaded_fails_all_children_and_no_worker(dask, value):
    @task
    def use(x, y):
        return x

    with Flow("constant") as flow:
        children = use.map(range(5), y=unmapped(value))
        others = give.map(range(5))
    state = flow.run(executor=dask)
    assert kinds(state.result[children]) == {"Failed": 5}
    assert "could not be unpickled" in state.result[children].map_states[3].message
    assert kinds(state.result[others]) == {"Success": 5}


@pytest.mark.fault
def test_p6_argument_whose_loading_kills_the_process_crashes_its_child(tmp_path):
    import dask as dask_package

    class Killer:
        def __reduce__(self):
            return os._exit, (3,)

    with Flow("p6") as flow:
        children = give.map([1, Killer(), 3, 4])
    with dask_package.config.set({"distributed.scheduler.allowed-failures": 1}):
        state = flow.run(executor=DaskExecutor(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}))
    assert kinds(state.result[children]) == {"Success": 3, "Crashed": 1}
    assert state.result[children].map_states[1].cause == "killed-worker"


def test_p8_body_that_cannot_be_pickled_is_refused_by_name(dask, tmp_path):
    path = tmp_path / "notes"
    lock = threading.Lock()

    @task
    def fine(x):
        note(path, x)
        return x

    @task
    def closes_over(x):
        with lock:
            return x

    with Flow("p8") as flow:
        closes_over.map(fine.map(range(3)))
    with pytest.raises(FlowDefinitionError, match=r"^task closes_over-1 cannot be pickled") as caught:
        flow.run(executor=dask)
    assert caught.value.exit_code == 2
    assert notes(path) == []


# ---------------------------------------------------------------------- exceptions and exits


class TwoArguments(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


class WithLock(Exception):
    def __init__(self):
        super().__init__("has a lock")
        self.lock = threading.Lock()


def raiser(error):
    def body(x):
        if x == 1:
            raise error()
        return x

    return body


def test_p7_exception_that_cannot_travel_is_reported_in_words(dask):
    with Flow("p7") as flow:
        locked = task(raiser(WithLock), name="locked").map(range(3))
        double = task(raiser(lambda: TwoArguments(1, 2)), name="double").map(range(3))
    state = flow.run(executor=dask)
    result = state.result[locked].map_states[1].result
    assert type(result) is RemoteError
    assert (result.type_name, result.message) == ("WithLock", "has a lock")
    assert "in body" in result.traceback
    assert type(state.result[double].map_states[1].result).__name__ in ("TwoArguments", "RemoteError")
    assert "1 and 2" in state.result[double].map_states[1].message


@pytest.mark.parametrize(
    "error",
    [
        lambda: SystemExit(3), KeyboardInterrupt, GeneratorExit, StopIteration, asyncio.CancelledError, MemoryError,
        lambda: TwoArguments("x", "z" * 50_000_000),
    ],
    ids=["e8-exit", "e8-interrupt", "e9-generator", "e9-stop", "e9-cancelled", "e9-memory", "u7-large"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_exception_that_would_kill_a_worker_is_the_child_s_failure(dask, tmp_path, error, kind):
    path = tmp_path / "notes"

    def body(x):
        note(path, x)
        if x == 1:
            raise error()
        return x

    async def async_body(x):
        await asyncio.sleep(0)
        return body(x)

    with Flow("escapes") as flow:
        children = task(body if kind == "sync" else async_body, name="body").map(range(8))
        seen = name_of.map(children)
    state = flow.run(executor=dask)
    assert kinds(state.result[children]) == {"Success": 7, "Failed": 1}
    failed = state.result[children].map_states[1]
    assert len(failed.message) < 11_000
    assert failed.message.startswith("Error during execution of task: ")
    assert kinds(state.result[seen]) == {"Success": 8}
    assert sorted(notes(path)) == [str(x) for x in range(8)], "a sibling ran twice"


def test_e9_endless_recursion_is_the_child_s_failure(dask):
    @task
    def deep(x):
        return deep.run(x) if x == 1 else x

    with Flow("deep") as flow:
        children = deep.map(range(4))
    state = flow.run(executor=dask)
    assert kinds(state.result[children]) == {"Success": 3, "Failed": 1}
    assert "RecursionError" in state.result[children].map_states[1].message


# ---------------------------------------------------------------------- processes of bodies


def squares(x):
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.map(abs, [-x])


def test_body_that_starts_processes_needs_one_of_its_own(dask):
    """Workers of a nanny may have no children; what to write stands on the page about executors."""
    with Flow("processes") as flow:
        refused = task(squares)(1)
        isolated = task(squares, isolation="process", name="isolated")(2)
    state = flow.run(executor=dask, history=False)
    assert "daemonic processes are not allowed to have children" in state.result[refused].message
    assert state.result[isolated].result == [2]
