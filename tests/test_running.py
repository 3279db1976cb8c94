"""What a process was running when it died, as it noted it."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from prefectish.engine.worker import running
from prefectish.engine.worker.running import UNKNOWN, Body, bodies_in, number_of
from prefectish.executors.last_bodies import keys_in

KILLED = """
import os, signal, sys, threading
from prefectish.engine.worker import running
running.open_note("tcp://worker:1")
running.begin(running.number_of("load-1"), 1, 0)
running.end()
running.begin(running.number_of("load-1"), 17, 2)
def other():
    running.begin(running.number_of("save-2"), 5, 0)
thread = threading.Thread(target=other)
thread.start()
thread.join()
os.kill(os.getpid(), getattr(signal, sys.argv[1]))
"""


@pytest.fixture
def note_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield tmp_path
    monkeypatch.undo()


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_bodies_of_a_killed_process_can_be_read(note_folder, name):
    process = subprocess.Popen([sys.executable, "-c", KILLED, name])
    assert process.wait(60) < 0
    note = running.read(process.pid, "tcp://worker:1")
    assert bodies_in(note) == {Body(number_of("load-1"), 17, 2), Body(number_of("save-2"), 5, 0)}
    assert running.read(process.pid, "tcp://worker:1") is None, "it is read once"


def test_process_that_ends_by_itself_leaves_no_note(note_folder):
    code = "from prefectish.engine.worker import running; running.open_note('a'); running.begin(1, 2, 3)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert not any(entry.is_file() for entry in note_folder.rglob("*"))


def test_nothing_is_noted_where_no_note_was_opened():
    thread = threading.Thread(target=lambda: (running.begin(1, 2, 3), running.end()))
    thread.start()
    thread.join()
    assert running._note is None


def test_note_of_another_worker_is_not_taken(note_folder):
    assert running.read(1, "tcp://elsewhere:1") is None


def note_of(*bodies):
    return b"".join(running._SLOT.pack(1, *body) for body in bodies)


def test_keys_are_found_by_task_row_and_submission():
    keys = dict.fromkeys([("load-1-r", 17, 0), ("load-1-r", 17, 1), ("load-1-r", 18, 0), ("save-2-r", 17, 0)], "r")
    assert keys_in(note_of((number_of("load-1"), 17, 0)), keys) == {("load-1-r", 17, 0)}


def test_body_whose_chain_was_being_opened_is_found_by_its_row():
    keys = dict.fromkeys([("load-1-r", 17, 0), ("load-1-r", 18, 0)], "r")
    assert keys_in(note_of((UNKNOWN, 17, 0)), keys) == {("load-1-r", 17, 0)}


def test_empty_note_names_nothing():
    assert keys_in(b"", {("load-1-r", 17, 0): "r"}) == set()
