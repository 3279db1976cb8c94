"""What the command prints to go on with a run: pasted as it stands, it works and runs in the same place."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from real import until

from prefectish import history
from prefectish.cli.next_command import NextCommand
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


def test_password_of_a_database_is_not_printed_and_the_pasted_command_works(tmp_path: Path) -> None:
    url = f"sqlite://me:swordfish@/{tmp_path}/h.db"
    told = NextCommand(None, ["n=3"], url, "threads").resume_command("resume", "r1", "--retry-failed")
    assert told == 'prefectish resume r1 --retry-failed -p n=3 --executor threads --history "$PREFECTISH_HISTORY"'
    echoed = shell(f"prefectish() {{ printf '%s\\n' \"$@\"; }}; {told}", PREFECTISH_HISTORY=url)
    assert echoed.stdout.splitlines()[-1] == url


def test_secret_in_a_parameter_is_not_printed(fresh_masking: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    masking.register("hunter22")
    monkeypatch.delenv("PREFECTISH_TOKEN", raising=False)
    assert NextCommand(None, ["token=hunter22"]).resume_command("resume", "r1").endswith('-p token="$PREFECTISH_TOKEN"')
    monkeypatch.setenv("PREFECTISH_MINE", "hunter22")
    assert NextCommand(None, ["token=hunter22"]).resume_command("resume", "r1").endswith('-p token="$PREFECTISH_MINE"')


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
