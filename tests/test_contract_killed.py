"""A client that is killed: what its children stored does not run again (F16)."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import killed_flow
import pytest
from real import until

pytestmark = [pytest.mark.fault, pytest.mark.time_limit(240)]
PROGRAM = str(Path(killed_flow.__file__))
#: Bodies that may be under way when the client is killed.
UNDER_WAY = 8


@pytest.mark.parametrize("front", ["graph", "calls", "graph named", "calls named"])
@pytest.mark.parametrize("executor", ["local", "threads", "processes", "dask"])
def test_c11_f16_nothing_that_was_stored_runs_again(tmp_path: Path, executor: str, front: str) -> None:
    log = tmp_path / "log"
    command = [sys.executable, PROGRAM, "run", str(tmp_path), executor, front]
    client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: log.exists() and len(log.read_text().splitlines()) >= killed_flow.COUNT // 3, limit=120)
    finally:
        client.kill()
        client.wait()
    command[2] = "resume"
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.split()[-1:] == [str(sum(range(killed_flow.COUNT)))], done.stderr[-2000:]
    begun = Counter(log.read_text().splitlines())
    assert len(begun) == killed_flow.COUNT
    again = sum(begun.values()) - killed_flow.COUNT
    assert again <= UNDER_WAY
