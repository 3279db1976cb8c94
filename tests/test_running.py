"""What a process was running when it died, as it noted it."""

from __future__ import annotations

import os
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
running.end(running.begin(running.number_of("load-1"), 1, 0))
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


IN_PROCESS = """
import os, sys, threading
from prefectish.engine.worker import running
running.open_note("a")
{}
print(sorted(running.bodies_in(running.read(os.getpid(), "a") or b"")))
"""


@pytest.mark.parametrize(
    ("bodies", "noted"),
    [
        pytest.param(
            "outer = running.begin(1, 2, 3); running.end(running.begin(4, 5, 6))", [Body(1, 2, 3)], id="nested"
        ),
        pytest.param("running.begin(1, 2, 3, running.begin(0, 2, 3))", [Body(1, 2, 3)], id="chain-opened"),
        pytest.param("[running.begin(1, row, 0) for row in range(257)]", [], id="more-than-slots"),
        pytest.param("running.open_note('a'); running.begin(1, 2, 3)", [Body(1, 2, 3)], id="opened-twice"),
        pytest.param(
            "running.begin(1, 2, 3)\nif not os.fork(): running.begin(4, 5, 6); sys.exit()\nos.wait()",
            [Body(1, 2, 3)],
            id="forked",
            marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
        ),
    ],
)
def test_note_has_the_bodies_that_run(note_folder, bodies, noted):
    code = IN_PROCESS.format(bodies)
    process = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert process.stdout.strip() == str(noted)


@pytest.mark.skipif(sys.platform != "linux", reason="others may give a file its place on the disk later")
def test_note_has_its_place_on_the_disk_before_bodies_are_noted(note_folder):
    """Without, a process is killed that notes a body when the disk is full."""
    code = "print(os.stat(running.path_of(os.getpid(), 'a')).st_blocks > 0)"
    process = subprocess.run(
        [sys.executable, "-c", IN_PROCESS.format(code)], check=True, timeout=60, capture_output=True, text=True
    )
    assert process.stdout.startswith("True")


@pytest.mark.skipif(os.name == "nt", reason="folders have other rights")
def test_nothing_is_noted_in_a_folder_that_others_can_write(note_folder):
    os.mkdir(running.folder())
    os.chmod(running.folder(), 0o777)
    code = IN_PROCESS.format("print(running._note)")
    process = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert process.stdout.split() == ["None", "[]"]
    assert not os.listdir(running.folder())


def test_nothing_is_noted_where_no_note_was_opened(monkeypatch):
    monkeypatch.setattr(running, "_note", None)  # a worker that lived in this process opened one for good
    thread = threading.Thread(target=lambda: running.end(running.begin(1, 2, 3)))
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


def test_note_that_is_cut_is_read_as_far_as_it_goes():
    assert bodies_in(note_of((1, 17, 0), (1, 18, 0))[:-3]) == {Body(1, 17, 0)}


def test_empty_note_names_nothing():
    assert keys_in(b"", {("load-1-r", 17, 0): "r"}) == set()
