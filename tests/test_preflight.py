"""What a client asks the processes of a cluster before a run: each of them once, as long as it lives."""

from __future__ import annotations

import pytest
from distributed import Client

from prefectish.executors import preflight
from prefectish.executors.connect import connect


@pytest.fixture
def client(dask_client):
    with Client(dask_client.scheduler.address, set_as_default=False) as own:
        yield own


@pytest.fixture
def asked(monkeypatch):
    """Note which workers are asked, and which answers are compared."""
    noted = []
    real, compare = preflight._ask_workers, preflight.compare
    monkeypatch.setattr(preflight, "_ask_workers", lambda *given: noted.append(given[1]) or real(*given))
    monkeypatch.setattr(
        preflight, "compare", lambda answers, *own: noted.append(set(answers)) or compare(answers, *own)
    )
    return noted


def test_only_workers_that_joined_since_are_asked_again_and_all_answers_are_compared(client, asked):
    workers = [*client.scheduler_info(n_workers=-1)["workers"]]
    places = {f"scheduler {client.scheduler.address}", *(f"worker {address}" for address in workers)}
    assert preflight.preflight(client).threads == sum(client.nthreads().values())
    assert preflight.preflight(client).workers.keys() == set(workers)
    assert asked == [workers, places, places]
    del asked[:]
    known = preflight._known[client]
    del known.versions[known.presence.workers[workers[0]]]  # as if it had joined just now
    preflight.preflight(client)
    assert asked == [workers[:1], places]


def test_scheduler_that_took_the_place_of_another_one_is_asked_with_all_its_workers(client, asked):
    preflight.preflight(client)
    del asked[:]
    known = preflight._known[client]
    known.versions = {"a scheduler that has ended": known.versions[known.presence.scheduler]}
    preflight.preflight(client)
    assert asked[0] == [*client.scheduler_info(n_workers=-1)["workers"]]


def test_nothing_is_remembered_where_the_scheduler_runs_no_functions(client, asked, monkeypatch):
    def refuse(*args):
        raise ValueError("Cannot run function as the scheduler has been explicitly disallowed from it")

    monkeypatch.setattr(client, "run_on_scheduler", refuse)
    workers = {f"worker {address}" for address in client.scheduler_info(n_workers=-1)["workers"]}
    assert [preflight.preflight(client) for _ in range(2)] == [None, None]
    assert asked == [None, workers, None, workers]


def test_plugins_that_are_there_are_not_sent_again(client):
    with connect(client=client) as connection:
        assert connection.presence.scheduler == client.sync(client.scheduler.identity, n_workers=0)["id"]
        assert connection.maximum_threads() == connection.total_threads()


def test_run_of_another_thread_that_begins_meanwhile_takes_no_answers_away(client, monkeypatch):
    real = preflight._ask_workers

    def ask(*given):
        monkeypatch.setattr(preflight, "_ask_workers", real)
        preflight._known[client].versions = {}  # as the other one does where it finds another scheduler, or none
        return real(*given)

    monkeypatch.setattr(preflight, "_ask_workers", ask)
    assert preflight.preflight(client).workers.keys() == client.scheduler_info(n_workers=-1)["workers"].keys()
