"""The page as a person uses it: in Chromium, with runs of other processes. Looked for by `pytest -m browser`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import EVIL
from postgres import binaries, owner, server
from real import until

from prefectish import Flow, task
from prefectish.executors import LocalDaskExecutor

axe = pytest.importorskip("axe_playwright_python.sync_playwright")
sqlalchemy = pytest.importorskip("sqlalchemy")

from chromium import MARKS, PATIENCE, badge, chromium, confirm, expect, opened, ready, running, see  # noqa: E402

from prefectish import history  # noqa: E402

PROGRAMS = binaries()
pytestmark = MARKS


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def postgres() -> Iterator[Any]:
    if PROGRAMS is None:
        pytest.skip("PostgreSQL is not installed here")
    if os.geteuid() == 0 and owner() is None:
        pytest.skip("no user but root to run PostgreSQL as")
    pytest.importorskip("psycopg")
    with server(PROGRAMS) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "history.db")
    return str(request.getfixturevalue("database"))


@pytest.fixture
def database(postgres: Any) -> str:
    """Return the address of a database of the test's own."""
    name = f"page_{os.urandom(4).hex()}"
    engine = sqlalchemy.create_engine(postgres.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return str(postgres.url).replace("/postgres?", f"/{name}?")


def test_a_live_run_is_watched_from_start_to_end(browser: Any, store: str, tmp_path: Path) -> None:
    program = """
@task
def load(n):
    get_logger().info("item %s is loaded", n)
    if n >= 10:
        wait_for("go on")
    return n

@task
def total(values):
    return sum(values)

with Flow("watched") as flow:
    total(load.map(list(range(40))))
run(flow)
"""
    with opened(browser, store) as (page, _), running(tmp_path, store, program):
        page.locator("table a", has_text="watched").first.click()  # it appears by itself
        see(badge(page), "Running")
        tasks = page.locator("section[aria-labelledby=tasks]")
        see(tasks, re.compile(r"\b([1-9]|10) Success"))  # items may be handed to a thread several at once
        see(page.locator(".pf-graph"), "of 40")
        (tmp_path / "go on").touch()
        see(badge(page), "Success")
        see(tasks, "40 Success")
        see(page.locator(".log"), "item 39 is loaded")
        expect(page.locator(".chart canvas")).to_be_visible()
        see(page.locator("#link-state"), "live")
        address = page.url
        page.reload()
        assert page.url == address
        see(badge(page), "Success")


def test_a_cause_is_retried_from_the_page_and_the_run_ends_well(browser: Any, store: str, tmp_path: Path) -> None:
    program = """
@task
def load(n):
    if n == 30:
        wait_for("go on")
    if n % 7 == 3 and not (HERE / "mended").exists():
        raise ConnectionError(f"no answer from host {n}")
    if n % 7 == 5 and not (HERE / "mended").exists():
        raise ValueError(f"row {n} is empty")
    return n

@task
def total(values):
    return sum(values)

with Flow("mended") as flow:
    total(load.map(list(range(31))))
run(flow)
"""
    with opened(browser, store) as (page, _), running(tmp_path, store, program):
        page.locator("table a", has_text="mended").first.click()
        ready(page)
        for kind, number in (("ConnectionError", 4), ("ValueError", 4)):
            cause = page.locator(".cause", has_text=kind)
            see(cause, f"{number} \N{MULTIPLICATION SIGN}")
        (tmp_path / "mended").touch()
        for kind in ("ConnectionError", "ValueError"):
            cause = page.locator(".cause", has_text=kind)
            cause.locator("summary").click()
            see(cause.locator("pre"), f"raise {kind}")
            cause.get_by_role("button", name="Retry this cause").click()
            see(page.locator("dialog[open]"), "4 items")
            confirm(page)
            see(page.locator("#told"), "asked by")
            expect(cause).to_have_count(0, timeout=PATIENCE)
        see(page.locator("section[aria-labelledby=asked]"), "carried out")
        (tmp_path / "go on").touch()
        see(badge(page), "Success")
        expect(page.locator(".badge.is-mixed")).to_have_count(0)


def test_an_approval_is_given(browser: Any, tmp_path: Path) -> None:
    store = str(tmp_path / "history.db")
    program = """
@task
def publish():
    servers = pause_task("To how many servers?", input=int)
    (HERE / "answer").write_text(repr(servers))

@task
def keep():
    wait_for("answer")

with Flow("published") as flow:
    publish()
    keep()
run(flow)
"""
    with opened(browser, store) as (page, _), running(tmp_path, store, program):
        page.locator("table a", has_text="published").first.click()
        page.locator("section[aria-labelledby=waiting] a.button").click()
        ready(page)
        asked = page.locator(".is-asking")
        see(asked, "To how many servers?")
        asked.get_by_role("spinbutton").fill("12")
        asked.get_by_role("button", name="Answer").click()
        see(page.locator("dialog[open]"), "12")
        confirm(page)
        see(page.locator("#told"), "asked by")
        until(lambda: (tmp_path / "answer").exists())
        assert (tmp_path / "answer").read_text() == "12"
        see(page.locator("main"), "Nothing waits for an answer")
        see(page.locator("#number"), "0 wait")


def test_a_deployment_is_run_by_its_form(browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = str(tmp_path / "history.db")
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    (tmp_path / "reports.py").write_text("""
from prefectish import Flow, Parameter, task, unmapped

@task
def count(region, factor, action):
    return factor * len(region)

with Flow("report") as flow:
    factor = Parameter("factor", default=2, type=int)
    action = Parameter("action", default="multiply")
    count.map(Parameter("regions", default=["eu", "us"], type=list[str]), unmapped(factor), unmapped(action))
""")
    command = [sys.executable, "-m", "prefectish.cli"]
    deploy = [*command, "deploy", "reports.py", "--project", "sales", "--store", store]
    subprocess.run(deploy, cwd=tmp_path, check=True, capture_output=True)
    with opened(browser, store) as (page, _):
        page.get_by_role("link", name="Deployments").click()
        see(page.locator("main"), "No agent is at work")
        page.get_by_role("link", name="sales/report").click()
        ready(page)
        form = page.locator("form.run-now")
        form.get_by_label("factor").fill("7")
        form.get_by_role("button", name="Run now").click()
        see(page.locator("dialog[open]"), "7")
        confirm(page)
        see(page.locator("#told"), "run")
        see(page.locator("main"), "Waits to begin")
        subprocess.run(
            [*command, "agent", "start", "--once", "--store", store], cwd=tmp_path, check=True, capture_output=True
        )
        see(page.locator("#history"), "Success")
        page.locator("#history tbody a").first.click()
        see(badge(page), "Success")
        see(page.locator("section[aria-labelledby=about]"), "7")
        page.get_by_role("link", name="Agents").click()
        see(page.locator("main"), "stopped")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A history with a map of 100,000 items, of which some failed."""

    @task
    def square(n: int) -> int:
        if n % 5000 == 4711:
            raise ValueError(f"{n} is not to be squared")
        return n * n

    with Flow("large") as flow:
        square.map(list(range(100_000)))
    store = str(tmp_path_factory.mktemp("large") / "history.db")
    flow.run(history=store, progress=False, executor=LocalDaskExecutor("threads", num_workers=2))
    return store


def test_a_map_of_100_000_is_opened_and_an_item_found(browser: Any, large: str) -> None:
    with opened(browser, large) as (page, _):
        page.locator("table a", has_text="large").first.click()
        expect(page.locator(".chart canvas")).to_be_visible(timeout=PATIENCE)
        page.locator("section[aria-labelledby=tasks] a", has_text="square").click()
        see(page.locator(".legend"), "99,980 Success")
        see(page.locator(".legend"), "20 Failed")
        ready(page)
        picture = page.locator(".picture")
        page.get_by_role("searchbox", name="number, key or name of an item").fill("54711")
        page.get_by_role("button", name="Find").first.click()
        see(page.locator(".readout"), "square[54711]: Failed")
        picture.press("ArrowRight")
        assert page.url.endswith("#item=54712")
        page.reload()
        see(page.locator(".readout"), "square[54712]: Success")
        picture.press("ArrowLeft")
        picture.press("Enter")
        see(page.locator("h1"), "square[54711]")
        see(page.locator("main"), "54711 is not to be squared")
        see(page.locator(".source, pre").first, "raise ValueError")
        page.go_back()
        see(page.locator("#failed"), "20")
        page.locator("#failed tbody a").first.click()
        see(page.locator("h1"), "square[4711]")
        page.go_back()
        see(page.locator(".legend"), "20 Failed")
        page.locator(".picture canvas").click(position={"x": 1, "y": 1})
        see(page.locator(".readout"), "square[0]: Success")
        page.get_by_label("duration").check()
        expect(page.locator(".of-time")).to_be_visible()


def test_the_page_comes_back_by_itself(browser: Any, tmp_path: Path) -> None:
    store = str(tmp_path / "history.db")
    with Flow("first") as flow:
        task(lambda: 1, name="one")()
    flow.run(history=store, progress=False)
    with opened(browser, store) as (page, site):
        see(page.locator("#link-state"), "live")
        site.stop()
        see(page.locator("#lost"), "Not connected, last seen")
        flow.name = "second"
        flow.run(history=store, progress=False)
        site.start()
        expect(page.locator("#lost")).to_be_hidden(timeout=PATIENCE)
        see(page.locator("#list"), "second")
        page.complaints.clear()  # of the connection that was refused


def everything(folder: Path, name: str) -> str:
    """Return a history with something on each page, all of it called by a name."""
    store = str(folder / "history.db")

    @task(name=name, task_run_name=name)
    def fail(n: int) -> int:
        if n % 2:
            raise ValueError(name)
        return n

    with Flow(name) as flow:
        fail.map([1, 2, 3])
    for _ in range(2):
        flow.run(history=store, progress=False)
    return store


PAGES: dict[str, Callable[[str], str]] = {
    "runs": lambda run: "",
    "run": lambda run: f"runs/{run}",
    "map": lambda run: f"runs/{run}/tasks/0",
    "item": lambda run: f"runs/{run}/tasks/0/items/0",
    "failures": lambda run: f"runs/{run}/failures",
    "logs": lambda run: f"runs/{run}/logs",
    "timeline": lambda run: f"runs/{run}/timeline",
    "compare": lambda run: f"compare?before={run}&after={run}",
    "deployments": lambda run: "deployments",
    "agents": lambda run: "agents",
    "limits": lambda run: "limits",
    "approvals": lambda run: "approvals",
    "error": lambda run: "nowhere",
}


def test_pages_are_for_everyone_and_nothing_in_them_acts(browser: Any, tmp_path: Path) -> None:
    """No serious finding of axe-core, light and dark; no page is wider than a phone; no name of a user acts."""
    store = everything(tmp_path, EVIL)
    run = history.runs(store=store)[0].id
    for scheme, width in (("light", 400), ("dark", 1000), ("light", 2000)):
        with opened(browser, store, color_scheme=scheme) as (page, _):
            page.set_viewport_size({"width": width, "height": 800})
            for name, address in PAGES.items():
                page.goto(f"/{address(run)}")
                expect(page.locator("main")).to_be_visible()
                found = axe.Axe().run(page).response["violations"]
                bad = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]
                assert not bad, (name, scheme, width)
                over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert over <= 0, (name, width)
                if name == "error":
                    page.complaints[:] = [told for told in page.complaints if "404" not in told]
