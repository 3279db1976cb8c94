"""A body that runs a flow on the cluster that it runs on: it must not keep the place that the flow needs."""

from __future__ import annotations

import pytest
from bodies import inc
from distributed import Client, LocalCluster
from real import meanwhile

from prefectish import Flow, flow, task, unmapped
from prefectish.executors import DaskExecutor

LIMIT = 60.0


@pytest.fixture(scope="module")
def narrow():
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@task
def runs_a_function(x, address):
    @flow(history=False, executor=DaskExecutor(address))
    def inner():
        return inc.map([x, inc.submit(x)]).result()

    return inner()


@task
def runs_a_graph(x, address):
    with Flow("inner") as inner:
        out = inc.map([x, inc(x)])
    return inner.run(history=False, executor=DaskExecutor(address)).result[out].result


@pytest.mark.time_limit(LIMIT)
@pytest.mark.parametrize("body", [runs_a_function, runs_a_graph])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_body_gives_its_place_to_the_flow_that_it_waits_for(narrow, body, batch_size):
    address, mapped = narrow.scheduler.address, body.copy(batch_size=batch_size)

    @flow(history=False, executor=DaskExecutor(client=narrow))
    def outer():
        return mapped.map([1, 2, 3], unmapped(address)).result()

    with Flow("outer") as graph:
        out = mapped.map([1, 2, 3], unmapped(address))
    assert outer() == [[2, 3], [3, 4], [4, 5]]
    assert graph.run(history=False, executor=DaskExecutor(client=narrow)).result[out].result == [[2, 3], [3, 4], [4, 5]]


@pytest.mark.time_limit(LIMIT)
def test_two_flows_beside_one_another_do_not_wait_for_each_other(narrow):
    @flow(history=False, executor=DaskExecutor(client=narrow))
    def outer():
        return runs_a_function.map([1, 2], unmapped(narrow.scheduler.address)).result()

    with meanwhile(outer) as first:
        second = outer()
    assert second == first[0][0] == [[2, 3], [3, 4]]
