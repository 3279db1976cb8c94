"""The command, as a person types it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prefectish import __version__, history
from prefectish.cli.app import app
from prefectish.cli.loading import parse_parameters
from prefectish.cli.showing import printable
from prefectish.errors import ParameterError

FLOW = """
from prefectish import Flow, Parameter, task

@task
def numbers(n):
    return list(range(n))

@task
def load(x):
    if x == 3:
        raise ValueError(f"bad {x}")
    return x

with Flow("example") as flow:
    load.map(numbers(Parameter("n")))
"""


class Command:
    def __init__(self, folder: Path) -> None:
        self.file = str(folder / "example_flow.py")
        self.history = str(folder / "history.db")
        Path(self.file).write_text(FLOW)

    def __call__(self, *words: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == code, done.output
        return done.output

    def on_history(self, *words: str, code: int = 0) -> str:
        return self(*words, "--history", self.history, code=code)

    def run(self, n: int, code: int = 0) -> dict[str, Any]:
        output = self.on_history("run", self.file, "-p", f"n={n}", "--json", code=code)
        found: dict[str, Any] = json.loads(output[output.index("{") :])
        return found


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_run_prints_the_states_and_exits_with_their_code(command: Command) -> None:
    assert command.run(3)["state"] == "Success"
    failed = command.run(5, code=1)
    assert failed["exit_code"] == 1
    assert failed["tasks"][-1]["states"] == "4 Success, 1 Failed"


def test_run_takes_an_executor(command: Command) -> None:
    assert "Success" in command.on_history("run", f"{command.file}:flow", "-p", "n=2", "--executor", "threads")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.py"], "no file nowhere.py"),
        (["{file}:other"], "has no flow 'other'; it has: flow"),
        (["{file}"], "missing: n"),
        (["{file}", "-p", "n"], "key=value is wanted"),
        (["{file}", "-p", "n=2", "--executor", "moon"], "one of local, threads, processes, dask"),
        (["{file}", "-p", "n=2", "--executor", "local", "--address", "tcp://x:1"], "goes with --executor dask"),
    ],
)
def test_bad_arguments_are_told_in_a_line_with_code_2(command: Command, words: list[str], said: str) -> None:
    output = command.on_history("run", *(word.format(file=command.file) for word in words), code=2)
    assert said in output.replace("\n", " ")


def test_runs_show_and_failures_read_the_history(command: Command) -> None:
    run_id = command.run(5, code=1)["id"]
    assert run_id[:12] in command.on_history("runs")
    assert json.loads(command.on_history("runs", "--json"))[0]["id"] == run_id
    assert "4 Success, 1 Failed" in command.on_history("show", run_id[:14])
    output = command.on_history("failures", run_id)
    assert "1 x ValueError: bad 3" in output
    assert "load-1[3]" in output
    assert json.loads(command.on_history("failures", run_id, "--json"))[0]["count"] == 1


def test_resume_goes_on_with_a_run(command: Command) -> None:
    run_id = command.run(5, code=1)["id"]
    command.on_history("resume", run_id, command.file, "-p", "n=5", "--retry-failed", code=1)
    assert len(history.runs(store=command.history)) == 1
    command.on_history("run", command.file, "-p", "n=5", "--resume", run_id, code=1)
    assert "no run 'zzz'" in command.on_history("resume", "zzz", command.file, "-p", "n=5", code=2)


def test_logs_show_lines_of_a_run_by_task_and_child(command: Command) -> None:
    found = command.run(5, code=1)["id"]
    assert "load-1[3]: Task 'load[3]': exception encountered" in command.on_history("logs", found)
    assert "ValueError: bad 3" in command.on_history("logs", found, "--task", "load", "--item", "3")
    assert command.on_history("logs", found, "-t", "load", "-i", "2") == ""
    assert command.on_history("logs", found, "-l", "critical") == ""
    (line,) = json.loads(command.on_history("logs", found, "--json"))
    assert (line["task"], line["index"], line["level"], line["attempt"]) == ("load-1", 3, "ERROR", 1)
    assert "no task is called 'nothing'" in command.on_history("logs", found, "-t", "nothing", code=2)
    command.on_history("logs", found, "-i", "3", code=2)
    command.on_history("logs", found, "-l", "loud", code=2)


def test_report_writes_a_page(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = command.run(4, code=1)["id"]
    monkeypatch.chdir(tmp_path)
    assert command.on_history("report", run_id).strip() == f"run-{run_id}.html"
    assert "ValueError: bad 3" in Path(f"run-{run_id}.html").read_text()
    other = str(tmp_path / "other.html")
    assert command.on_history("report", run_id[:-3], "-o", other).strip() == other
    command.on_history("report", "no-such-run", code=2)


def test_cancel_tells_a_run_that_is_over(command: Command) -> None:
    run_id = command.run(2)["id"]
    assert "is not running: Success" in command.on_history("cancel", run_id, code=2)


def test_h4_garbage_history_ends_with_code_4(command: Command) -> None:
    Path(command.history).write_bytes(os.urandom(4096))
    assert "is not a prefectish history" in command.on_history("runs", code=4)


def test_gc_says_first_and_deletes_only_what_is_not_needed(command: Command, tmp_path: Path) -> None:
    done, failed = command.run(2)["id"], command.run(5, code=1)["id"]
    store = tmp_path / "results"
    for run_id in (done, failed, "unknown"):
        (store / run_id).mkdir(parents=True)
        (store / run_id / "x").write_bytes(b"12345")
    stale, fresh = store / "stale.tmp", store / "fresh.tmp"
    stale.write_bytes(b"1")
    fresh.write_bytes(b"1")
    os.utime(stale, (time.time() - 2 * 86400,) * 2)
    words = ("gc", "--store", str(store), "--older-than", "0")
    assert "would delete 6 bytes" in command.on_history(*words).replace("\n", " ")
    assert stale.exists()
    assert (store / done).exists()
    command.on_history(*words, "--delete")
    assert not stale.exists()
    assert not (store / done).exists()
    assert fresh.exists()
    assert (store / failed).exists()
    assert (store / "unknown").exists()


def test_version_is_that_of_the_package(command: Command) -> None:
    assert command("version").strip() == __version__


def test_parameters_are_json_where_they_can_be() -> None:
    assert parse_parameters(["a=1", "b=x=y", 'c={"d": [null]}']) == {"a": 1, "b": "x=y", "c": {"d": [None]}}
    with pytest.raises(ParameterError):
        parse_parameters(["=1"])


def test_x8_control_characters_are_shown_escaped() -> None:
    assert printable("ok\n\x1b[2Jforged") == "ok\\n\\x1b[2Jforged"
