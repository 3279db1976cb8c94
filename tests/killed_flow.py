"""Is killed in the middle of its bodies, and resumes: ``killed_flow.py run|resume FOLDER EXECUTOR FRONT``.

A front of two words (``"graph named"``) keeps results under names that the user chose.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from prefectish import Flow, flow, history, task
from prefectish.executors import DaskExecutor, LocalDaskExecutor, LocalExecutor
from prefectish.results import FSResult, LocalResult

COUNT = 1_200
EXECUTORS = {
    "local": LocalExecutor,
    "threads": lambda: LocalDaskExecutor("threads", num_workers=4),
    "processes": lambda: LocalDaskExecutor("processes", num_workers=2),
    "dask": lambda: DaskExecutor(cluster_kwargs={"n_workers": 2, "threads_per_worker": 2}),
}


@task
def body(n: int, folder: str) -> int:
    time.sleep(0.01)  # noqa: TID251  what a body takes
    with open(os.path.join(folder, "log"), "ab", buffering=0) as log:
        log.write(f"{n:06}\n".encode())
    return n


@flow(name="calls")
def calls(folder: str) -> int:
    futures = [body.submit(n, folder) for n in range(COUNT)]
    return sum(future.result() for future in futures)


def built(folder: str, store: Any) -> Flow:
    with Flow("graph", result=store) as made:
        task(sum, name="total", result=LocalResult(os.path.join(folder, "sums")))(
            body.map(list(range(COUNT)), folder=[folder] * COUNT)
        )
    return made


def main(act: str, folder: str, executor: str, front: str) -> None:
    where, home = os.path.join(folder, "results"), os.path.join(folder, "history.db")
    front, _, named = front.partition(" ")
    place = {"location": "data/{n:06d}.pkl"} if named else {}
    store = LocalResult(where, **place) if executor in ("local", "threads") else FSResult(f"file://{where}", **place)
    options: dict[str, Any] = {"executor": EXECUTORS[executor](), "history": home}
    runs = history.runs(store=home) if act == "resume" else []
    if front == "calls":
        function = calls.with_options(result=store, **options)
        print(function(folder) if act == "run" else function.resume(runs[0].id, folder=folder, history=home).result)
    else:
        made = built(folder, store)
        state = made.run(**options) if act == "run" else made.resume(runs[0].id, **options)
        print(next(s.result for t, s in state.result.items() if t.name == "total"))


if __name__ == "__main__":
    main(*sys.argv[1:])
