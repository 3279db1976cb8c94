"""Workers whose disk is full, so that they cannot spill, are what is to blame when they die of their memory."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import subprocess
from contextlib import contextmanager

import dask
import pytest
from distributed import Client, LocalCluster, Status
from distributed.spill import SpillBuffer
from real import kinds

from prefectish import Flow, task
from prefectish.executors import DaskExecutor, spilling
from prefectish.executors.spilling import tell_of

SPILL_LOG = logging.getLogger("distributed.spill")


class Worker:
    """A worker with a real buffer, whose folder is gone."""

    def __init__(self, address, folder, told):
        self.address, self.status, self.told = address, Status.running, told
        self.data = SpillBuffer(str(folder), target=100)
        shutil.rmtree(folder)

    def log_event(self, topic, message):
        if self.told is None:
            raise OSError("the connection is closed")
        self.told.append((topic, message["worker"]))

    def spill(self):
        for name in ("one", "two"):
            self.data[name] = b"x" * 90
        return sorted(self.data)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Return a function that makes workers which cannot spill."""

    def make_workers(told, *names):
        monkeypatch.setattr(SPILL_LOG, "handlers", [])  # those of pytest keep the lines, and by them the workers
        monkeypatch.setattr(SPILL_LOG, "propagate", False)
        monkeypatch.setattr(spilling, "_teller", spilling._Teller())  # without workers of earlier tests
        for limit in SPILL_LOG.filters:  # to a line in ten seconds
            monkeypatch.setattr(limit, "filter", lambda record: True)
        workers = [Worker(name, tmp_path / name, told) for name in names]
        for worker in workers:
            tell_of(worker)
            tell_of(worker)
        return workers

    return make_workers


def test_worker_that_cannot_spill_names_itself_and_no_other_of_its_process(make):
    told = []
    _, second = make(told, "first", "second")
    assert second.spill() == ["one", "two"]
    assert told == [("prefectish-spilling", "second")] * len(told) != []


def test_workers_that_are_closed_or_gone_are_not_kept_and_tell_nothing(make):
    told = []
    workers = make(told, "first", "second", "third")
    assert len(SPILL_LOG.handlers) == 1
    workers[0].status = Status.closed
    workers[0].spill()
    assert told == []
    workers.clear()
    gc.collect()
    assert SPILL_LOG.handlers == []


def test_what_goes_wrong_while_a_worker_tells_does_not_reach_its_spilling(make, capsys):
    (worker,) = make(None, "alone")
    assert worker.spill() == ["one", "two"]
    assert "the connection is closed" in capsys.readouterr().err


@contextmanager
def small_disk(folder, size):
    """Mount a small disk, or skip the test."""
    if getattr(os, "geteuid", lambda: 1)() != 0:
        pytest.skip("a small disk can be mounted by root only")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("this system mounts no tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


@pytest.mark.time_limit(280)
@pytest.mark.fault
def test_w31_full_disk_of_a_worker_is_named_and_no_child_is_blamed(tmp_path, caplog):
    """Results of 640 MB on a worker of 400 MB, which can spill 30 of them."""

    @task
    def big(x):
        return bytes([x]) * 40_000_000

    folder = tmp_path / "disk"
    folder.mkdir()
    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.memory.pause": False,
        "distributed.deploy.lost-worker-timeout": "5 minutes",
    }
    options = {"n_workers": 1, "threads_per_worker": 1, "memory_limit": "400MB", "dashboard_address": "127.0.0.1:0"}
    with (
        small_disk(folder, "30m"),
        dask.config.set(settings),
        LocalCluster(**options, local_directory=str(folder)) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        with Flow("full") as flow:
            out = big.map(range(16))
        state = flow.run(executor=DaskExecutor(client=client), history=False)
        mapped = state.result[out]
        assert set(kinds(mapped)) <= {"Success", "Crashed"}
        lost = [child for child in mapped.map_states if child.is_failed()]
    assert lost, "there was room for all"
    assert {child.cause for child in lost} == {"cluster-error"}
    for child in lost:
        assert "ran out of memory, because it could not spill results to its disk: [Errno 28]" in child.message
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any("cannot spill results to its disk, and keeps them in its memory: [Errno 28]" in w for w in warnings)
    assert state.exit_code == 3
