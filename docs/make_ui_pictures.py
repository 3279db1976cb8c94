"""Make the pictures of ``prefectish ui``: of a live run, a map, an item, a form, and the page on a phone.

Run in the root of a clone, with Chromium: ``python docs/make_ui_pictures.py [chromium]``; it takes two minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from prefectish import history

PICTURES = Path(__file__).absolute().parent / "pictures"
SAMPLE = Path(__file__).absolute().parent / "sample_history.py"
#: Items of the large map, and about how many seconds the live run takes.
ITEMS, SECONDS = 20_000, 100


@contextmanager
def served(store: Path) -> Iterator[str]:
    """Serve the page of a history, and yield its link."""
    command = [sys.executable, "-m", "prefectish.cli", "ui", "--store", str(store), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().partition("prefectish ui: ")[2].strip()
    finally:
        process.terminate()
        process.wait()


class Camera:
    """Opens pages of one width and scheme of colours."""

    def __init__(self, browser: Any, link: str, width: int, height: int, scheme: str) -> None:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page: Page = context.new_page()
        self.page.goto(link)
        self._root = self.page.url

    def shoot(self, address: str, name: str, wait_for: str, part: str | None = None) -> None:
        """Take a picture of a page, or a part of it, once something is on it."""
        self.page.goto(f"{self._root}{address}")
        self.page.locator(wait_for).first.wait_for()
        self.page.wait_for_timeout(2500)
        taken = self.page if part is None else self.page.locator(part)
        taken.screenshot(path=str(PICTURES / name))
        print(PICTURES / name, (PICTURES / name).stat().st_size, "bytes")


def main() -> None:
    """Make all pictures."""
    chromium = sys.argv[1] if len(sys.argv) > 1 else shutil.which("chromium") or "chromium"
    folder = Path(tempfile.mkdtemp())
    os.environ["PREFECTISH_HOME"] = str(folder / "home")
    store = folder / "history.db"
    making = [sys.executable, str(SAMPLE), str(folder), "--items", str(ITEMS), "--live", str(SECONDS)]
    sample = subprocess.Popen(making, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert sample.stdout is not None
    sample.stdout.readline()  # the live run begins
    with served(store) as link, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        light = Camera(browser, link, 1280, 860, "light")
        dark = Camera(browser, link, 1280, 760, "dark")
        phone = Camera(browser, link, 400, 800, "light")
        light.page.wait_for_timeout(1000 * SECONDS / 3)
        found = [run for run in history.runs(None, store=store) if run.flow_name == "satellite tiles"]
        live = next(run.id for run in found if run.ended is None)
        large = next(run.id for run in found if run.ended is not None)
        light.shoot(f"runs/{live}", "ui-run.png", ".pf-graph")
        phone.shoot(f"runs/{live}", "ui-phone.png", ".pf-graph")
        light.shoot("", "ui-runs.png", ".trends")
        dark.shoot(f"runs/{large}/tasks/2", "ui-map.png", ".legend button")
        failed = next(child for child in history.run(large, store).children("resize") if child.state == "Failed")
        light.shoot(f"runs/{large}/tasks/2/items/{failed.index}", "ui-item.png", ".source")
        light.shoot("deployments/sales/sales%20report", "ui-deployment.png", ".run-now", "section:has(> .run-now)")
        dark.shoot("approvals", "ui-approvals.png", ".is-asking")
        browser.close()
    sample.kill()
    sample.wait()


if __name__ == "__main__":
    main()
