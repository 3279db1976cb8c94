"""The command, as a person types it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from real import until
from typer.testing import CliRunner

from prefectish import Flow, Parameter, __version__, history, task, unmapped
from prefectish.cli.app import app
from prefectish.cli.loading import parse_parameters
from prefectish.cli.showing import printable
from prefectish.errors import ParameterError
from prefectish.results import LocalResult

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
    assert failed["tasks"][-1]["states"] == {"Success": 4, "Failed": 1}


def test_run_takes_an_executor(command: Command) -> None:
    assert "Success" in command.on_history("run", f"{command.file}:flow", "-p", "n=2", "--executor", "threads")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.py"], "no such file: nowhere.py"),
        (["{file}:other"], "has no flow 'other'; it has flow"),
        (["{file}"], "missing: n"),
        (["{file}", "-p", "n"], "--param must be key=value"),
        (["{file}", "-p", "n=2", "--executor", "moon"], "one of local, threads, processes, dask"),
        (
            ["{file}", "-p", "n=2", "--executor", "local", "--address", "tcp://x:1"],
            "--address requires --executor dask",
        ),
    ],
)
def test_bad_arguments_are_reported_in_a_line_with_code_2(command: Command, words: list[str], said: str) -> None:
    output = command.on_history("run", *(word.format(file=command.file) for word in words), code=2)
    assert said in output.replace("\n", " ")


def test_runs_show_and_failures_read_the_history(command: Command) -> None:
    run_id = command.run(5, code=1)["id"]
    assert run_id[:12] in command.on_history("runs")
    assert json.loads(command.on_history("runs", "--json"))[0]["id"] == run_id
    assert "4 Success, 1 Failed" in command.on_history("show", run_id[:14])
    output = command.on_history("failures", run_id)
    assert "1 x ValueError: bad 3" in output
    assert "load[3]" in output
    assert json.loads(command.on_history("failures", run_id, "--json"))[0]["count"] == 1


def test_what_is_piped_is_not_cut(command: Command, tmp_path: Path) -> None:
    long = "a flow with a name of which nobody thought that it would ever be read in a terminal of eighty columns"
    source = FLOW.replace('Flow("example")', f'Flow("{long}")').replace("def load(", "def load_" + "a" * 60 + "(")
    Path(command.file).write_text(source.replace("load.map", "load_" + "a" * 60 + ".map"))
    run_id = command.run(5, code=1)["id"]
    [_, row] = command.on_history("runs").splitlines()
    assert row.startswith(f"{run_id}  {long}  Failed  ")
    assert row.rstrip().endswith("Some reference tasks failed.")
    assert any("4 Success, 1 Failed" in line for line in command.on_history("show").splitlines())


def test_failures_name_children_by_their_items(command: Command) -> None:
    Path(command.file).write_text(FLOW.replace("@task\ndef load", '@task(item_key=lambda x: f"file {x}\\n")\ndef load'))
    command.run(5, code=1)
    assert r"    load[3] (file 3\n)" in command.on_history("failures").splitlines()
    [group] = json.loads(command.on_history("failures", "--json"))
    assert group["children"] == [{"task": "load-1", "index": 3, "item": "file 3\n", "name": None}]


def test_resume_continues_with_a_run(command: Command) -> None:
    run_id = command.run(5, code=1)["id"]
    command.on_history("resume", run_id, command.file, "-p", "n=5", "--retry-failed", code=1)
    assert len(history.runs(store=command.history)) == 1
    command.on_history("run", command.file, "-p", "n=5", "--resume", run_id, code=1)
    assert "no run 'zzz'" in command.on_history("resume", "zzz", command.file, "-p", "n=5", code=2)


def test_suggested_commands_work(command: Command) -> None:
    output = command.on_history("run", command.file, "-p", "n=5", code=1)
    told = dict(line.split(": prefectish ", 1) for line in output.splitlines() if ": prefectish " in line)
    assert "ValueError: bad 3" in command(*shlex.split(told["show failures"]))
    assert "--retry-failed" in told["resume"]
    shown = command.on_history("show")
    assert f"show failures: prefectish {told['show failures']}" in shown.splitlines()
    [again] = [line for line in shown.splitlines() if line.startswith("resume: prefectish resume ")]
    again = again.replace("--executor local ", "")  # where it ran: `run` was not told
    assert sorted(again.replace("[-p PARAMETER=VALUE]", "-p n=5").split()) == sorted(
        f"resume: prefectish {told['resume']}".split()
    )
    Path(command.file).write_text(FLOW.replace("x == 3", "x == 33"))
    assert "5 Success" in command(*shlex.split(told["resume"]))
    assert len(history.runs(store=command.history)) == 1


def test_paused_run_is_unfinished_and_says_how_to_approve(command: Command) -> None:
    Path(command.file).write_text(
        "from prefectish import Flow, Parameter, pause_task, task\n"
        "with Flow('example') as flow:\n"
        "    task(lambda n: pause_task('how many?', input=int) + n, name='ask')(Parameter('n'))\n"
    )
    output = command.on_history("run", command.file, "-p", "n=2", code=5)
    assert "resume:" not in output
    [told] = [line for line in output.splitlines() if line.startswith("approve: prefectish ")]
    words = shlex.split(told.removeprefix("approve: prefectish ").replace("[--input ANSWER]", "--input 3"))
    assert "Unfinished" in command.on_history("runs").splitlines()[1]
    assert "Unfinished" in command.on_history("show").splitlines()[0]
    assert "Success: " in command(*words)


def test_failures_that_only_follow_show_no_lines_of_the_engine(command: Command) -> None:
    Path(command.file).write_text(FLOW + "    load.map(load.map([3]))\n")
    command.run(1, code=1)
    cause, consequence = command.on_history("failures").split("1 x TriggerFailed")
    assert 'raise ValueError(f"bad {x}")' in cause
    assert "Traceback" not in consequence


def test_failures_name_the_first_items_or_all_of_them(command: Command) -> None:
    Path(command.file).write_text(FLOW.replace("x == 3", "x % 10 == 3"))
    found = command.run(90, code=1)["id"]
    every = [f"load[{n}]" for n in range(90) if n % 10 == 3]
    first = command.on_history("failures", found)
    assert f"    {', '.join(every[:5])}, and {len(every) - 5} more (--all)" in first.splitlines()
    lines = command.on_history("failures", found, "--all").splitlines()
    assert [line.strip() for line in lines if line.startswith("    load[")] == every


def test_logs_show_lines_of_a_run_by_task_and_child(command: Command) -> None:
    found = command.run(5, code=1)["id"]
    assert "load[3]: failed: ValueError: bad 3" in command.on_history("logs", found)
    assert "ValueError: bad 3" in command.on_history("logs", found, "--task", "load", "--item", "3")
    assert command.on_history("logs", found, "-t", "load", "-i", "2") == ""
    assert command.on_history("logs", found, "-l", "critical") == ""
    (line,) = json.loads(command.on_history("logs", found, "--json"))
    assert (line["task"], line["index"], line["level"], line["attempt"]) == ("load-1", 3, "ERROR", 1)
    assert "no task is called 'nothing'" in command.on_history("logs", found, "-t", "nothing", code=2)
    command.on_history("logs", found, "-i", "3", code=2)
    command.on_history("logs", found, "-l", "loud", code=2)


def test_run_is_shown_if_that_is_asked_for(command: Command) -> None:
    shown = CliRunner().invoke(app, ["run", command.file, "-p", "n=2", "--progress", "--history", command.history])
    assert "example 0:00 load: 2 of 2" in shown.stderr
    quiet = CliRunner().invoke(app, ["run", command.file, "-p", "n=2", "--no-progress", "--history", command.history])
    assert "load: 2 of 2" not in quiet.stderr


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
    assert "is not running: it ended as Success" in command.on_history("cancel", run_id, code=2)


def test_h4_garbage_history_ends_with_code_4(command: Command) -> None:
    Path(command.history).write_bytes(os.urandom(4096))
    assert "is not a prefectish history" in command.on_history("runs", code=4)


def test_gc_says_first_and_deletes_only_what_is_not_needed(command: Command, tmp_path: Path) -> None:
    done, failed = command.run(2)["id"], command.run(5, code=1)["id"]
    store = tmp_path / "results"
    for run_id in (done, failed, "unknown"):
        LocalResult(store).write(f"{run_id}/x", b"12345")
    size = (store / done / "x").stat().st_size
    stale, fresh = store / f".{16 * 'a'}.tmp", store / f".{16 * 'b'}.tmp"
    stale.write_bytes(b"p")
    fresh.write_bytes(b"p")
    os.utime(stale, (time.time() - 2 * 86400,) * 2)
    words = ("gc", "--store", str(store), "--older-than", "0")
    assert f"to delete {size + 1} bytes" in command.on_history(*words).replace("\n", " ")
    assert stale.exists()
    assert (store / done).exists()
    command.on_history(*words, "--delete")
    assert not stale.exists()
    assert not (store / done).exists()
    assert fresh.exists()
    assert (store / failed).exists()
    assert (store / "unknown").exists()


def test_gc_keeps_what_an_unfinished_run_found_in_the_cache_of_another(command: Command, tmp_path: Path) -> None:
    store = LocalResult(tmp_path / "results")
    bad = [True]

    @task(cache_for=timedelta(hours=1))
    def load(x: int) -> bytes:
        return bytes(10_000)

    @task
    def check(rows: bytes, wanted: bool) -> int:
        if wanted and bad[0]:
            raise ValueError("bad")
        return len(rows)

    with Flow("cached", result=store) as flow:
        wanted = Parameter("wanted")
        sizes = check.map(load.map([1, 2]), wanted=unmapped(wanted))
    done = flow.run(wanted=False, history=command.history).context["flow_run_id"]
    failed = flow.run(wanted=True, history=command.history).context["flow_run_id"]
    words = ("gc", "--store", str(tmp_path / "results"), "--older-than", "0", "--delete", "--json")
    assert json.loads(command.on_history(*words))["items"] == []
    bad[0] = False
    state = flow.resume(failed, wanted=True, retry_failed=True, history=command.history)
    assert state.result[sizes].result == [10_000, 10_000]
    removed = json.loads(command.on_history(*words))["items"]
    assert sorted(Path(item["name"]).name for item in removed) == sorted([done, failed])


def test_version_is_that_of_the_package(command: Command) -> None:
    assert command("version").strip() == __version__


def test_parameters_are_json_where_they_can_be() -> None:
    assert parse_parameters(["a=1", "b=x=y", 'c={"d": [null]}']) == {"a": 1, "b": "x=y", "c": {"d": [None]}}
    with pytest.raises(ParameterError):
        parse_parameters(["=1"])


def test_x8_control_characters_are_shown_escaped() -> None:
    assert printable("ok\n\x1b[2Jforged") == "ok\\n\\x1b[2Jforged"


SLOW = """
import time
from prefectish import Flow, task

@task
def wait(x):
    time.sleep(0.05)
    return x

with Flow("slow") as slow:
    wait.map(list(range(10_000)))
"""


class Driver:
    """A process that runs a flow by the command."""

    def __init__(self, folder: Path, path: str) -> None:
        (folder / "slow.py").write_text(SLOW)
        words = ["run", str(folder / "slow.py"), "--executor", "threads", "--history", path]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "prefectish.cli", *words],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        until(lambda: self._has_begun(path), 60)

    def _has_begun(self, path: str) -> bool:
        if not os.path.exists(path):
            return False
        found = history.runs(store=path)
        return bool(found) and bool(found[0].children("wait"))

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=60)
        return self.process.returncode, output


@pytest.fixture
def driver(tmp_path: Path, command: Command) -> Iterator[Driver]:
    made = Driver(tmp_path, command.history)
    yield made
    made.process.kill()
    made.process.communicate()


def test_traceback_of_a_file_in_this_folder_has_its_path(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read from other folders, too."""
    monkeypatch.chdir(Path(command.file).parent)
    command.on_history("run", "example_flow.py", "-p", "n=4", code=1)
    assert f'File "{command.file}", line 11, in load' in command.on_history("failures")


def test_cancel_ends_a_run_of_another_process(command: Command, driver: Driver) -> None:
    assert json.loads(command.on_history("runs", "--json"))[0]["state"] == "Running"
    asked = json.loads(command.on_history("cancel", "--json"))
    assert asked["asked"].endswith(f":{driver.process.pid}")
    code, output = driver.end()
    assert code == 6
    assert "Cancelled" in output
    [run] = history.runs(store=command.history)
    assert (run.state, run.exit_code, run.holder) == ("Cancelled", 6, None)


@pytest.mark.parametrize(("number", "code", "said"), [(2, 130, "interrupted"), (15, 143, "terminated")])
def test_c1_c5_signals_end_a_run_with_their_codes(
    command: Command, driver: Driver, number: int, code: int, said: str
) -> None:
    driver.process.send_signal(number)
    assert driver.end()[0] == code
    [run] = history.runs(store=command.history)
    assert (run.state, run.exit_code, run.message) == ("Cancelled", code, said)


def test_c4_run_whose_client_was_killed_is_lost_and_cannot_be_cancelled(command: Command, driver: Driver) -> None:
    driver.process.kill()
    driver.process.wait()
    assert "Lost" in command.on_history("runs")
    assert "client lost, last heartbeat at" in command.on_history("show").replace("\n", " ")
    assert json.loads(command.on_history("show", "--json"))["lost"] is True
    assert "its client is lost" in command.on_history("cancel", code=2).replace("\n", " ")


def test_runs_are_found_by_their_age_too(command: Command) -> None:
    assert "no runs are recorded yet" in command.on_history("show", code=2)
    first, second = command.run(1)["id"], command.run(2)["id"]
    assert json.loads(command.on_history("show", "--json"))["id"] == second
    assert json.loads(command.on_history("show", "last", "--json"))["id"] == second
    assert json.loads(command.on_history("show", first, "--json"))["id"] == first


def test_flows_are_found_in_modules_by_name_and_as_functions(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Success" in command.on_history("run", "example_flow:example", "-p", "n=1")
    assert "no such file or module: nowhere.at.all" in command.on_history("run", "nowhere.at.all:x", code=2)
    (tmp_path / "functions.py").write_text(
        "from prefectish import flow\n@flow\ndef double(n: int):\n    return 2 * n\n"
    )
    assert "Success" in command.on_history("run", "functions.py:double", "-p", "n=1")
    assert history.runs(store=command.history)[0].source == f"{tmp_path / 'functions.py'}:double"
    assert "missing: n" in command.on_history("resume", "last", code=2)
    assert "Success" in command.on_history("resume", "last", "-p", "n=1")


def test_error_of_a_users_file_is_one_line_with_its_place(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("x = {}\nx['missing']\n")
    said = command("run", str(tmp_path / "broken.py"), code=2)
    assert said == f"prefectish: {tmp_path}/broken.py could not be imported: KeyError: 'missing' (broken.py:2)\n"
    monkeypatch.setenv("PREFECTISH_FULL_TRACEBACKS", "1")
    assert isinstance(CliRunner().invoke(app, ["run", str(tmp_path / "broken.py")]).exception, KeyError)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "/etc/passwd"], 2, "/etc/passwd could not be imported: SyntaxError: invalid syntax"),
        (["report", "--output", "/nonexistent/x.html"], 1, "FileNotFoundError: [Errno 2] No such file"),
        (["logs", "--limit", "99999999999999999999"], 2, "Invalid value for '--limit'"),
        (["runs", "--limit", "-5"], 2, "Invalid value for '--limit'"),
        (["runs", "--flow", "no\nsuch"], 0, None),
        (["approve", "last", "--input", "[" * 100_000], 2, "nothing waits for an approval"),
        (["gc", "--older-than", "nan"], 2, "--older-than must be a number of days, got nan"),
        (["nosuch"], 2, "No such command"),
        (["show", "--nosuch"], 2, "No such option"),
        (["show", "a", "b", "c"], 2, "Got unexpected extra argument"),
        (["run"], 2, "Missing argument"),
    ],
    ids=lambda value: value[0][:8] if isinstance(value, list) else None,
)
def test_every_error_is_one_line(command: Command, words: list[str], code: int, said: str | None) -> None:
    command.run(2)
    own = [] if words[0] in ("run", "nosuch") else ["--history", command.history]
    output = command(*words, *own, code=code)
    assert len(output.splitlines()) == 1
    if said is not None:
        assert output.startswith(f"prefectish: {said}")


def test_unexpected_error_keeps_its_traceback_if_asked(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command.run(2)
    monkeypatch.setenv("PREFECTISH_FULL_TRACEBACKS", "1")
    words = ["report", "--output", "/nonexistent/x.html", "--history", command.history]
    assert isinstance(CliRunner().invoke(app, words).exception, FileNotFoundError)


def test_s3_scheduler_that_does_not_exist_ends_with_code_3(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise ConnectionError("no Dask scheduler at tcp://127.0.0.1:1 after 30 s")

    monkeypatch.setattr("prefectish.engine.driver.inline.LocalExecutor.start", refuse)
    assert "no Dask scheduler" in command.on_history("run", command.file, "-p", "n=1", code=3)


def test_gc_cleans_stores_behind_a_url(command: Command, tmp_path: Path) -> None:
    run_id = command.run(2)["id"]
    store = tmp_path / "results"
    for name in (f"{run_id}/x", "unknown/x"):
        LocalResult(store).write(name, b"12345")
    size = (store / run_id / "x").stat().st_size
    words = ("gc", "--store", f"file://{store}", "--older-than", "0", "--json")
    found = json.loads(command.on_history(*words))
    assert (found["deleted"], found["bytes"]) == (False, size)
    assert (store / run_id / "x").exists()
    assert json.loads(command.on_history(*words, "--delete"))["deleted"] is True
    assert not (store / run_id).exists()
    assert (store / "unknown" / "x").exists()


def test_version_is_reported_as_json(command: Command) -> None:
    assert json.loads(command("version", "--json")) == {"version": __version__}
