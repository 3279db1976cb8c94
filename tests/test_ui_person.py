"""What the page is for a person: how old it is, whose clock it shows, by keyboard alone, behind a proxy."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from real import until
from reverse_proxy import proxied

from prefectish import Flow, history, task

pytest.importorskip("playwright.sync_api")

from chromium import MARKS, TOKEN, badge, chromium, confirm, expect, opened, ready, running, see

pytestmark = MARKS
#: Seconds by which what a page shows is old at most, on a machine that has time for it.
AGE = 2.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as made:
        yield made


# -- how old it is ---------------------------------------------------------------------------------------------------

COUNTED = """
@task
def work(n):
    wait_for("go on")
    time.sleep(0.4)
    with open(HERE / "ended", "a") as file:
        file.write(f"{time.time()}\\n")

with Flow("aged") as flow:
    work.map(list(range(60)))
run(flow)
"""
WATCH = """() => {
  window.seen = [];
  const tasks = document.querySelector("section[aria-labelledby=tasks]").parentElement;
  const look = () => {
    const found = /([0-9]+) Success/.exec(tasks.textContent);
    const number = found ? Number(found[1]) : 0;
    if (!window.seen.length || window.seen.at(-1)[1] !== number) window.seen.push([Date.now() / 1000, number]);
  };
  new MutationObserver(look).observe(tasks, { childList: true, subtree: true, characterData: true });
}"""


def test_what_is_shown_of_a_live_run_is_two_seconds_old_at_most(browser: Any, tmp_path: Path) -> None:
    store = str(tmp_path / "history.db")
    with opened(browser, store) as (page, _), running(tmp_path, store, COUNTED):
        page.locator("table a", has_text="aged").first.click()
        ready(page)
        see(page.locator("section[aria-labelledby=tasks]"), "work")
        page.evaluate(WATCH)
        (tmp_path / "go on").touch()
        see(badge(page), "Success")
        see(page.locator("section[aria-labelledby=tasks]"), "60 Success")
        seen = page.evaluate("window.seen")
    ended = sorted(map(float, (tmp_path / "ended").read_text().split()))
    before = [0, *(number for _, number in seen)]
    # until a number came, the page did not know of the first item after the number before
    ages = [at - ended[known] for (at, number), known in zip(seen, before, strict=False) if number > known]
    assert len(ages) >= 3, seen
    assert median(ages) <= AGE, ages


# -- whose clock it shows --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/New_York"])
def test_times_are_those_of_the_viewer(browser: Any, tmp_path: Path, zone: str) -> None:
    store = str(tmp_path / "history.db")
    with Flow("early") as flow:
        task(lambda: 1, name="one")()
    flow.run(history=store, progress=False)
    run = history.runs(store=store)[0]
    local = run.started.astimezone(ZoneInfo(zone))
    with opened(browser, store, timezone_id=zone, locale="en-GB") as (page, _):
        page.goto(f"/runs/{run.id}")
        shown = page.locator("time[data-show=at]").first
        see(shown, local.strftime("%H:%M:%S"))
        see(shown, f"{local.day} {local:%b %Y}")
        see(page.locator("[data-zone]").first, zone)
        page.goto("/")
        since = page.locator("input[data-utc=since]")
        for hours, number in ((-1, 1), (1, 0)):  # what is entered is of that zone, too
            since.fill(f"{local + timedelta(hours=hours):%Y-%m-%dT%H:%M}")
            page.get_by_role("button", name="Filter").click()
            expect(page.locator("#list tbody a", has_text="early")).to_have_count(number)
            expect(since).to_have_value(f"{local + timedelta(hours=hours):%Y-%m-%dT%H:%M}")


# -- by keyboard alone -----------------------------------------------------------------------------------------------

ASKS = """
@task(tags={"db"})
def load(n):
    if n == 2:
        raise ValueError("broken")
    if n == 11:
        wait_for("go on")
    return n

@task
def publish():
    pause_task("Publish?", input=int)

with Flow("asked") as flow:
    load.map(list(range(12)))
    publish()
run(flow)
"""
#: Marks what can be pressed with a number, and returns how many there are.
MARK = """() => {
  const pressed = "button, summary, input, select, a[href], [tabindex='0']";
  const all = [...document.querySelectorAll(pressed)].filter((e) => !e.closest("dialog:not([open])")
    && e.checkVisibility({ visibilityProperty: true }) && !e.disabled && e.tabIndex >= 0 && e.type !== "hidden"
    && !(e.type === "radio" && !e.checked));
  all.forEach((element, number) => { element.mark = number; });
  return all.map((e) => `${e.tagName} ${e.type ?? ""} ${e.textContent.trim().slice(0, 40)}`);
}"""
FOCUSED = "() => document.activeElement?.mark ?? null"


def reached(page: Any) -> set[int]:
    """Press the tabulator until all has had its turn, and return what had the focus."""
    found: list[int] = []
    for _ in range(400):
        page.keyboard.press("Tab")
        mark = page.evaluate(FOCUSED)
        if mark is None or (found and mark == found[-1]):  # the parts of a date are reached one by one
            continue
        if mark in found:
            break
        found.append(mark)
    return set(found)


def test_every_button_can_be_pressed_by_keyboard_alone(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "history.db")
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    (tmp_path / "reports.py").write_text(
        "from prefectish import Flow, Parameter, task\nwith Flow('report') as flow:\n"
        "    task(lambda n: n, name='one')(Parameter('n', default=2, type=int))\n"
    )
    command = [sys.executable, "-m", "prefectish.cli"]
    for words in (["deploy", "reports.py", "--project", "sales"], ["limits", "set", "db", "5"]):
        subprocess.run([*command, *words, "--store", store], cwd=tmp_path, check=True, capture_output=True)
    with opened(browser, store) as (page, _), running(tmp_path, store, ASKS):
        page.locator("table a", has_text="asked").first.click()
        see(page.locator(".cause"), "broken")
        see(page.locator("section[aria-labelledby=waiting]"), "Publish?")
        run = page.url.rpartition("/")[2]
        pages = ["", f"runs/{run}", f"runs/{run}/tasks/0", f"runs/{run}/tasks/0/items/2", f"runs/{run}/failures"]
        pages += [f"runs/{run}/logs", "compare", "deployments", "deployments/sales/report", "agents", "limits"]
        asked = set()
        for address in [*pages, "approvals"]:
            page.goto(f"/{address}")
            expect(page.locator("main")).to_be_visible()
            if page.locator("#link-state").is_visible():
                ready(page)
            names = page.evaluate(MARK)
            missed = [name for number, name in enumerate(names) if number not in reached(page)]
            assert not missed, (address, missed)
            for summary in page.locator("details:not([open]) > summary:visible").all():
                summary.focus()
                page.keyboard.press("Enter")
            for button in page.locator("[data-ask]:visible, [data-confirms]:visible").all():
                if button.get_attribute("data-confirms") is not None:
                    for field in button.locator("xpath=ancestor::form[1]").locator("input[required]:visible").all():
                        field.fill("1")
                asked.add(button.inner_text())
                button.focus()
                page.keyboard.press("Enter")
                dialog = page.locator("dialog[open]")
                expect(dialog).to_be_visible()
                assert page.evaluate("document.activeElement.closest('dialog[open]') !== null"), button.inner_text()
                page.keyboard.press("Escape")
                expect(dialog).to_have_count(0)
        assert {"Pause", "Cancel", "Drain", "Retry failed", "Retry this cause", "Answer", "Run now", "Archive"} <= asked
        page.goto(f"/runs/{run}")
        ready(page)
        page.get_by_role("button", name="Pause").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")  # yes
        see(page.locator("#told"), "asked by")
        see(badge(page), "Paused")


# -- behind a proxy --------------------------------------------------------------------------------------------------


def listens(port: int) -> bool:
    """Whether something takes connections to a port of this machine."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False


@contextmanager
def jupyter(port: int, folder: Path) -> Iterator[str]:
    """Serve what listens on a port by a Jupyter server."""
    pytest.importorskip("jupyter_server_proxy")
    command = [sys.executable, "-m", "jupyter_server", "--port=0", "--no-browser", "--allow-root", "--debug"]
    command += ["--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder}"]
    command += ["--ServerApp.base_url=/user/ada/", "--ServerApp.jpserver_extensions=jupyter_server_proxy=True"]
    with open(folder / "jupyter.log", "wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        address = r"http://(?:localhost|127\.0\.0\.1):(\d+)/user/ada/"
        found = until(lambda: re.search(address, (folder / "jupyter.log").read_text()))
        until(lambda: listens(int(found[1])))  # it says so before
        yield f"http://127.0.0.1:{found[1]}/user/ada/proxy/{port}"
    finally:
        server.terminate()
        server.wait(60)


@pytest.mark.parametrize("proxy", ["plain", "jupyter"])
def test_a_live_run_is_watched_and_paused_behind_a_proxy(browser: Any, tmp_path: Path, proxy: str) -> None:
    store = str(tmp_path / "history.db")
    with opened(browser, store) as (page, site), running(tmp_path, store, ASKS):
        page.goto("about:blank")
        page.context.clear_cookies()
        with proxied(site.port) if proxy == "plain" else jupyter(site.port, tmp_path) as root:
            page.goto(f"{root}/?token={TOKEN}")
            assert page.url == f"{root}/"
            page.locator("table a", has_text="asked").first.click()
            ready(page)
            see(page.locator("section[aria-labelledby=tasks]"), "10 Success")
            page.get_by_role("button", name="Pause").click()
            confirm(page)
            see(page.locator("#told"), "asked by")
            see(badge(page), "Paused")  # by an event
            page.locator("section[aria-labelledby=tasks] a", has_text="load").click()
            see(page.locator(".legend"), "1 Failed")
            expect(page.locator(".picture canvas")).to_be_visible()
            assert page.url.startswith(f"{root}/runs/")
            page.reload()
            see(page.locator(".legend"), "1 Failed")
            page.goto("about:blank")
