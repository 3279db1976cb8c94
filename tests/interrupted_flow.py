"""Run a flow that somebody interrupts: ``interrupted_flow.py EXECUTOR FOLDER SECONDS [ISOLATION]``.

Each body leaves a line in FOLDER/bodies when it begins, and sleeps SECONDS, the first two only half a second. What is
known of the interrupted run goes to standard output as JSON.
"""

from __future__ import annotations

import json
import os
import sys

from real import spend

from prefectish import Flow, task, triggers, unmapped
from prefectish.executors import DaskExecutor, LocalDaskExecutor, LocalExecutor

WIDTH = 40
EXECUTORS = {
    "local": LocalExecutor,
    "threads": lambda: LocalDaskExecutor("threads", num_workers=2),
    "processes": lambda: LocalDaskExecutor("processes", num_workers=2),
    "dask": lambda: DaskExecutor(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}),
}


@task
def body(x, folder, seconds):
    handle = os.open(os.path.join(folder, "bodies"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{x}\n".encode())
    os.close(handle)
    spend(0.5 if x < 2 else seconds)
    return x


@task(trigger=triggers.all_finished)
def clean_up(values):
    raise AssertionError("a task that has not started does not start after an interrupt")


def build(folder, seconds, isolation="thread"):
    with Flow("interrupted") as flow:
        children = body.copy(isolation=isolation).map(list(range(WIDTH)), unmapped(folder), unmapped(seconds))
        end = clean_up(children)
    return flow, children, end


def told_of(error, children, end):
    """Return what the state of an interrupted run says."""
    state = error.state
    names = [type(child).__name__ for child in state.result[children].map_states]
    messages = {str(c.message) for c in state.result[children].map_states if type(c).__name__ == "Cancelled"}
    return {
        "error": type(error).__name__,
        "code": state.exit_code,
        "children": {name: names.count(name) for name in sorted(set(names))},
        "messages": sorted(messages),
        "end": repr(state.result[end]),
        "run": state.context["flow_run_id"],
    }


def main(executor, folder, seconds, isolation="thread"):
    flow, children, end = build(folder, float(seconds), isolation)
    try:
        made = EXECUTORS[executor]() if executor in EXECUTORS else DaskExecutor(executor)  # an address
        flow.run(executor=made, history=os.path.join(folder, "history.db"))
    except BaseException as error:
        with open(os.path.join(folder, "told.json"), "w") as file:
            json.dump(told_of(error, children, end), file)
        raise
    raise AssertionError("the run was not interrupted")


if __name__ == "__main__":
    main(*sys.argv[1:])
