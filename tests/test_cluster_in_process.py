"""A cluster whose scheduler and workers are in this process: `Client(processes=False)`, as in a notebook."""

from __future__ import annotations

from typing import Any

import pytest
from distributed import Client, LocalCluster

from prefectish import Flow, flow, task
from prefectish.executors import DaskExecutor, worker_guard
from prefectish.results import LocalResult


@task(name="inc")
def inc(x: int) -> int:
    if x == 9:
        raise ValueError("nine")
    return x + 1


@pytest.mark.parametrize("front", ["graph", "function"])
def test_each_run_of_one_client_reads_its_values(front: str) -> None:
    @flow(history=False)
    def function() -> Any:
        return inc.map(inc.map([1, 2, 3])).result()

    with Flow("runs") as graph:
        out = inc.map(inc.map([1, 2, 3]))
    with Flow("fails") as broken:
        failed = inc.map([1, 9])
    options: dict[str, Any] = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        executor = DaskExecutor(client=client)
        for _ in range(4):  # a client's first run asks for its values in another way than those after it
            if front == "graph":
                found = graph.run(executor=executor, history=False).result[out].result
            else:
                found = function.run(executor=executor).result
            assert found == [3, 4, 5]
            states = broken.run(executor=executor, history=False).result[failed].map_states
            assert [type(state).__name__ for state in states] == ["Success", "Failed"]


def test_worker_forgets_the_marks_of_runs_that_are_long_past(tmp_path: Any) -> None:
    store = LocalResult(tmp_path)
    most = worker_guard._seen.maxlen or 0
    for run in range(most + 5):
        worker_guard.leave_probe_here(store, "a", f"mark of {run}")
    assert len(worker_guard._seen) == most
    store.save("mark", None)
    assert worker_guard._sees(store, "mark")  # it looks again for one that it does not know
    assert "mark" in worker_guard._seen
    worker_guard._seen.clear()
