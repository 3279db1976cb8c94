"""Ask what the page costs: time and size of each page of a large history."""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import fresh
from benchmarks.table import Row

#: Most milliseconds of the server, and most bytes, of a page.
SERVER_TIME, SIZE = 300.0, 1e6
#: One item in so many fails.
EVERY = 1000


def rows(quick: bool = False) -> list[Row]:
    """Return the rows of a large history."""
    runs, width = (20, 10_000) if quick else (1_000, 1_000_000)
    found = fresh("benchmarks.browser", str(runs), str(width))
    what = f"{runs:,} runs and one of {width:,} items"
    first, again = max(each[0] for each in found.values()), max(each[1] for each in found.values())
    sizes = max(each[2] for each in found.values())
    return [
        Row("browser", f"slowest page of {what}, the first time", first, "ms", SERVER_TIME, None, found),
        Row("browser", f"slowest page of {what}, again", again, "ms", SERVER_TIME),
        Row("browser", f"largest page of {what}, as a browser gets it", sizes, "bytes", SIZE),
    ]


# -- pages of a large history ------------------------------------------------------------------------------------------


def pages(runs: int, width: int) -> dict[str, tuple[float, float, int, int]]:
    """Return milliseconds of the server for the first and the second request of each page, and its size.

    The size is that of what is sent to a browser, which takes it compressed, and of what it makes of it.
    """
    from starlette.testclient import TestClient

    from prefectish.ui.app import create_app
    from prefectish.ui.source import MOMENT

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "history.db"))
        large_history(path, runs, width)
        found = {}
        run = "runs/large"
        for page in (
            "", "?flow=flow3&state=Success", run, f"{run}/logs", f"{run}/failures",
            f"{run}/failures?text=item-7&sort=seconds&descending=true", f"{run}/timeline", f"{run}/tasks/1",
            f"{run}/tasks/1/items/{width // 2}", f"{run}/tasks/1/find?text=item-77",
            "compare?before=00000001&after=large", "deployments", "agents", "limits", "approvals",
            f"api/{run}/tasks/1/picture",
        ):  # fmt: skip
            app = create_app(path, token="t" * 32)  # what an earlier page has read is not known to this one
            with TestClient(app, base_url="http://localhost", headers={"accept-encoding": "gzip"}) as client:
                client.get("/", params={"token": "t" * 32})
                client.get("/limits")
                times = []
                for _ in range(2):
                    time.sleep(2 * MOMENT)  # in one moment, all who ask the same get one answer
                    times.append(_milliseconds(client, f"/{page}"))
            found[page or "runs"] = (times[0][0], *times[1])
    return found


def _milliseconds(client: Any, address: str) -> tuple[float, int, int]:
    began = time.perf_counter()
    answer = client.get(address)
    taken = 1e3 * (time.perf_counter() - began)
    if answer.status_code != 200:
        raise AssertionError(f"{address}: {answer.status_code} {answer.text[:200]}")
    return taken, answer.num_bytes_downloaded, len(answer.content)


def large_history(path: str, runs: int, width: int) -> None:
    """Write a history of many runs, and one with a wide map."""
    from sqlalchemy import insert

    from prefectish.history import schema
    from prefectish.history.store import open_store

    success, failed, now = schema.CODES["Success"], schema.CODES["Failed"], time.time()
    store = open_store(path)
    common = {"message": "All reference tasks succeeded.", "heartbeat": now, "part": 0}
    with store.writing() as connection:
        for n in range(runs):
            began = now - 90 * (runs - n) - 4000
            connection.execute(
                insert(schema.runs).values(
                    id=f"{n:08x}-small", flow_name=f"flow{n % 12}", name=f"run {n}", started=began,
                    state=failed if n % 5 == 0 else success, ended=began + 30 + n % 17,
                    counts='{"items": {"succeeded": 10}, "tasks": {"succeeded": 1}}', **common,
                )
            )  # fmt: skip
        counts = json.dumps({"items": {"succeeded": width - width // EVERY, "failed": width // EVERY}, "tasks": {}})
        large = {"id": "large", "flow_name": "large", "name": "large", "counts": counts, "state": success}
        connection.execute(insert(schema.runs).values(started=now - 3600, ended=now - 10, **large, **common))
        steps = [{"step": 0, "slug": "numbers-1", "name": "numbers", "mapped": 0, "state": success}]
        reads = '[["numbers-1", "x", true]]'
        steps.append({"step": 1, "slug": "load-1", "name": "load", "mapped": 1, "width": width, "reads": reads})
        for step in steps:
            mapped_state = {"state": schema.CODES["Mapped"]} if step["mapped"] else {}
            connection.execute(insert(schema.steps).values(run=runs + 1, since=0, **{**step, **mapped_state}))
        for n in range(3):
            facts = {"fingerprint": f"f{n}", "type": "OSError", "message": f"no file {n}", "traceback": "Traceback"}
            connection.execute(insert(schema.errors).values(number=n + 1, **facts))
        for n in range(20):
            connection.execute(insert(schema.texts).values(number=n + 1, digest=f"d{n}", text=f"host:{n}"))
    _write_children(path, runs + 1, width, now)


def _write_children(path: str, run: int, width: int, now: float) -> None:
    """Write the items of the wide map, past SQLAlchemy."""
    import sqlite3

    from prefectish.history import schema

    success, failed = schema.CODES["Success"], schema.CODES["Failed"]
    chance = random.Random(17)
    names = [column.name for column in schema.children.columns]

    def child(step: int, row: int) -> list[Any]:
        broken = step == 1 and row % EVERY == 7
        known = {
            "run": run, "step": step, "row": row, "part": 0, "made": 0, "attempts": 1 + (row % 50 == 0),
            "state": failed if broken else success, "seconds": round(chance.expovariate(5), 6),
            "at": round(now - 3600 + 3500 * row / width, 3), "worker": 1 + row % 20, "item_key": f"item-{row}",
            "error": 1 + row // EVERY % 3 if broken else None, "location": "", "cpu": 0.01, "size": 28,
        }  # fmt: skip
        return [known.get(name) for name in names]

    with sqlite3.connect(path) as database:
        places = ", ".join("?" * len(names))
        rows_of = (child(1, row) for row in range(width))
        database.executemany(f"INSERT INTO children ({', '.join(names)}) VALUES ({places})", [child(0, 0)])
        database.executemany(f"INSERT INTO children ({', '.join(names)}) VALUES ({places})", rows_of)


if __name__ == "__main__":
    print(json.dumps(pages(*map(int, sys.argv[1:]))))
