"""The main example: on whole folders, on broken files, and with the same totals on every executor."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefectish.engine.state import Failed, Success, TriggerFailed
from prefectish.examples import census

if TYPE_CHECKING:
    from distributed import Client

BROKEN = Path(census.__file__).with_name("broken_files")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with all broken files and two good ones, one of them in a folder of its own."""
    shutil.copytree(BROKEN, tmp_path / "code")
    (tmp_path / "code" / "good.py").write_text("import os\n\n\ndef f():\n    return os\n")
    (tmp_path / "code" / "inner").mkdir()
    (tmp_path / "code" / "inner" / "latin.py").write_bytes(b"# coding: latin-1\nclass A:\n    NAME = 'caf\xe9'\n")
    return tmp_path / "code"


def task_named(flow: Any, name: str) -> Any:
    (found,) = flow.get_tasks(name=name)
    return found


def take(folder: Path, executor: str = "local", *, strict: bool = False) -> tuple[Any, Any]:
    flow = census.build_flow(strict=strict)
    with census.quiet():
        return flow, flow.run(parameters={"folders": [str(folder)]}, executor=census.make_executor(executor))


def without_seconds(found: dict[str, Any]) -> dict[str, Any]:
    return {"totals": found["totals"], "failed": found["failed"]}


def test_find_takes_python_files_in_order_and_leaves_caches_and_other_packages_alone(tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "notes.txt", "pkg/c.py", "__pycache__/x.py", "site-packages/y.py", "odd.py.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    found = [Path(path).relative_to(tmp_path).as_posix() for path in census.find.run([str(tmp_path)], None)]
    assert found == ["a.py", "b.py", "odd.py.txt", "pkg/c.py"]
    assert census.find.run([str(tmp_path)], 2) == [str(tmp_path / "a.py"), str(tmp_path / "b.py")]


def test_find_refuses_a_folder_without_python_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no Python files below"):
        census.find.run([str(tmp_path)], None)


def test_census_folders_are_the_library_the_environment_and_the_broken_files() -> None:
    folders = [Path(folder) for folder in census.census_folders()]
    assert folders[0] == Path(shutil.__file__).resolve().parent
    assert folders[-1] == BROKEN
    paths = census.find.run([str(folder) for folder in folders], None)
    assert len(paths) == len(set(paths)) > 1000
    assert Path(pytest.__file__).resolve() in {Path(path).resolve() for path in paths}


def test_census_counts_what_can_be_parsed(folder: Path) -> None:
    flow, state = take(folder)
    found = census.report_of(flow, state)
    assert state.is_successful()
    assert state.exit_code == 0
    broken = len(list(BROKEN.iterdir()))
    assert found["totals"] == {
        "files": broken + 2,
        "lines": 8,
        "functions": 1,
        "classes": 1,
        "imports": 1,
        "nodes": 14,
        "failed": broken,
    }
    assert {Path(path).name for _, path in found["slowest"]} == {"good.py", "latin.py"}


def test_every_broken_file_fails_and_says_why(folder: Path) -> None:
    flow, state = take(folder)
    errors = {Path(path).name: error for path, error in census.report_of(flow, state)["failed"]}
    assert errors.keys() == {path.name for path in BROKEN.iterdir()}
    assert errors["late_bad_utf8.py.txt"].startswith("UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff")
    assert "no-such-codec" in errors["unknown_encoding.py.txt"]
    assert errors["mixed_tabs.py.txt"].startswith("TabError: ")
    assert "'[' was never closed" in errors["unclosed_bracket.py.txt"]


def test_broken_file_fails_its_own_children_only(folder: Path) -> None:
    flow, state = take(folder)
    children = {name: state.result[task_named(flow, name)].map_states for name in ("read", "parse", "measure")}
    paths = state.result[task_named(flow, "find")].result
    of = {Path(path).name: tuple(type(states[i]) for states in children.values()) for i, path in enumerate(paths)}
    assert of["good.py"] == of["latin.py"] == (Success, Success, Success)
    assert of["bad_utf8.py.txt"] == (Failed, TriggerFailed, Failed)
    assert of["syntax_error.py.txt"] == (Success, Failed, Failed)


@pytest.mark.parametrize("executor", ["threads", "processes", "dask"])
def test_executor_gives_the_same_totals_and_the_same_errors(executor: str, folder: Path) -> None:
    here = without_seconds(census.report_of(*take(folder)))
    there = without_seconds(census.report_of(*take(folder, executor)))
    assert there == here


def test_address_connects_to_an_existing_scheduler(dask_client: Client, folder: Path) -> None:
    flow = census.build_flow()
    executor = census.make_executor("dask", dask_client.scheduler.address)
    state = flow.run(parameters={"folders": [str(folder)]}, executor=executor)
    assert without_seconds(census.report_of(flow, state)) == without_seconds(census.report_of(*take(folder)))


def test_strict_census_fails_with_its_files_and_still_reports(folder: Path) -> None:
    flow, state = take(folder, strict=True)
    assert state.exit_code == 1
    assert census.report_of(flow, state)["totals"]["files"] > 2


def test_census_without_a_folder_raises_what_kept_it_from_reporting(tmp_path: Path) -> None:
    flow, state = take(tmp_path)
    assert state.exit_code == 1
    with pytest.raises(FileNotFoundError, match="no Python files below"):
        census.report_of(flow, state)


def test_command_line_prints_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert census.main(["--limit", "20"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("failed:\n")
    assert re.search(r"^totals: [1-9]\d files, ", printed, flags=re.MULTILINE)
    assert "null_bytes.py.txt\n      SyntaxError: " in printed
    assert 'Success("All reference tasks succeeded."): ' in printed
    assert " failed with local in " in printed or " not run with local in " in printed


@pytest.mark.parametrize("argv", [["--address", "tcp://127.0.0.1:1"], ["--executor", "carts"], ["--limit", "some"]])
def test_command_line_refuses_what_it_cannot_do(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        census.main(argv)
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err
