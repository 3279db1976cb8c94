"""One run, one client: who holds a run, when it may be taken over, and what becomes of who lost it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from real import note, notes, until

from prefectish import Flow, flow, history, task
from prefectish.errors import RunLocked, RunLost
from prefectish.history import holders
from prefectish.history.holders import Life, life_of, own_holder, shown, stands_still
from prefectish.process_tree import process_name

LIMIT = 60
HOST = process_name().rpartition(":")[0]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "history.db")


@pytest.fixture
def quick(monkeypatch):
    """Let a heartbeat stand still for less than a second before it counts as lost."""
    monkeypatch.setattr(holders, "STANDSTILL", 0.8)
    monkeypatch.setattr(holders, "LOOK_INTERVAL", 0.1)


@pytest.fixture
def other():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def holder_of(process):
    place = own_holder().partition("#")[2].rpartition(".")[0]
    return f"{HOST}:{process.pid}#{place}.{holders._start_of(process.pid)}"


def test_holder_is_shown_as_host_and_number():
    assert shown(own_holder()) == process_name()


def test_process_that_can_be_looked_up_is_alive_stopped_or_dead(other):
    name = holder_of(other)
    assert life_of(name, 0.0) is Life.ALIVE
    other.send_signal(signal.SIGSTOP)
    until(lambda: life_of(name, 0.0) is Life.UNKNOWN, LIMIT)
    other.kill()
    other.wait()
    assert life_of(name, time.time()) is Life.DEAD


def test_number_of_a_dead_process_that_another_got_holds_nothing(other):
    assert life_of(f"{holder_of(other)}9", time.time()) is Life.DEAD
    assert life_of(f"{HOST}:{other.pid}", time.time() - 3600) is Life.DEAD
    assert life_of(f"{HOST}:{other.pid}", time.time()) is Life.ALIVE


@pytest.mark.parametrize("name", ["elsewhere:1", f"{HOST}:1#otherboot.4026.17", f"{HOST}:1#.4026.17"])
def test_process_of_another_machine_or_namespace_cannot_be_looked_up(name):
    assert life_of(name, time.time()) is Life.UNKNOWN


def test_heartbeat_that_moves_is_seen_by_the_own_clock(quick):
    beats = iter([1.0, 1.0, 9e9, 9e9])
    assert not stands_still(lambda: next(beats))
    assert stands_still(lambda: 9e9)


def held_elsewhere(path, run_id, heartbeat=None):
    """Give a run to a client that cannot be looked up from here."""
    with sqlite3.connect(path) as connection:
        values = ("elsewhere:1#b.4.5", time.time() + 3600 if heartbeat is None else heartbeat, run_id)
        connection.execute("update runs set holder = ?, heartbeat = ?, state = 7, ended = null where id = ?", values)


def made(tmp_path=None):
    return Flow("held", tasks=[task(lambda: 1, name="one")])


def test_c10_run_is_taken_over_when_the_heartbeat_stands_still_whatever_the_clocks_say(path, quick):
    run_id = made().run(history=path).context["flow_run_id"]
    held_elsewhere(path, run_id)
    assert made().resume(run_id, history=path).is_successful()
    assert history.run(run_id, store=path).part == 1


def test_c10_run_whose_heartbeat_moves_is_not_taken_over_whatever_the_clocks_say(path, quick, monkeypatch):
    run_id = made().run(history=path).context["flow_run_id"]
    held_elsewhere(path, run_id, heartbeat=1.0)
    looked = threading.Event()

    def sleep(seconds):
        looked.set()
        held_elsewhere(path, run_id, heartbeat=2.0)

    monkeypatch.setattr(holders.stands_still, "__defaults__", (sleep,))
    with pytest.raises(RunLocked, match="held by elsewhere:1 since"):
        made().resume(run_id, history=path)
    assert looked.is_set()


def holding(tmp_path, in_function, number=30):
    """Return a flow whose children wait to be released, or run for a while, and note that they began."""

    @task
    def hold(i):
        note(tmp_path / "notes", i)
        until(lambda: (tmp_path / "release").exists(), LIMIT)
        return i

    if in_function:

        @flow(name="held")
        def held():
            return hold.map(list(range(number)))

        return held
    with Flow("held") as graph:
        hold.map(list(range(number)))
    return graph


@pytest.mark.parametrize("in_function", [False, True], ids=["graph", "function"])
def test_c10_client_that_lost_its_run_stops_at_once_with_code_7(executor, tmp_path, path, in_function, monkeypatch):
    monkeypatch.setattr("prefectish.history.recorder.HEARTBEAT_INTERVAL", 0.2)
    flow = holding(tmp_path, in_function)
    started = flow.start(executor=executor, history=path)
    until(lambda: notes(tmp_path / "notes"), LIMIT)
    with sqlite3.connect(path, timeout=30) as connection:
        connection.execute("update runs set part = 1, holder = 'elsewhere:1#b.4.5'")
    begun = len(notes(tmp_path / "notes"))
    lost = threading.Event()
    until(lambda: lost.is_set() or started._control.mailbox is None or recorded_loss(started), LIMIT)
    (tmp_path / "release").touch()
    with pytest.raises(RunLost, match="was taken over by another client") as caught:
        started.wait(LIMIT)
    assert caught.value.exit_code == 7
    assert len(notes(tmp_path / "notes")) < begun + 10
    (run,) = history.runs(store=path)
    assert (run.part, run.holder, run.ended) == (1, "elsewhere:1", None)


def recorded_loss(handle):
    """Whether the thread that records the run of a handle knows that it lost it."""
    from prefectish.engine.driver import active_runs

    active = active_runs.find(handle.id)
    return active is None or (active.recorder is not None and active.recorder.broken is not None)


DRIVER = """
import os, sys, time
from prefectish import Flow, task
from prefectish.errors import PrefectishError
from prefectish.history import holders
holders.STANDSTILL = float(sys.argv[4])
log = sys.argv[3]
def body(i):
    with open(log, "a") as file:
        file.write(f"{sys.argv[1]} {i}\\n")
    time.sleep(0.2)
    return i
with Flow("held") as flow:
    task(body, name="body").map(list(range(40)))
try:
    state = flow.run(history=sys.argv[2], progress=False) if sys.argv[1] == "A" else flow.resume(
        "last" if len(sys.argv) < 6 else sys.argv[5], history=sys.argv[2], progress=False)
    code = state.exit_code
except PrefectishError as error:
    print(type(error).__name__, error)
    code = error.exit_code
sys.stdout.flush()
os._exit(code)
"""
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
needs_root = pytest.mark.skipif(
    shutil.which("unshare") is None or not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="needs root and unshare",
)


def driven(tmp_path, who, *words, standstill="60", before=()):
    words = [str(tmp_path / "history.db"), str(tmp_path / "log"), standstill, *words]
    command = [*before, sys.executable, "-c", DRIVER, who, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def twice(tmp_path):
    begun = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    return len(begun) - len(set(begun))


def run_of(tmp_path):
    until(lambda: (tmp_path / "log").exists(), LIMIT)
    (run,) = history.runs(store=str(tmp_path / "history.db"))
    return run.id


@needs_root
def test_c10_live_client_in_another_namespace_of_processes_keeps_its_run(tmp_path):
    first = driven(tmp_path, "A", before=NAMESPACE)
    second = driven(tmp_path, "B", run_of(tmp_path), before=NAMESPACE)
    said = second.communicate(timeout=LIMIT)[0]
    assert (second.returncode, said.split()[0]) == (4, "RunLocked")
    first.communicate(timeout=LIMIT)
    assert (first.returncode, twice(tmp_path)) == (0, 0)


def test_c10_suspended_client_is_superseded_and_stops_when_it_continues(tmp_path):
    first = driven(tmp_path, "A")
    run_id = run_of(tmp_path)
    os.killpg(first.pid, signal.SIGSTOP)
    second = driven(tmp_path, "B", run_id, standstill="1")
    until(lambda: "B " in (tmp_path / "log").read_text(), LIMIT)
    os.killpg(first.pid, signal.SIGCONT)
    said = first.communicate(timeout=LIMIT)[0]
    second.communicate(timeout=LIMIT)
    assert (first.returncode, said.split()[0], second.returncode) == (7, "RunLost", 0)
    assert twice(tmp_path) <= 8, "what ran at the client that lost the run, until it saw that"
