"""Make a history to look at with ``prefectish ui``: runs that ended, that wait for an answer, and a live one.

``python docs/sample_history.py FOLDER [--items 20000] [--live SECONDS]`` writes ``FOLDER/history.db``. With ``--live``
it ends when its live run does, which is driven by an agent of the history.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from prefectish.executors import LocalDaskExecutor
from prefectish.flow_loading import load_flow, module_of
from prefectish.registry import deployments
from prefectish.results import LocalResult

#: The flows, in a file, so that tracebacks have sources and agents can load them.
TILES = '''"""Satellite tiles: fetched, made small, published."""

import random
import time
from datetime import timedelta

from prefectish import Flow, Parameter, get_logger, pause_task, task, triggers, unmapped
from prefectish.executors import LocalDaskExecutor


class TileServerError(ConnectionError):
    """The server of tiles does not answer."""


@task
def list_tiles(number):
    get_logger().info("%s tiles to fetch", number)
    return [f"z{12 + n % 3}-{n:06d}" for n in range(number)]


@task(max_retries=1, retry_delay=timedelta(0), shared_limits={"tile server": 6}, item_key=lambda name: name)
def fetch(name, pace):
    chance = random.Random(name).random()
    time.sleep(pace * (0.4 + chance + (8 if chance > 0.985 else 0)))
    if chance < 0.012:
        get_logger().warning("no answer for %s", name)
        raise TileServerError(f"the tile server does not answer for {name}")
    return name


@task
def resize(tile, pace):
    chance = random.Random(tile + "r").random()
    time.sleep(pace * chance)
    if chance < 0.02:
        raise ValueError(f"not an image: {tile}.png")
    return len(tile)


@task(log_stdout=True, trigger=triggers.all_finished)
def index(sizes):
    made = sum(isinstance(size, int) for size in sizes)
    print(f"index of {made} thumbnails")
    return made


@task
def publish(made):
    servers = pause_task(f"Publish {made:,} thumbnails? To how many servers?", input=int)
    return f"published to {servers} servers"


def tiles(number=400, pace=0.0, asks=False, name="satellite tiles"):
    with Flow(name, executor=LocalDaskExecutor("threads", num_workers=8)) as flow:
        pace = Parameter("pace", default=pace)
        names = list_tiles(Parameter("number", default=number))
        made = index(resize.map(fetch.map(names, unmapped(pace)), unmapped(pace)))
        if asks:
            publish(made)
    return flow


flow = tiles()
'''
REPORT = '''"""A report of sales."""

from datetime import date
from typing import Literal

from prefectish import Flow, Parameter, task, unmapped
from prefectish.schedules import CronSchedule


@task
def count(region, factor):
    return factor * len(region)


@task
def total(counts):
    return sum(counts)


@task
def send(sum, currency, until, dry_run):
    return f"{sum} {currency} until {until}"


with Flow("sales report", schedule=CronSchedule("0 9 * * MON-FRI", timezone="Europe/Berlin")) as report:
    factor = Parameter("factor", default=2, type=int)
    regions = Parameter("regions", default=["eu", "us", "apac"], type=list[str])
    currency = Parameter("currency", default="EUR", type=Literal["EUR", "USD", "GBP"])
    until = Parameter("until", default="2026-11-30", type=date)
    send(total(count.map(regions, unmapped(factor))), currency, until, Parameter("dry_run", default=True, type=bool))
'''


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the history."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--live", type=float, default=0.0, help="about how many seconds a live run takes")
    given = parser.parse_args(arguments)
    make(given.folder, given.items)
    if given.live:
        print("a live run begins", flush=True)
        live(given.folder, given.live)


def make(folder: Path, items: int) -> Path:
    """Write a history into a folder and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "history.db"
    (folder / "tiles.py").write_text(TILES)
    (folder / "reports.py").write_text(REPORT)
    report = load_flow(str(folder / "reports.py"))
    load_flow(str(folder / "tiles.py"))
    module = module_of(str(folder / "tiles.py"))
    kept = {"history": path, "progress": False}
    for pace in (0.001, 0.0012, 0.0009, 0.0011, 0.001, 0.004):
        module.tiles(300, pace, name="thumbnails").run(**kept)
    module.tiles(items).run(**kept)
    report.result = LocalResult(str(folder / "results"))
    for factor in (2, 3, 2):
        report.run(factor=factor, run_on_schedule=False, executor=LocalDaskExecutor(num_workers=2), **kept)
    report.deploy("sales", store=path)
    agent = [sys.executable, "-m", "prefectish.cli", "agent", "start", "--once", "--store", str(path)]
    for deployment in deployments(store=path):
        deployment.run({"factor": 4})
    subprocess.run(agent, check=True, capture_output=True)
    module.tiles(60, asks=True, name="thumbnails").run(**kept)
    return path


def live(folder: Path, seconds: float) -> None:
    """Run a flow that takes some time, and asks at its end."""
    load_flow(str(folder / "tiles.py"))
    module = module_of(str(folder / "tiles.py"))
    number = 4000
    module.tiles(number, 4 * seconds / number, asks=True).run(history=folder / "history.db", progress=False)


if __name__ == "__main__":
    main()
