"""The ways in which Dask's users name a scheduler, ask for a cluster, and hand on what lives on one."""

from __future__ import annotations

import json
import logging

import dask
import pytest
from distributed import Client, get_client, worker_client
from real import until

from prefectish import Flow, flow, task
from prefectish.errors import FlowDefinitionError, SchedulerLost
from prefectish.executors import DaskExecutor
from prefectish.executors.addresses import address_in, check_size, configured_address, split_client_kwargs

LIMIT = 60


@pytest.fixture(scope="module")
def address(dask_client):
    return dask_client.scheduler.address


@task
def where(i):
    from distributed import get_worker

    return get_worker().scheduler.address


def places(executor, **options):
    with Flow("where") as made:
        found = where.map([1, 2])
    state = made.run(executor=executor, history=False, **options)
    return set(state.result[found].result)


def test_arguments_of_the_executor_are_taken_out_of_those_of_the_client():
    own, rest = split_client_kwargs({"security": 1, "timeout": 3, "scheduler_file": "f"})
    assert (own, rest) == ({"security": 1, "scheduler_file": "f"}, {"timeout": 3})


@pytest.mark.parametrize("spelled", ["argument", "client_kwargs", "path"])
def test_scheduler_file_names_the_scheduler(address, tmp_path, spelled):
    path = tmp_path / "scheduler.json"
    path.write_text(json.dumps({"address": address}))
    options = {
        "argument": {"scheduler_file": str(path)},
        "client_kwargs": {"client_kwargs": {"scheduler_file": str(path)}},
        "path": {"scheduler_file": path},
    }
    assert places(DaskExecutor(**options[spelled])) == {address}


def test_scheduler_file_that_does_not_come_or_is_none(tmp_path):
    with pytest.raises(SchedulerLost, match=r"no scheduler file '.*/none.json' after 0.2 s"):
        address_in(tmp_path / "none.json", 0.2)
    (tmp_path / "odd.json").write_text("[1]")
    with pytest.raises(FlowDefinitionError, match="scheduler_file must be one that `dask scheduler"):
        address_in(tmp_path / "odd.json", 0.2)


@pytest.mark.parametrize("spelled", ["config", "environment"])
def test_scheduler_of_dasks_configuration_is_used_and_said(address, monkeypatch, caplog, spelled):
    caplog.set_level(logging.INFO, "prefectish")
    if spelled == "environment":
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
        assert places(DaskExecutor()) == {address}
    else:
        with dask.config.set({"scheduler-address": address}):
            assert places(DaskExecutor()) == {address}
    said = [r.getMessage() for r in caplog.records if "which Dask's configuration names" in r.getMessage()]
    assert len(said) == 1
    assert address in said[0]


def test_without_a_configured_scheduler_there_is_none():
    assert configured_address() is None


def test_cluster_of_a_size_is_started_whatever_is_configured(monkeypatch, address):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    executor = DaskExecutor(n_workers=2, threads_per_worker=1)

    @task
    def threads(i):
        with worker_client() as client:
            return sum(client.nthreads().values())

    with Flow("size") as made:
        found = threads.map([1])
    assert made.run(executor=executor, history=False).result[found].result == [2]


@pytest.mark.parametrize("named", ["address", "client", "scheduler_file"])
@pytest.mark.parametrize("size", [{"n_workers": 4}, {"threads_per_worker": 2}, {"memory_limit": "1GB"}])
def test_size_beside_a_cluster_that_runs_is_refused(named, size):
    with pytest.raises(TypeError, match=rf"{next(iter(size))}=.* has no meaning with {named}=..., which"):
        DaskExecutor(**{named: "tcp://127.0.0.1:1"}, **size)


def test_size_alone_is_in_order():
    check_size({"n_workers": 4}, {"address": None, "client": None, "scheduler_file": None})
    assert DaskExecutor(n_workers=4).cluster_kwargs == {"n_workers": 4}
    assert DaskExecutor(n_workers=4, cluster_kwargs={"host": "127.0.0.1"}).cluster_kwargs["host"] == "127.0.0.1"


def test_only_one_cluster_may_be_named():
    with pytest.raises(ValueError, match="only one of address, client, scheduler_file and cluster_class"):
        DaskExecutor("tcp://127.0.0.1:1", scheduler_file="a.json")


def test_dashboard_that_is_asked_for_is_said_and_in_the_repr(caplog):
    pytest.importorskip("bokeh")
    caplog.set_level(logging.INFO, "prefectish")
    made = Flow("shown", tasks=[task(lambda: until(lambda: True, LIMIT), name="one")])
    run = made.start(executor=DaskExecutor(n_workers=1, dashboard=True), history=False)
    until(lambda: run.dashboard_link or run.state.is_finished(), LIMIT)
    shown = repr(run)
    run.wait(LIMIT)
    said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("dashboard: http://127.0.0.1:")]
    assert len(said) == 1
    assert "dashboard http://127.0.0.1:" in shown or run.state.is_finished()


def future():
    return get_client().submit(lambda: 1, pure=False)


def nested():
    return {"a": [future()]}


def persisted():
    import dask.bag

    return get_client().persist(dask.bag.from_sequence([1, 2]))


def lazy():
    import dask.bag

    return dask.bag.from_sequence([1, 2])


@task
def read(value):
    return "read"


@pytest.mark.parametrize("in_function", [False, True], ids=["graph", "function"])
@pytest.mark.parametrize("make", [future, nested, persisted])
def test_p17_result_that_holds_live_futures_is_refused_at_its_producer(dask_client, make, in_function):
    executor = DaskExecutor(client=dask_client)
    body = task(lambda i: make() if i == 1 else i, name="body")
    if in_function:
        found = {}

        @flow
        def made():
            mapped = body.map([0, 1, 2])
            mapped.wait()
            found["states"] = mapped.state.map_states

        made.run(executor=executor, history=False)
        states = found["states"]
    else:
        with Flow("live") as graph:
            mapped = body.map([0, 1, 2])
        states = graph.run(executor=executor, history=False).result[mapped].map_states
    assert [type(state).__name__ for state in states] == ["Success", "Failed", "Success"]
    assert "ends with the body that made it; return " in states[1].message


def test_lazy_collection_is_a_result_like_others(dask):
    with Flow("lazy") as made:
        found = read(task(lazy, name="lazy")())
    assert made.run(executor=dask, history=False).result[found].result == "read"


def test_client_that_was_given_is_used(dask_client):
    assert isinstance(dask_client, Client)
    assert places(DaskExecutor(client=dask_client)) == {dask_client.scheduler.address}
