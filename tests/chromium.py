"""Chromium, which opens the page of a history as a person does, and programs whose runs it shows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from real import until

playwright = pytest.importorskip("playwright.sync_api")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("sqlalchemy")

from prefectish.ui.app import create_app  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "a token that nobody guesses"
#: Milliseconds that a page may take on a busy machine.
PATIENCE = 60_000
#: Of modules whose tests need Chromium.
MARKS = [
    pytest.mark.browser,
    pytest.mark.time_limit(240),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed here"),
]

expect = playwright.expect


@contextmanager
def chromium() -> Iterator[Any]:
    """Run a browser."""
    with playwright.sync_playwright() as play:
        made = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


class Site:
    """The page of a history, served from a thread; it can be stopped, and started again at its address."""

    def __init__(self, store: str) -> None:
        self.store = store
        self.port = 0
        self.start()

    def start(self) -> None:
        config = uvicorn.Config(
            create_app(self.store, token=TOKEN), host="127.0.0.1", port=self.port, log_level="error",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until(lambda: self._server.started)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def opened(browser: Any, store: str, **options: Any) -> Iterator[tuple[Any, Site]]:
    """Open the page of a history; whatever its scripts complain of, and what its policy refuses, is an error."""
    site = Site(store)
    context = browser.new_context(base_url=site.address, viewport={"width": 1280, "height": 900}, **options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
    page.on("dialog", lambda dialog: complaints.append(f"a dialog of the browser: {dialog.message}"))
    page.goto(f"/?token={TOKEN}")
    page.complaints = complaints
    try:
        yield page, site
        assert not complaints, complaints
    finally:
        context.close()
        site.stop()


def started(folder: Path, store: str, program: str) -> subprocess.Popen[str]:
    """Begin a program that runs a flow, with `HERE` as its folder and `STORE` as its history."""
    path = folder / "program.py"
    places = f"from pathlib import Path\nHERE, STORE = Path({str(folder)!r}), {store!r}\n"
    path.write_text(places + PREAMBLE + program)
    return subprocess.Popen([sys.executable, str(path)], cwd=folder, text=True)


PREAMBLE = """
import time
from prefectish import Flow, Parameter, get_logger, pause_task, task, triggers
from prefectish.executors import LocalDaskExecutor

def wait_for(name):
    end = time.monotonic() + 200
    while not (HERE / name).exists():
        assert time.monotonic() < end
        time.sleep(0.02)

def run(flow):
    flow.run(history=STORE, progress=False, executor=LocalDaskExecutor("threads", num_workers=3))
"""


@contextmanager
def running(folder: Path, store: str, program: str) -> Iterator[None]:
    process = started(folder, store, program)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def see(locator: Any, text: str | re.Pattern[str]) -> None:
    expect(locator).to_contain_text(text, timeout=PATIENCE)


def ready(page: Any) -> None:
    """Wait until the scripts of a page have begun: buttons do nothing before."""
    see(page.locator("#link-state"), "live")


def badge(page: Any) -> Any:
    return page.locator("main .head .badge").first


def confirm(page: Any) -> None:
    """Say yes in the dialog that asks."""
    page.locator("dialog[open] button.main").click()
