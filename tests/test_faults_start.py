"""What is found before a run starts on a cluster, and what a cluster of ours is like: rows P9, P12, X3."""

from __future__ import annotations

import os
import pickle
import urllib.error
import urllib.request

import psutil
import pytest
from real import note, notes

from prefectish import Flow, task
from prefectish.errors import EnvironmentMismatch
from prefectish.executors import DaskExecutor, preflight
from prefectish.executors.session import ClusterSession


def noting(path):
    with Flow("noting") as flow:
        task(lambda: note(path, "ran"), name="work")()
    return flow


def test_p12_other_minor_version_of_python_on_a_worker_is_refused(dask_client, monkeypatch, tmp_path):
    real = preflight._ask

    def ask(client, looking):
        answers = real(client, looking)
        place = next(place for place in answers if place.startswith("worker "))
        return {**answers, place: ((3, 99), answers[place][1])}

    monkeypatch.setattr(preflight, "_ask", ask)
    with pytest.raises(EnvironmentMismatch, match=r"another minor version on worker tcp://.* \(3\.99\)") as caught:
        noting(tmp_path / "notes").run(executor=DaskExecutor(client=dask_client), history=False)
    assert caught.value.exit_code == 3
    assert not notes(tmp_path / "notes")


def test_p12_other_version_of_prefectish_is_warned_of(dask_client, monkeypatch, tmp_path):
    real = preflight._ask
    monkeypatch.setattr(preflight, "_ask", lambda *given: {p: (v, "0.0.0") for p, (v, _) in real(*given).items()})
    with pytest.warns(UserWarning, match=r"prefectish is .* here and another version on .* \(0\.0\.0\)"):
        state = noting(tmp_path / "notes").run(executor=DaskExecutor(client=dask_client), history=False)
    assert state.is_successful()
    assert notes(tmp_path / "notes") == ["ran"]


def below(pid):
    return psutil.Process(pid).children(recursive=True)


def test_x3_temporary_cluster_listens_on_loopback_and_has_no_dashboard():
    before = {process.pid for process in below(os.getpid())}

    with Flow("x3") as flow:
        task(lambda: 1, name="one")()
    with DaskExecutor(cluster_kwargs={"n_workers": 1}).start(*_plan(flow)) as session:
        info = session.client.scheduler_info()
        addresses = [info["address"], *info["workers"]]
        processes = [process for process in below(os.getpid()) if process.pid not in before]
        ends = {c.laddr.ip for p in processes for c in p.net_connections() if c.status == psutil.CONN_LISTEN}
        ports = session.client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.service_ports.values()))
        pages = [_status(f"http://127.0.0.1:{port}/status") for port in ports]
    assert all(address.startswith("tcp://127.0.0.1:") for address in addresses)
    assert ends == {"127.0.0.1"}
    assert pages == [404]


def _status(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            return page.status
    except urllib.error.HTTPError as error:
        return error.status


def _plan(flow):
    from prefectish.engine.plan.compile import compile_flow

    return compile_flow(flow, {}), {"flow_run_id": "x3"}


@pytest.mark.fault
def test_p9_result_of_200_mb_stays_where_it_is(monkeypatch):
    sizes = []
    take = ClusterSession._take

    def spy(session, key, value):
        sizes.append(len(pickle.dumps(value)))
        take(session, key, value)

    monkeypatch.setattr(ClusterSession, "_take", spy)

    @task
    def make(n):
        return os.urandom(1 << 20) * 200

    @task
    def measure(data):
        return len(data)

    with Flow("p9") as flow:
        made = make.map(range(2))
        measured = measure.map(made)
        longest = measure.copy(name="single")(made)
    before = psutil.Process().memory_info().rss
    options = {"n_workers": 1, "threads_per_worker": 1, "memory_limit": 0}
    state = flow.run(executor=DaskExecutor(cluster_kwargs=options), history=False, keep_results=False)
    assert state.is_successful()
    assert state.result[measured].result == [200 << 20] * 2
    assert state.result[longest].result == 2
    assert sizes
    assert max(sizes) < 10_000
    assert psutil.Process().memory_info().rss - before < 50_000_000
