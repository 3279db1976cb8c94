"""Is killed while a generator feeds its map, and resumes: ``killed_generator.py run|resume FOLDER EXECUTOR FRONT``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefectish import Flow, flow, history, reduce, task
from prefectish.executors import DaskExecutor, LocalDaskExecutor, LocalExecutor
from prefectish.results import FSResult

COUNT = 12
#: Items whose children have ended when the program is to be killed.
BEFORE = 5
EXECUTORS: dict[str, Any] = {
    "local": LocalExecutor,
    "threads": lambda: LocalDaskExecutor("threads", num_workers=2),
    "processes": lambda: LocalDaskExecutor("processes", num_workers=2),
    "dask": lambda: DaskExecutor(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}),
}


def note(folder: str, name: str, text: object) -> None:
    with open(os.path.join(folder, name), "ab", buffering=0) as file:
        file.write(f"{text}\n".encode())


@task(name="items")
def items(folder: str) -> Iterator[int]:
    """Yield some items, and in the first run wait for its end before the others."""
    note(folder, "generators", "begun")
    for x in range(COUNT):
        while x == BEFORE and not Path(folder, "killed").exists():
            time.sleep(0.01)  # noqa: TID251  # it is killed here
        yield x


@task(name="child")
def child(x: int, folder: str) -> int:
    note(folder, "children", x)
    return x


def built(folder: str, store: Any) -> Flow:
    with Flow("graph", result=store) as made:
        reduce(task(sum, name="total"), child.map(items(folder), folder=[folder] * COUNT), fan_in=3)
    return made


@flow(name="calls")
def calls(folder: str) -> int:
    return int(
        reduce(task(sum, name="total"), child.map(items.submit(folder), folder=[folder] * COUNT), fan_in=3).result()
    )


def main(act: str, folder: str, executor: str, front: str) -> None:
    home, store = os.path.join(folder, "history.db"), FSResult(f"file://{folder}/results")
    options: dict[str, Any] = {"executor": EXECUTORS[executor](), "history": home}
    runs = history.runs(store=home) if act == "resume" else []
    if front == "function":
        function = calls.with_options(result=store, **options)
        print(function(folder) if act == "run" else function.resume(runs[0].id, folder=folder, history=home).result)
    else:
        made = built(folder, store)
        state = made.run(**options) if act == "run" else made.resume(runs[0].id, **options)
        print(state["total"].map_states[-1].result)


if __name__ == "__main__":
    main(*sys.argv[1:])
