"""``rerun_on_loss=False``: an attempt that was lost has crashed, and its body does not run again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from bodies import count_good
from real import note, notes

from prefectish import Flow, flow, task
from prefectish.engine.state import Crashed
from prefectish.errors import FlowDefinitionError
from prefectish.executors import LocalDaskExecutor
from prefectish.results import LocalResult


def sending(tmp_path, body, number=5, **options):
    """Return a flow whose children note that they began, the map, and the path of the notes."""
    path = tmp_path / "notes"

    @task(rerun_on_loss=False, **options)
    def send(x):
        note(path, x)
        return body(x)

    with Flow("sending", result=LocalResult(tmp_path / "results")) as flow:
        sent = send.map(list(range(number)))
        count_good(sent)
    return flow, sent, path


def test_task_without_a_store_is_refused_before_anything_runs(run, tmp_path):
    @task
    def before():
        note(tmp_path / "notes", "ran")

    @task(rerun_on_loss=False)
    def send(x):
        return x

    with Flow("no store") as flow:
        send(before())
    with pytest.raises(FlowDefinitionError, match=r"task send: rerun_on_loss=False .* Flow\(result=") as caught:
        run(flow)
    assert caught.value.exit_code == 2
    assert not notes(tmp_path / "notes")


def test_call_in_a_flow_function_without_a_store_is_refused():
    @task(rerun_on_loss=False)
    def send(x):
        return x

    @flow
    def sending():
        return send(1)

    with pytest.raises(FlowDefinitionError, match=r"task send: rerun_on_loss=False"):
        sending()


def test_attempts_that_end_are_as_ever(run, tmp_path):
    def body(x):
        if x == 2:
            raise ValueError("boom")
        return None if x == 1 else x

    flow, sent, path = sending(tmp_path, body)
    state = run(flow)
    kinds = [type(child).__name__ for child in state.result[sent].map_states]
    assert kinds == ["Success", "Success", "Failed", "Success", "Success"]
    assert sorted(notes(path)) == ["0", "1", "2", "3", "4"]


def test_retries_are_attempts_of_their_own(run, tmp_path):
    path = tmp_path / "notes"

    def body(x):
        if len(notes(path)) < 3:
            raise ValueError("not yet")
        return x

    flow, sent, _ = sending(tmp_path, body, number=1, retries=4)
    state = run(flow)
    assert state.result[sent].map_states[0].result == 0
    assert notes(path) == ["0"] * 3


def test_child_that_kills_its_process_begins_once(tmp_path):
    flow, sent, path = sending(tmp_path, lambda x: os._exit(7) if x == 2 else x)
    state = flow.run(executor=LocalDaskExecutor("processes", num_workers=1), history=False)
    children = state.result[sent].map_states
    lost = [child for child in children if not child.is_successful()]
    assert [type(child) for child in lost] == [Crashed]
    assert type(children[2]) is Crashed
    assert children[2].cause == "attempt-lost"
    assert children[2].message.startswith("send[2] was lost: it was started on ")
    assert children[2].message.endswith(", and rerun_on_loss=False")
    assert children[2].evidence["worker"] in children[2].message
    assert state.result[flow.get_tasks("count_good")[0]].result == 4
    assert sorted(notes(path)) == ["0", "1", "2", "3", "4"]


def test_without_the_option_a_child_that_kills_its_process_begins_again(tmp_path):
    """The protection switched off."""
    path = tmp_path / "notes"

    @task
    def send(x):
        note(path, x)
        if x == 2:
            os._exit(7)
        return x

    with Flow("sending", result=LocalResult(tmp_path / "results")) as flow:
        sent = send.map(list(range(5)))
    state = flow.run(executor=LocalDaskExecutor("processes", num_workers=1), history=False)
    assert state.result[sent].map_states[2].cause == "killed-worker"
    assert notes(path).count("2") == 2


def test_marker_that_cannot_be_written_fails_the_child_before_its_body(tmp_path):
    flow, sent, path = sending(tmp_path, lambda x: x, number=2)
    (tmp_path / "results").write_text("a file is in the way of the folder")
    state = flow.run(history=False)
    assert [child.message.partition(":")[0] for child in state.result[sent].map_states] == [
        "start marker of send[0] could not be stored",
        "start marker of send[1] could not be stored",
    ]
    assert not notes(path)


DRIVER = """
import os, sys
from pathlib import Path
sys.path.append(sys.argv[2])
from real import note
from prefectish import Flow, task
from prefectish.results import LocalResult

folder = Path(sys.argv[1])

@task(rerun_on_loss=False)
def send(x):
    note(folder / "notes", x)
    if x == 2 and not (folder / "gone").exists():
        (folder / "gone").touch()
        os._exit(9)
    return x

with Flow("sending", result=LocalResult(folder / "results")) as flow:
    sent = send.map(list(range(5)))
"""


def driven(tmp_path, *lines):
    """Run the flow of the script in a process of its own; return its exit code."""
    code = "\n".join((DRIVER, 'history = str(folder / "history.db")', *lines))
    command = [sys.executable, "-c", code, str(tmp_path), os.path.dirname(__file__)]
    return subprocess.run(command, timeout=120, check=False).returncode


RESUME = """
from prefectish import history as recorded
(row,) = recorded.runs(store=history)
state = flow.resume(row.id, history=history, retry_failed={again})
children = state.result[sent].map_states
"""


def test_resumed_run_skips_lost_attempts_unless_retried(tmp_path):
    """A driver that dies in a body leaves the marker of an attempt whose end nobody knows."""
    assert driven(tmp_path, "flow.run(history=history)") == 9
    told = """
kinds = [type(child).__name__ for child in children]
assert kinds == ["Success", "Success", "Crashed", "Success", "Success"], kinds
assert children[2].cause == "attempt-lost"
assert [child.result for i, child in enumerate(children) if i != 2] == [0, 1, 3, 4]
"""
    assert driven(tmp_path, RESUME.format(again=False), told) == 0
    assert sorted(notes(tmp_path / "notes")) == ["0", "1", "2", "3", "4"], "what had begun ran again"
    told = "assert state.result[sent].result == [0, 1, 2, 3, 4]"
    assert driven(tmp_path, RESUME.format(again=True), told) == 0
    assert notes(tmp_path / "notes").count("2") == 2
