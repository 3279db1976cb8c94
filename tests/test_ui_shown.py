"""What the page shows, in Chromium: whole numbers, one clock, and parts that agree with one another."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from prefectish import Flow, history, task
from prefectish.executors import LocalDaskExecutor

pytest.importorskip("playwright.sync_api")

from chromium import MARKS, badge, chromium, expect, opened, ready, running, see

pytestmark = MARKS
#: Keeps what is drawn as text: the marks of axes.
DRAWN = """
window.drawn = [];
const fillText = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {
  window.drawn.push(String(text));
  return fillText.call(this, text, ...more);
};
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A history of two runs, some of whose items failed."""

    @task
    def load(n: int) -> int:
        if n % 4 == 3:
            raise ValueError(f"{n} is odd")
        return n

    with Flow("said") as flow:
        task(lambda n: n, name="transform").map(load.map(list(range(12))))
    store = str(tmp_path_factory.mktemp("said") / "history.db")
    for _ in range(2):
        flow.run(history=store, progress=False, executor=LocalDaskExecutor("threads", num_workers=2))
    with sqlite3.connect(store) as database:  # as on a cluster
        database.execute("INSERT INTO texts VALUES (50, 'd50', 'tcp://10.0.114.17:40123')")
        database.execute("UPDATE children SET worker = 50, at = at - 2000")
    return store


def test_times_have_24_hours_in_logs_tables_and_charts_and_items_are_whole(browser: Any, said: str) -> None:
    """In the words of a country that has 12 of them, too."""
    run = history.runs(store=said)[0].id
    with opened(browser, said, locale="en-US", timezone_id="America/New_York") as (page, _):
        page.add_init_script(DRAWN)
        page.goto(f"/runs/{run}")
        expect(page.locator(".chart canvas")).to_be_visible()
        see(page.locator(".log"), "is odd")
        texts = page.locator("time").all_inner_texts()
        assert any(re.search(r"\d\d:\d\d:\d\d\.\d{3}$", text) for text in texts)
        drawn = page.evaluate("window.drawn")
        assert any(re.match(r"\d\d:\d\d:\d\d", text) for text in drawn), drawn
        assert not [text for text in (*texts, *drawn) if re.search("[AP]M", text)]
        numbers = [text for text in drawn if ":" not in text]
        assert numbers, drawn
        assert all(text.isdecimal() for text in numbers), drawn


def test_runs_to_compare_have_the_time_of_the_viewer(browser: Any, said: str) -> None:
    run = history.runs(store=said)[0]
    local = run.started.astimezone(ZoneInfo("Pacific/Auckland"))
    with opened(browser, said, locale="en-GB", timezone_id="Pacific/Auckland") as (page, _):
        page.goto(f"/compare?after={run.id}")
        chosen = page.locator(f"select[name=before] option[value='{run.id}']")
        see(chosen, f"{local.day} {local:%b %Y}, {local:%H:%M}, ")
        assert chosen.inner_text().startswith("said, ")
        assert "UTC" not in page.locator("form.filter").inner_text()


LIVE = """
@task
def load(n):
    if n in (5, 6):
        wait_for("go on")
        raise OSError(f"no file {n}")
    if n == 7:
        wait_for("end")
    if n % 4 == 3:
        time.sleep(0.01 * n)
        raise ValueError(f"{n} is odd")
    return n

with Flow("led") as flow:
    load.map(list(range(8)))
run(flow)
"""


def test_legend_and_failed_items_of_a_live_map_follow_its_head(browser: Any, tmp_path: Path) -> None:
    """The picture may be older than the head; nothing else may. What a person sorted and typed stays."""
    store = str(tmp_path / "history.db")
    with opened(browser, store) as (page, _), running(tmp_path, store, LIVE):
        page.locator("table a", has_text="led").first.click()
        page.locator("section[aria-labelledby=tasks] a", has_text="load").click()
        ready(page)
        legend, table = page.locator(".legend"), page.locator("#failed")
        see(legend, "1 Failed")
        see(table, "load[3]")
        table.get_by_role("link", name="took").click()
        expect(table.locator("th[aria-sort=ascending]")).to_contain_text("took")
        table.get_by_role("searchbox").fill("typed")
        stale = page.request.get(page.locator(".map-view").get_attribute("data-pixels")).body()
        page.route("**/picture?*", lambda route: route.fulfill(body=stale, headers={"X-Longest": "1"}))
        (tmp_path / "go on").touch()
        see(page.locator("main .counts").first, "3 Failed")
        see(legend, "3 Failed")
        see(table, "load[6]")
        expect(table.locator("th[aria-sort=ascending]")).to_contain_text("took")
        expect(table.get_by_role("searchbox")).to_have_value("typed")
        (tmp_path / "end").touch()
        see(badge(page), "Failed, 4 of 8")
        see(page.locator("main .facts").first, "Mapped")
        see(legend, "4 Failed")
        page.unroute("**/picture?*")


def test_no_table_is_wider_than_a_small_window(browser: Any, said: str, tmp_path: Path) -> None:
    """From 800 pixels on; smaller ones fold them."""
    command = [sys.executable, "-m", "prefectish.cli", "agent", "start", "--once", "--label", "gpu", "--label", "big"]
    for _ in range(2):
        subprocess.run([*command, "--history", said], cwd=tmp_path, check=True, capture_output=True)
    run = history.runs(store=said)[0].id
    with opened(browser, said) as (page, _):
        for width in (800, 700, 400):
            page.set_viewport_size({"width": width, "height": 800})
            for address in (
                "",
                "agents",
                f"runs/{run}",
                f"runs/{run}/failures",
                f"runs/{run}/timeline",
                f"compare?before={run}&after={run}",
            ):
                page.goto(f"/{address}")
                expect(page.locator("main")).to_be_visible()
                wide = "all => all.filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.dataset.name)"
                assert page.locator(".scroll").evaluate_all(wide) == [], (width, address)
