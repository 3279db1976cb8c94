"""Ctrl-C, SIGTERM and SIGKILL for a program in a terminal of its own: every child in a state, no process left."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from real import command_line_scheduler, command_line_worker, notes, until

from prefectish import history

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(os.name != "posix", reason="terminals and process groups are those of POSIX"),
]

SCRIPT = Path(__file__).parent / "interrupted_flow.py"
#: Seconds within which an interrupted run ends, on a machine that has nothing else to do.
PROMISED = 5.0
#: How much longer things may take on a busy machine.
SLACK = float(os.environ.get("PREFECTISH_TEST_SLACK", "15"))
CTRL_C = b"\x03"


class Terminal:
    """A program in a terminal: what is typed there reaches all of its foreground processes, as Ctrl-C does."""

    def __init__(self, executor, folder, seconds, isolation, hangup):
        self.folder = folder
        self.keyboard, screen = pty.openpty()

        def prepare():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if not hangup:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)

        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), executor, str(folder), str(seconds), isolation],
            stdin=screen,
            stdout=screen,
            stderr=screen,
            start_new_session=True,
            preexec_fn=prepare,
            env={**os.environ, "PREFECTISH_HOME": str(folder / "home")},
        )
        os.close(screen)
        self.shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.family = []

    def _read(self):
        try:
            while piece := os.read(self.keyboard, 65536):
                self.shown += piece
        except OSError:  # the other side of a terminal that is closed
            return

    def until_bodies(self, number):
        """Wait until bodies have begun, and note which processes belong to the program by then."""
        until(lambda: len(notes(self.folder / "bodies")) >= number or self.process.poll() is not None, 90)
        assert self.process.poll() is None, self.shown.decode()[-3000:]
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def type(self, keys):
        os.write(self.keyboard, keys)

    def end(self, limit):
        """Wait for the end of the program; return its exit code as a shell shows it, and the seconds it took."""
        began = time.monotonic()
        code = self.process.wait(limit)
        return 128 - code if code < 0 else code, time.monotonic() - began

    def left(self):
        """Return the processes of the program that still run."""
        return [p for p in self.family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def close(self):
        for process in self.left():
            process.kill()
        self.process.kill()
        self.process.wait(30)
        self._reader.join(10)
        os.close(self.keyboard)


@contextmanager
def terminal(executor, folder, seconds, isolation="thread", hangup=True):
    """Run the script in a terminal; without a hangup, as under ``nohup``, the end of the program ends nobody else."""
    opened = Terminal(executor, folder, seconds, isolation, hangup)
    try:
        yield opened
    finally:
        opened.close()


def told(folder):
    return json.loads((folder / "told.json").read_text())


def recorded(folder, facts):
    """Return how many children of a run are in which state by its history, and that of the run."""
    run = history.run(facts["run"], store=folder / "history.db")
    return Counter(child.state for child in run.children("body")), run.state


@pytest.mark.parametrize("executor", ["local", "threads", "processes", "dask"])
def test_c1_ctrl_c_in_a_terminal_ends_a_run_and_all_of_its_processes(executor, tmp_path):
    with terminal(executor, tmp_path, 2) as program:
        program.until_bodies(3)
        program.type(CTRL_C)
        code, seconds = program.end(90)
        assert code == 130, program.shown.decode()[-3000:]
        assert seconds < PROMISED + SLACK
        until(lambda: not program.left(), PROMISED + SLACK)
    facts = told(tmp_path)
    assert (facts["error"], facts["code"]) == ("KeyboardInterrupt", 130)
    assert sum(facts["children"].values()) == 40
    assert facts["children"].keys() <= {"Success", "Cancelled"}
    assert facts["messages"]
    assert set(facts["messages"]) <= {"interrupted", "never started"}
    assert facts["end"] == 'Cancelled("never started")'
    begun = notes(tmp_path / "bodies")
    assert len(begun) < 40
    assert len(begun) == len(set(begun))
    states, run = recorded(tmp_path, facts)
    assert states == facts["children"]
    assert run == "Cancelled"


@pytest.mark.parametrize("executor", ["threads", "processes", "dask"])
def test_c2_ctrl_c_twice_ends_the_program_at_once(executor, tmp_path):
    with terminal(executor, tmp_path, 60) as program:
        program.until_bodies(4)
        until(lambda: successes(tmp_path) >= 2)
        program.type(CTRL_C)
        threading.Event().wait(0.2)
        program.type(CTRL_C)
        code, seconds = program.end(50)
        assert code == 130, program.shown.decode()[-3000:]
        assert seconds < 2 + SLACK, "bodies take a minute"
        until(lambda: not program.left(), PROMISED + SLACK)
    assert told(tmp_path)["code"] == 130
    assert_consistent(tmp_path)


def successes(folder):
    """Return how many children are recorded as successful."""
    run = history.runs(limit=1, store=folder / "history.db")[0]
    return sum(child.state == "Success" for child in run.children("body"))


def assert_consistent(folder):
    """The history is whole, and what was recorded before the end is there."""
    import sqlite3

    with sqlite3.connect(folder / "history.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    run = history.runs(limit=1, store=folder / "history.db")[0]
    assert {child.state for child in run.children("body")} <= {"Success", "Cancelled", "Running"}
    assert successes(folder) >= 2


@pytest.mark.parametrize("executor", ["local", "threads", "processes", "dask"])
def test_c5_sigterm_ends_a_run_with_code_143(executor, tmp_path):
    with terminal(executor, tmp_path, 2) as program:
        program.until_bodies(3)
        program.process.terminate()
        code, seconds = program.end(90)
        assert code == 143, program.shown.decode()[-3000:]
        assert seconds < PROMISED + SLACK
        until(lambda: not program.left(), PROMISED + SLACK)
    facts = told(tmp_path)
    assert (facts["error"], facts["code"]) == ("SystemExit", 143)
    states, _ = recorded(tmp_path, facts)
    assert states == facts["children"]
    assert sum(states.values()) == 40


@pytest.mark.parametrize("executor", ["processes", "dask"])
def test_c4_nothing_is_left_of_a_program_that_was_killed(executor, tmp_path):
    with terminal(executor, tmp_path, 60, hangup=False) as program:
        program.until_bodies(3)
        assert len(program.family) >= 2
        until(lambda: successes(tmp_path) >= 2)
        program.process.send_signal(signal.SIGKILL)
        program.end(30)
        until(lambda: not program.left(), PROMISED + SLACK)
    begun = len(notes(tmp_path / "bodies"))
    assert begun < 10
    assert_consistent(tmp_path)


def test_c4_cluster_drops_what_a_killed_client_has_not_started(tmp_path):
    from distributed import Client

    with (
        command_line_scheduler(tmp_path) as (address, _),
        command_line_worker(address),
        command_line_worker(address),
        terminal(address, tmp_path, 3) as program,
    ):
        program.until_bodies(4)
        until(lambda: successes(tmp_path) >= 2)
        program.process.send_signal(signal.SIGKILL)
        program.end(30)
        begun = len(notes(tmp_path / "bodies"))
        with Client(address) as client:
            until(lambda: client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) == 0, 60)
            assert client.submit(len, "the cluster is there for others").result(30) == 31
        assert len(notes(tmp_path / "bodies")) <= begun + 2, "what a worker had begun ends, and nothing else begins"
    assert_consistent(tmp_path)
    assert history.runs(limit=1, store=tmp_path / "history.db")[0].state in ("Running", "Crashed")


@pytest.mark.parametrize("executor", ["local", "threads", "processes", "dask"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_c1_c4_c5_no_process_of_an_isolated_body_is_left(executor, number, tmp_path):
    with terminal(executor, tmp_path, 60, "process") as program:
        program.until_bodies(3)  # two of them have ended
        if number == signal.SIGINT:
            program.type(CTRL_C)
        else:
            program.process.send_signal(number)
        code, seconds = program.end(50)
        assert code == 128 + number, program.shown.decode()[-3000:]
        assert seconds < PROMISED + SLACK, "bodies take a minute"
        until(lambda: not program.left(), PROMISED + SLACK)
