"""Workers whose disk is full, so that they cannot spill, are what is to blame when they die of their memory."""

from __future__ import annotations

import logging
import os
import subprocess
from contextlib import contextmanager

import dask
import pytest
from distributed import Client, LocalCluster
from real import kinds

from prefectish import Flow, task
from prefectish.executors import DaskExecutor

pytestmark = [pytest.mark.time_limit(280), pytest.mark.fault]


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
