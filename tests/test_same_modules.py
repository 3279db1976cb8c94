"""Workers must have the user's own modules as the client has them: real workers, with files of their own."""

from __future__ import annotations

import importlib
import sys

import pytest
from distributed import Client
from real import command_line_scheduler, command_line_worker, note, notes, until, wait_for_file
from spellings import SPELLINGS, Spelled

from prefectish import task
from prefectish.errors import EnvironmentMismatch
from prefectish.executors import DaskExecutor, LocalDaskExecutor

NAME = "own_helper"


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Write the client's own module, import it, and return its file."""
    folder = tmp_path / "client"
    folder.mkdir()
    file = folder / f"{NAME}.py"
    file.write_text("def factor():\n    return 100\n")
    monkeypatch.syspath_prepend(folder)
    importlib.import_module(NAME)
    yield file
    sys.modules.pop(NAME, None)


@pytest.fixture
def cluster(tmp_path):
    with command_line_scheduler(tmp_path) as (address, _):
        yield address


def worker(address, folder, monkeypatch, text, name):
    """Start a worker that finds the module in a folder of its own, if there is a text for it."""
    own = folder / name
    own.mkdir()
    if text is not None:
        (own / f"{NAME}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(own))
    return command_line_worker(address, "--name", name, "--local-directory", str(own))


def scaled(path):
    """Return a task that reads the helper when it runs, and notes where."""
    helper = sys.modules[NAME]

    @task
    def scale(x):
        note(path, "ran")
        return x * helper.factor()

    return scale


def run(spelling, executor, scale, items=(1, 2, 3)):
    spelled = Spelled(spelling, executor)
    return spelled.states(lambda: {"m": scale.map(list(items))})["m"]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    ("text", "said"),
    [("def factor():\n    return 10\n", "differs: "), (None, "cannot be imported")],
    ids=["other", "missing"],
)
def test_d11_another_module_on_a_worker_is_refused_before_anything_runs(
    cluster, helper, tmp_path, monkeypatch, spelling, text, said
):
    path = tmp_path / "notes"
    with worker(cluster, tmp_path, monkeypatch, text, "w"), Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
        executor = DaskExecutor(client=client)
        with pytest.raises(EnvironmentMismatch, match=rf"module {NAME} {said}.* on worker tcp://.*client\.upload_file"):
            run(spelling, executor, scaled(path))
        assert not notes(path)
        client.upload_file(str(helper))
        assert run(spelling, executor, scaled(path)).result == [100, 200, 300]


def test_d11_a_module_that_a_worker_imported_before_it_was_changed_is_refused(cluster, helper, tmp_path, monkeypatch):
    path = tmp_path / "notes"
    text = "def factor():\n    return 10\n"
    with worker(cluster, tmp_path, monkeypatch, text, "w"), Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
        client.run(importlib.import_module, NAME)
        (tmp_path / "w" / f"{NAME}.py").write_text(helper.read_text())
        with pytest.raises(EnvironmentMismatch, match=rf"module {NAME} was imported there before"):
            run("graph", DaskExecutor(client=client), scaled(path))
    assert not notes(path)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_d11_a_worker_that_joins_late_with_another_module_is_sent_away(
    cluster, helper, tmp_path, monkeypatch, spelling, caplog
):
    path = tmp_path / "notes"
    go_on = tmp_path / "go on"
    helper_module = sys.modules[NAME]

    @task
    def scale(x):
        note(path, "ran")
        wait_for_file(go_on)
        return x * helper_module.factor()

    with (
        worker(cluster, tmp_path, monkeypatch, helper.read_text(), "good"),
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(1, timeout=60)

        def join_late():
            until(lambda: notes(path))
            with worker(cluster, tmp_path, monkeypatch, "def factor():\n    return 10\n", "bad") as late:
                until(lambda: late.poll() is not None)
            go_on.touch()

        from real import meanwhile

        with meanwhile(join_late):
            state = run(spelling, DaskExecutor(client=client), scale, range(6))
    assert state.result == [0, 100, 200, 300, 400, 500]
    assert f"module {NAME} differs: " in caplog.text
    assert "which joined late: it was sent away" in caplog.text


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_d11_processes_that_were_kept_run_a_module_as_it_is_now(helper, tmp_path, spelling):
    path = tmp_path / "notes"
    executor = LocalDaskExecutor("processes", num_workers=1)
    assert run(spelling, executor, scaled(path)).result == [100, 200, 300]
    helper.write_text("def factor():\n    return 7\n")
    with pytest.raises(EnvironmentMismatch, match=rf"module {NAME} has changed since this program imported it"):
        run(spelling, executor, scaled(path))
    assert len(notes(path)) == 3
    importlib.reload(sys.modules[NAME])
    assert run(spelling, executor, scaled(path)).result == [7, 14, 21]
