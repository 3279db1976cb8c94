"""Workers must have the user's own modules as the client has them: real workers, with files of their own."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from distributed import Client
from real import command_line_scheduler, command_line_worker, meanwhile, note, notes, until, wait_for_file
from spellings import SPELLINGS, Spelled

from prefectish import task
from prefectish.errors import EnvironmentMismatch
from prefectish.executors import DaskExecutor, LocalDaskExecutor


class Helper(NamedTuple):
    """A module of the client's own."""

    name: str
    file: Path


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Write a module of the client's own, and import it; of another name in each test: what is uploaded stays."""
    folder = tmp_path / "client"
    folder.mkdir()
    name = f"helper_{re.sub('[^a-z0-9]', '_', tmp_path.name)}"
    file = folder / f"{name}.py"
    file.write_text("def factor():\n    return 100\n")
    monkeypatch.syspath_prepend(folder)
    importlib.import_module(name)
    yield Helper(name, file)
    sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with command_line_scheduler(tmp_path_factory.mktemp("scheduler")) as (address, _):
        yield address


def worker(address, helper, monkeypatch, text, name):
    """Start a worker that finds the module in a folder of its own, if there is a text for it."""
    own = helper.file.parent.parent / name
    own.mkdir()
    if text is not None:
        (own / f"{helper.name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(own))
    return command_line_worker(address, "--name", name, "--local-directory", str(own))


def scaled(helper, path):
    """Return a task that reads the module when it runs, and notes that it did."""
    module = sys.modules[helper.name]

    @task
    def scale(x):
        note(path, "ran")
        return x * module.factor()

    return scale


def run(spelling, executor, scale, items=(1, 2, 3)):
    spelled = Spelled(spelling, executor)
    return spelled.states(lambda: {"m": scale.map(list(items))})["m"]


OLD = "def factor():\n    return 10\n"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_w16_another_module_on_a_worker_is_refused_before_anything_runs(
    cluster, helper, tmp_path, monkeypatch, spelling
):
    path = tmp_path / "notes"
    with Client(cluster, set_as_default=False) as client:
        executor = DaskExecutor(client=client)
        missing = rf"task scale cannot be loaded on tcp://.*No module named '{helper.name}'.*client\.upload_file"
        differs = rf"module {helper.name} differs: .* on worker tcp://.*client\.upload_file"
        for text, named in ((None, missing), (OLD, differs)):
            with worker(cluster, helper, monkeypatch, text, "old" if text else "none"):
                client.wait_for_workers(1, timeout=60)
                with pytest.raises(EnvironmentMismatch, match=named):
                    run(spelling, executor, scaled(helper, path))
                assert not notes(path)
                if text is not None:
                    client.upload_file(str(helper.file))
                    assert run(spelling, executor, scaled(helper, path)).result == [100, 200, 300]
            until(lambda: not client.scheduler_info()["workers"])


def test_w16_a_module_that_a_worker_imported_before_it_was_changed_is_refused(cluster, helper, tmp_path, monkeypatch):
    path = tmp_path / "notes"
    with worker(cluster, helper, monkeypatch, OLD, "w"), Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
        client.run(importlib.import_module, helper.name)
        (tmp_path / "w" / f"{helper.name}.py").write_text(helper.file.read_text())
        with pytest.raises(EnvironmentMismatch, match=rf"module {helper.name} was imported there before"):
            run("graph", DaskExecutor(client=client), scaled(helper, path))
    assert not notes(path)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_w16_a_worker_that_joins_late_with_another_module_is_sent_away(
    cluster, helper, tmp_path, monkeypatch, spelling, caplog
):
    path = tmp_path / "notes"
    go_on = tmp_path / "go on"
    module = sys.modules[helper.name]

    @task
    def scale(x):
        note(path, "ran")
        wait_for_file(go_on)
        return x * module.factor()

    with (
        worker(cluster, helper, monkeypatch, helper.file.read_text(), "good"),
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(1, timeout=60)

        def join_late():
            until(lambda: notes(path))
            with worker(cluster, helper, monkeypatch, OLD, "bad") as late:
                until(lambda: late.poll() is not None)
            go_on.touch()

        with meanwhile(join_late):
            state = run(spelling, DaskExecutor(client=client), scale, range(6))
    assert state.result == [0, 100, 200, 300, 400, 500]
    assert f"module {helper.name} differs: " in caplog.text
    assert "which joined late: it was sent away" in caplog.text


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_w16_processes_that_were_kept_run_a_module_as_it_is_now(helper, tmp_path, spelling):
    path = tmp_path / "notes"
    executor = LocalDaskExecutor("processes", num_workers=1)
    assert run(spelling, executor, scaled(helper, path)).result == [100, 200, 300]
    helper.file.write_text("def factor():\n    return 7\n")
    with pytest.raises(EnvironmentMismatch, match=rf"module {helper.name} has changed since this program imported it"):
        run(spelling, executor, scaled(helper, path))
    assert len(notes(path)) == 3
    importlib.reload(sys.modules[helper.name])
    assert run(spelling, executor, scaled(helper, path)).result == [7, 14, 21]
