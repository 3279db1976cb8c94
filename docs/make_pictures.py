"""Make the pictures of the documentation: of the live view, a state, the report, the graph, and Dask's dashboard.

Run in the root of a clone, with Chromium: ``pip install playwright bokeh; python docs/make_pictures.py [chromium]``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from rich.console import Console

from prefectish import Flow
from prefectish.display import notebook
from prefectish.display.pace import RateMeter
from prefectish.display.terminal import Terminal
from prefectish.engine.driver.failure_log import CauseCount
from prefectish.engine.driver.progress_view import RunProgress, counted
from prefectish.executors import DaskExecutor, LocalDaskExecutor

PICTURES = Path(__file__).absolute().parent / "pictures"
ITEMS, WORKERS = 400, 6
PAGE = '<!DOCTYPE html><meta charset="utf-8"><body style="margin:14px;background:#fff">{}</body>'


#: The script that is shown; it has a file of its own, so that tracebacks name it.
SCRIPT = """import time

from prefectish import Flow, task


@task
def load(n):
    time.sleep(0.03)
    if n % 40 == 7:
        raise OSError("slow disk")
    return n


@task
def resize(n):
    time.sleep(0.02 + 0.001 * (n % 9))
    if n % 25 == 3:
        raise ValueError(f"not an image: {n}.png")
    return n


@task
def index(rows):
    return len(rows)


with Flow("thumbnails") as flow:
    index(resize.map(load.map(list(range(400)))))
"""


def thumbnails() -> Flow:
    """Return the flow that is shown."""
    os.chdir(tempfile.mkdtemp())
    Path("thumbnails.py").write_text(SCRIPT)
    names: dict[str, Any] = {"__name__": "thumbnails"}
    exec(compile(SCRIPT, "thumbnails.py", "exec"), names)
    flow: Flow = names["flow"]
    return flow


def shoot(chromium: str, page: str | Path, name: str, width: int, height: int) -> None:
    """Take a picture of a page, given as HTML or file."""
    if isinstance(page, str):
        file = Path(tempfile.mkdtemp(), "page.html")
        file.write_text(PAGE.format(page))
        page = file
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars",
        f"--window-size={width},{height}", f"--screenshot={PICTURES / name}",
    ]  # fmt: skip
    subprocess.run([chromium, *options, page.absolute().as_uri()], check=True, capture_output=True, timeout=600)
    print(PICTURES / name, (PICTURES / name).stat().st_size, "bytes")


def live_views(flow: Flow) -> tuple[str, Any]:
    """Return the live view of a notebook, and what a terminal is drawn from, in the middle of a run."""
    meter = RateMeter(flow.name, time.monotonic())
    run = flow.start(executor=LocalDaskExecutor("threads", num_workers=WORKERS), history=False, progress=False)
    causes: list[CauseCount] = []
    scene = None
    while not run.counts("load").get("Success", 0) > 0.6 * ITEMS:
        time.sleep(0.2)
        progress = run._control.progress
        if progress is not None:
            failed = [s for s in run.snapshot().result.items() if s[1].is_mapped()]
            causes = [
                CauseCount(
                    t.name,
                    f"{type(bad[0][1].result).__name__}: {bad[0][1].result}",
                    len(bad),
                    f"{t.name}[{bad[0][0]}]",
                    True,
                )
                for t, state in failed
                if (bad := [(n, c) for n, c in enumerate(state.map_states) if type(c).__name__ == "Failed"])
            ]
            scene = meter.scene(RunProgress(counted(progress, WORKERS), causes=causes), time.monotonic())
    html = notebook.drawn(scene, None, last=False)
    run.wait()
    return html, scene


def terminal_picture(scene: Any) -> None:
    """Write the live view of a terminal as SVG."""
    console = Console(record=True, width=104, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(Terminal(RateMeter("thumbnails", 0.0))._drawn(scene, 104, 4, room=10))
    (PICTURES / "terminal.svg").write_text(console.export_svg(title="prefectish run thumbnails.py"))


def dashboard(chromium: str, flow: Flow) -> None:
    """Take a picture of Dask's dashboard in the middle of a run; it names tasks as the flow does."""
    options = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": "127.0.0.1:0"}
    run = flow.start(executor=DaskExecutor(cluster_kwargs=options), history=False, progress=False)
    while not run.dashboard_link or not run.counts("load").get("Success"):
        time.sleep(0.2)
    with sync_playwright() as play:  # it is drawn through a web socket, which takes a browser that is driven
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1200, "height": 640})
        page.goto(run.dashboard_link)
        time.sleep(5)
        page.screenshot(path=str(PICTURES / "dashboard.png"))
        browser.close()
    run.wait()


def main() -> None:
    """Make all pictures."""
    chromium = sys.argv[1] if len(sys.argv) > 1 else shutil.which("chromium") or "chromium"
    PICTURES.mkdir(exist_ok=True)
    flow = thumbnails()
    html, scene = live_views(flow)
    shoot(chromium, html, "live.png", 760, 190)
    terminal_picture(scene)
    store = Path(tempfile.mkdtemp(), "history.db")
    state = flow.run(executor=LocalDaskExecutor("threads", num_workers=WORKERS), history=store, progress=False)
    shoot(chromium, state._repr_html_(), "state.png", 900, 470)
    shoot(chromium, Path(state.report(store.with_suffix(".html"))), "report.png", 1100, 980)
    shoot(chromium, flow.visualize(state)._repr_mimebundle_()["text/html"], "graph.png", 360, 300)
    dashboard(chromium, flow)


if __name__ == "__main__":
    main()
