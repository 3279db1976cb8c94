"""What the command prints to go on with a run: pasted as it stands, it works and runs in the same place."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from real import until
from typer.testing import CliRunner

from prefectish import __version__, history
from prefectish.cli.app import app
from prefectish.history.store import open_store
from prefectish.next_command import NextCommand
from prefectish.process_tree import process_name
from prefectish.secrets import masking

FLOW = """
import os, threading
from prefectish import Flow, Parameter, context, task

@task
def load(x):
    if x in ({failing}):
        raise ValueError(f"bad {{x}}")
    return f"{{x}} in {{os.getpid()}} {{threading.current_thread().name}}"

with Flow("example") as flow:
    load.map(Parameter("xs"))
"""


def shell(text: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line as a person would paste it."""
    script = f'prefectish() {{ "{sys.executable}" -m prefectish.cli "$@"; }}\n{text}'
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=240, env={**os.environ, **variables}
    )


def printed(output: str, kind: str = "resume") -> str:
    (line,) = [line for line in output.splitlines() if line.startswith(f"{kind}: prefectish ")]
    return line.removeprefix(f"{kind}: ")


@pytest.mark.parametrize("executor", ["local", "threads", "processes", "dask"])
def test_pasted_command_runs_where_the_run_ran(tmp_path: Path, executor: str) -> None:
    file, store = tmp_path / "example_flow.py", str(tmp_path / "h.db")
    file.write_text(FLOW.format(failing="3, 4"))
    done = shell(f"prefectish run {file} -p 'xs=[1, 3, 4]' -e {executor} --history {store}")
    assert done.returncode == 1, done.stderr
    again = printed(done.stdout)
    shown = printed(shell(f"prefectish show --history {store}").stdout)
    assert shown.replace(" [-p PARAMETER=VALUE]", "") == again.replace(" -p 'xs=[1, 3, 4]'", "")
    file.write_text(FLOW.format(failing="4,"))
    done = shell(again)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 of 3 items succeeded, 1 failed" in done.stdout
    (run,) = history.runs(store=store)
    assert {"local": "LocalExecutor", "dask": "DaskExecutor"}.get(executor, f"Executor: {executor}") in str(
        run.executor
    )
    (child,) = history.run(run.id, store=store).failures()[0].children
    assert child.label == "load[2]"


def test_pasted_command_runs_on_the_cluster_where_the_run_ran(tmp_path: Path, dask_client: Any) -> None:
    file, store = tmp_path / "example_flow.py", str(tmp_path / "h.db")
    file.write_text(FLOW.format(failing="3, 4"))
    address = dask_client.scheduler.address
    done = shell(f"prefectish run {file} -p 'xs=[1, 3, 4]' --address {address} --history {store}")
    assert done.returncode == 1, done.stderr
    again = printed(done.stdout)
    assert f"--address {address}" in again
    file.write_text(FLOW.format(failing="4,"))
    done = shell(again)
    assert "2 of 3 items succeeded, 1 failed" in done.stdout, done.stdout + done.stderr
    (run,) = history.runs(store=store)
    assert address in str(run.executor)
    done_by = {child.worker for child in run.children("load") if child.state == "Success"}
    assert done_by <= set(dask_client.run(process_name).values())


def test_password_of_a_database_is_not_printed_and_the_pasted_command_works(tmp_path: Path) -> None:
    url = f"sqlite://me:swordfish@/{tmp_path}/h.db"
    told = NextCommand(None, ["n=3"], url, "threads").resume_command("resume", "r1", "--retry-failed")
    assert told == 'prefectish resume r1 --retry-failed -p n=3 --executor threads --history "$PREFECTISH_HISTORY"'
    echoed = shell(f"prefectish() {{ printf '%s\\n' \"$@\"; }}; {told}", PREFECTISH_HISTORY=url)
    assert echoed.stdout.splitlines()[-1] == url


def test_secret_in_a_parameter_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    masking.register("hunter22")
    monkeypatch.delenv("PREFECTISH_TOKEN", raising=False)
    assert NextCommand(None, ["token=hunter22"]).resume_command("resume", "r1").endswith('-p token="$PREFECTISH_TOKEN"')
    monkeypatch.setenv("PREFECTISH_MINE", "hunter22")
    assert NextCommand(None, ["token=hunter22"]).resume_command("resume", "r1").endswith('-p token="$PREFECTISH_MINE"')


@pytest.mark.parametrize(
    ("place", "option"),
    [
        ("{home}/history.db", ""),
        ("{home}/other.db", " --history {home}/other.db"),
        ("sqlite:///{home}/other.db?journal=delete", " --history 'sqlite:///{home}/other.db?journal=delete'"),
        ("postgresql://me@db/runs", " --history postgresql://me@db/runs"),
        ("postgresql://me:pw@db/runs", ' --history "$PREFECTISH_HISTORY"'),
        ("postgresql://me@db/runs?password=pw", ' --history "$PREFECTISH_HISTORY"'),
    ],
    ids=["home", "file", "journal", "server", "password", "password-in-query"],
)
def test_commands_name_the_history_unless_it_is_the_one_they_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, option: str
) -> None:
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECTISH_HISTORY", raising=False)
    told = NextCommand.of_history(place.format(home=tmp_path)).command("failures", "r1", "--all")
    assert told == f"prefectish failures r1 --all{option.format(home=tmp_path)}"


def test_home_history_in_the_mode_of_the_settings_is_found_by_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECTISH_HISTORY_JOURNAL", "delete")
    opened = open_store(None)
    assert NextCommand.of_history(opened.address).command("show", "r1") == "prefectish show r1"


OWN = """
from prefectish import flow, task

@task
def load(x):
    raise ValueError(f"bad {x}")

@flow(history="PLACE")
def example():
    return load.map([1, 2, 3])
"""


def test_commands_in_logs_and_last_lines_work_where_the_flow_says_which_history(tmp_path: Path) -> None:
    file, place = tmp_path / "own_flow.py", str(tmp_path / ("long " * 20) / "h.db")
    Path(place).parent.mkdir()
    file.write_text(OWN.replace("PLACE", place))
    done = shell(f"prefectish run {file}", PREFECTISH_HOME=str(tmp_path))
    assert done.returncode == 1, done.stderr
    (logged,) = re.findall(r"`(prefectish failures .*?)`", done.stderr)
    for line in (logged, printed(done.stdout, "show failures")):
        shown = CliRunner().invoke(app, shlex.split(line)[1:])
        assert (shown.exit_code, "ValueError: bad" in shown.output) == (0, True), (line, shown.output)
    again = shell(printed(done.stdout), PREFECTISH_HOME=str(tmp_path))
    assert "Failed" in again.stdout, again.stderr


SLOW = """
import os, time
from prefectish import Flow, task

@task
def load(x):
    if x == 1:
        raise ValueError("bad")
    if x == 3 and not os.path.exists({mark!r}):
        open({mark!r}, "w").close()
        time.sleep(60)
    return x

with Flow("slow") as flow:
    load.map(list(range(20)))
"""


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGINT, "Interrupted by Ctrl-C"), (signal.SIGTERM, "Terminated by SIGTERM")]
)
def test_interrupt_reads_as_one_with_the_same_counts_everywhere(tmp_path: Path, number: int, said: str) -> None:
    file, store, mark = tmp_path / "slow_flow.py", str(tmp_path / "h.db"), tmp_path / "mark"
    file.write_text(SLOW.format(mark=str(mark)))
    words = [sys.executable, "-m", "prefectish.cli", "run", str(file), "--history", store, "--progress"]
    started = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(mark.exists)
    started.send_signal(number)
    out, err = started.communicate(timeout=60)
    assert started.returncode == 128 + number
    counts = "2 done, 1 failed, 1 interrupted, 16 not started"
    assert f"{said}: {counts}" in out
    assert f"{said}: {counts}" in err
    assert "load: 3 of 20" in err
    assert f"{said}: {counts}" in shell(f"prefectish show --history {store}").stdout
    assert counts in shell(f"prefectish runs --history {store}").stdout
    page = tmp_path / "page.html"
    assert shell(f"prefectish report --history {store} -o {page}").returncode == 0
    assert counts in page.read_text()
    assert said in page.read_text()
    resumed = shell(re.sub(r" \[-p.*?\]", "", printed(out)))
    assert resumed.returncode in (0, 1)


# -- flags, watching, schedules ----------------------------------------------------------------------------------------


def command(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, done.output
    return done.output


def test_version_and_short_help() -> None:
    assert command("--version").strip() == __version__
    assert command("-h") == command("--help")
    for name in ("run", "resume", "runs", "show", "failures", "logs", "report", "cancel", "gc", "approve", "schedule"):
        assert f"Example: prefectish {name}" in " ".join(command(name, "-h").split())


@pytest.mark.parametrize(
    "name",
    [
        "deploy",
        "trigger",
        "deployments",
        "archive",
        "attach",
        "serve",
        "agent start",
        "agent list",
        "limits set",
        "limits list",
    ],
)
def test_help_of_commands_for_deployments_has_an_example(name: str) -> None:
    import_module("prefectish.cli.deploying")  # adds its commands, as the program does
    assert f"Example: prefectish {name}" in " ".join(command(*name.split(), "-h").split())


def test_every_command_takes_its_history_by_either_name() -> None:
    import_module("prefectish.cli.deploying")  # adds its commands, as the program does
    import_module("prefectish.cli.ui")
    groups = [app, *(group.typer_instance for group in app.registered_groups)]
    found = [each.callback for group in groups if group is not None for each in group.registered_commands]
    hints = [get_type_hints(each, include_extras=True) for each in found if each is not None and each.__name__ != "gc"]
    chosen = [kind for hint in hints for name, kind in hint.items() if name in ("history", "store")]
    assert len(chosen) > 15
    names = {frozenset((kind.__metadata__[0].default, *kind.__metadata__[0].param_decls)) for kind in chosen}
    assert names == {frozenset({"--history", "--store"})}


def test_quiet_and_verbose(tmp_path: Path) -> None:
    file, store = tmp_path / "example_flow.py", str(tmp_path / "h.db")
    file.write_text(FLOW.format(failing="3,").replace("    if x", '    context.logger.debug("reads")\n    if x'))
    line = f"prefectish run {file} -p 'xs=[1, 2]' --history {store}"
    verbose, quiet = shell(f"{line} -v"), shell(f"{line} -q")
    assert "DEBUG   load[0]: reads" in verbose.stderr
    assert quiet.stderr == ""
    (last,) = quiet.stdout.splitlines()
    assert last.startswith("Success: All reference tasks succeeded. 2 items succeeded (run ")


def test_run_is_watched_and_its_lines_followed_from_elsewhere(tmp_path: Path) -> None:
    file, store, mark = tmp_path / "slow_flow.py", str(tmp_path / "h.db"), tmp_path / "mark"
    file.write_text(SLOW.format(mark=str(mark)).replace("time.sleep(60)", "time.sleep(8)"))
    words = [sys.executable, "-m", "prefectish.cli", "run", str(file), "--history", store, "-e", "threads"]
    started = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(mark.exists)
    watched, followed = (
        subprocess.Popen(
            [sys.executable, "-m", "prefectish.cli", *more, "--history", store], stdout=subprocess.PIPE, text=True
        )
        for more in (("show", "last", "--watch"), ("logs", "last", "-f"))
    )
    assert started.wait(60) == 1
    shown, lines = (each.communicate(timeout=60)[0] for each in (watched, followed))
    assert "Running: " in shown
    assert "19 of 20 items succeeded, 1 failed" in shown
    assert "load[1]: failed: ValueError: bad" in lines


SCHEDULED = """
from datetime import timedelta
from prefectish import Flow, task
from prefectish.schedules import IntervalSchedule, Schedule
from prefectish.schedules.clocks import DatesClock
from prefectish.engine.clock import now

@task
def load(x):
    return x

with Flow("ticks", schedule={schedule}) as flow:
    load.map([1, 2])
"""


def test_schedule_tells_the_next_run_and_a_line_for_each(tmp_path: Path) -> None:
    file = tmp_path / "ticks_flow.py"
    file.write_text(SCHEDULED.format(schedule="Schedule([DatesClock([now() + timedelta(seconds=2)])])"))
    done = shell(f"prefectish run {file} --history {tmp_path}/h.db")
    assert done.returncode == 0, done.stderr
    first, last = (line for line in done.stderr.splitlines() if "Flow 'ticks': " in line)
    assert re.search(r"Flow 'ticks': next run at 20.*\+00:00 \(in 0:00:0[0-2]\)", first)
    assert re.search(r"Flow 'ticks': run of 20.*: Success: 2 items succeeded", last)


def test_next_times_of_a_schedule_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "ticks_flow.py"
    file.write_text(SCHEDULED.format(schedule="IntervalSchedule(interval=timedelta(hours=1))"))
    assert len(command("schedule", str(file), "-n", "3").splitlines()) == 3
    assert len(json.loads(command("schedule", str(file), "--json"))) == 10
    file.write_text(FLOW.format(failing="3,"))
    assert "flow 'example' has no schedule" in command("schedule", f"{file}:flow", code=2)
