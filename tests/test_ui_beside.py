"""The page of a run, ``page=True``: a process of its own, and the command ``prefectish ui``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bodies import inc
from real import until

import prefectish
from prefectish import Flow, flow
from prefectish.display.reprs import of_active_run
from prefectish.engine.driver.control import RunControl
from prefectish.engine.driver.options import RunOptions
from prefectish.errors import ParameterError
from prefectish.executors import LocalDaskExecutor

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("sqlalchemy")
pytest.importorskip("httpx2")

import httpx2

from prefectish.ui import beside

if TYPE_CHECKING:
    from collections.abc import Iterator

LINK = re.compile(r"http://127\.0\.0\.1:\d+/\?token=\S+")


@pytest.fixture(autouse=True)
def no_page_is_left() -> Iterator[None]:
    yield
    for page in beside._pages.values():
        page.process.kill()
        page.process.wait()
    beside._pages.clear()


def numbers(spelled: str) -> Any:
    if spelled == "flow":
        with Flow("numbers") as built:
            inc.map([1, 2, 3])
        return built

    @flow(name="numbers")
    def called() -> None:
        inc.map([1, 2, 3])

    return called


@pytest.mark.parametrize("spelled", ["flow", "function"])
def test_a_run_is_shown_by_a_process_of_its_own(spelled: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = tmp_path / "history.db"
    with caplog.at_level("INFO", "prefectish"):
        handle = numbers(spelled).start(executor=LocalDaskExecutor(num_workers=2), history=history, page=True)
        state = handle.wait(90)
    link = handle.page_link
    assert link is not None
    assert f"page: {link}" in caplog.text
    assert link in repr(handle)
    with httpx2.Client(follow_redirects=True, timeout=90) as client:
        found = client.get(link)
    assert found.status_code == 200
    assert state.context["flow_run_id"] in found.text
    assert "token=" not in str(found.url)
    (page,) = beside._pages.values()
    assert page.process.pid != os.getpid()
    numbers(spelled).run(history=history, page=True)
    assert len(beside._pages) == 1  # the same page shows both runs


@pytest.mark.parametrize("spelled", ["flow", "function"])
def test_a_page_needs_a_history(spelled: str) -> None:
    with pytest.raises(TypeError, match="page=True must have a history"):
        numbers(spelled).run(history=False, page=True)
    with pytest.raises(TypeError, match="detach must have no page"):
        numbers(spelled).start(detach=True, page=True)


def test_the_link_stands_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = pytest.importorskip("IPython.display")
    shown: list[str] = []
    monkeypatch.setattr(shell, "display", lambda html: shown.append(html.data))
    monkeypatch.setattr("prefectish.engine.driver.run.in_notebook", lambda: True)
    handle = numbers("flow").start(history=tmp_path / "history.db", page=True)
    handle.wait(90)
    (html,) = shown
    assert str(handle.page_link).replace("&", "&amp;") in html
    control = RunControl()
    control.page = "http://127.0.0.1:7411/?token=x"
    assert control.page in of_active_run("numbers", None, "1", control)


def test_page_must_be_a_bool() -> None:
    with pytest.raises(TypeError, match="page must be True or False, got 'yes'"):
        RunOptions().merged(page="yes")
    with Flow("reads") as reads:
        inc(prefectish.Parameter("page"))
    with pytest.raises(ParameterError, match="page=True is an option of the run"):
        reads.run(page=True)


def test_a_missing_library_is_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ImportError, match=r'page=True needs uvicorn.*pip install "prefectish\[ui\]"'):
        numbers("flow").run(history=tmp_path / "history.db", page=True)
    assert not (tmp_path / "history.db").exists()


def test_the_page_ends_with_its_program(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import sys\n"
        "from prefectish import Flow, task\n"
        "with Flow('numbers') as flow:\n"
        "    task(lambda: 1, name='one')()\n"
        f"flow.run(history={str(tmp_path / 'history.db')!r}, page=True)\n"
        "from prefectish.ui import beside\n"
        "print(*(page.process.pid for page in beside._pages.values()), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        program.kill()
    until(lambda: not _lives(pid))


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_command_serves_until_it_is_ended(tmp_path: Path) -> None:
    numbers("flow").run(history=tmp_path / "history.db")
    command = [sys.executable, "-m", "prefectish.cli", "ui", "--store", str(tmp_path / "history.db"), "--port", "0"]
    environment = {**os.environ, "PREFECTISH_HOME": str(tmp_path / "home")}
    served = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert served.stdout is not None
        found = LINK.search(served.stdout.readline())
        assert found is not None
        with httpx2.Client(follow_redirects=True, timeout=90) as client:
            assert "numbers" in client.get(found[0]).text
            with client.stream("GET", f"{found[0].partition('?')[0]}events/runs") as events:
                assert next(events.iter_lines()) == "retry: 1000"
                served.send_signal(signal.SIGINT)  # it does not wait for those who follow
                assert served.wait(30) in (130, -signal.SIGINT)
    finally:
        served.kill()
        served.communicate()


def test_a_taken_port_is_said() -> None:
    from prefectish.ui.sockets import PortTaken, listen

    with listen("127.0.0.1", 0) as taken, pytest.raises(PortTaken, match="cannot listen on 127"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_the_process_of_a_page_imports_nothing_from_the_folder_it_is_begun_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers("flow").run(history=tmp_path / "history.db")
    run_id = prefectish.history.runs(1, store=tmp_path / "history.db")[0].id
    for module in ("json", "uvicorn"):
        (tmp_path / f"{module}.py").write_text(f"raise SystemExit('{module} of a stranger')\n")
    monkeypatch.chdir(tmp_path)
    link = beside.link_of(str(tmp_path / "history.db"), run_id)
    with httpx2.Client(follow_redirects=True, timeout=90) as client:
        assert client.get(link).status_code == 200
