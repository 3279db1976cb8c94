"""Run a flow with a canary in every place where somebody may put a secret, and show all that can be shown.

Run by ``test_canary.py`` in a process of its own: ``python canary_flow.py EXECUTOR ADDRESS STORE``. Canaries come in
the environment, so that none stands in a source line of a traceback.
"""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys

import prefectish
from prefectish import Flow, Parameter, Secret, task, unmapped
from prefectish.engine.signals import FAIL, SKIP
from prefectish.results import LocalResult
from prefectish.secrets import output_masking

if os.environ.get("UNMASKED"):  # to see that the search finds what is not masked
    output_masking.register = lambda value: None

CANARIES = dict(pair.split("=") for pair in os.environ["CANARIES"].split(","))


@task
def produce(constant):
    return {"result": os.environ["CANARY_RESULT"], "constant": constant}


@task(item_key=lambda row: row["id"])
def use(row, parameter, token, shared):
    prefectish.context.logger.info("token %s of %s", token, row["id"])
    logging.getLogger("some.library").warning("GET https://host/?key=%s", token)
    return [row, parameter, shared]


@task(log_stdout=True)
def say(token):
    print("the token is", token)


@task
def say_plainly(token):
    print("the token is", token)


@task(max_retries=1, retry_delay=0)
def fail(token, row):
    raise ValueError("cannot log in", token) from KeyError(token)


@task
def fail_by_signal(token):
    raise FAIL(f"cannot log in with {token}")


@task
def skip_by_signal(token):
    raise SKIP(f"cannot log in with {token}")


@task(isolation="process")
def fail_elsewhere(token):
    print("the token is", token)
    raise ValueError(f"cannot log in with {token}")


@task(task_run_name="${token}")
def named(token):
    return len(token)


def collect(rows):
    return rows


def build(store):
    with Flow("canaries", result=LocalResult(dir=store)) as flow:
        parameter = Parameter("parameter")
        token = Secret("TOKEN")
        produced = produce(CANARIES["CONSTANT"])
        rows = [{"id": f"row-{i}", "value": CANARIES["ARGUMENT"]} for i in range(4)]
        used = use.map(rows, unmapped(parameter), unmapped(token), unmapped(produced))
        task(collect, name="collect")(used)
        login = Secret("LOGIN")
        for leak in (say, say_plainly, fail_by_signal, skip_by_signal, fail_elsewhere, named):
            leak(token)
            leak(login["password"])
        fail.map(unmapped(token), rows)
        fail({"headers": ["Bearer " + token]}, CANARIES["ARGUMENT"])
    return flow


def show(value):
    """Print the repr of a value, and what a notebook shows of it."""
    print(repr(value))
    html = getattr(value, "_repr_html_", None)
    if html is not None:
        print(html())


def show_all(flow, state, executor):
    for value in (flow, state, executor):
        show(value)
    for each, its in state.result.items():
        show(each)
        show(its)
        children = getattr(its, "map_states", None) or []
        for child in (its, *children):
            show(child)
            if child.is_failed():
                print(child.result, repr(child.result), child.traceback)
    for form in ("mermaid", "dot"):
        print(flow.visualize(state, format=form))


def show_history():
    run = prefectish.history.runs(limit=1)[0]
    show(run)
    for cause in run.failures():
        print(repr(cause), cause.type, cause.message)
    for name in ("use-1", "fail-1", "fail-2", "fail_by_signal-1"):
        for child in run.children(name):
            print(repr(child), child.item_key, child.error)


def show_reports(state, folder):
    """Write the reports of the run, and let the command tell of it."""
    state.report(os.path.join(folder, "by-state.html"))
    run = prefectish.history.runs(limit=1)[0]
    run.report(os.path.join(folder, "by-history.html"))
    for words in (["runs"], ["show"], ["failures"], ["logs"], ["show", "--json"], ["failures", "--json"]):
        subprocess.run([sys.executable, "-m", "prefectish.cli", *words], check=False)


def main(name, address, store):
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    options = {"DaskExecutor": {"address": address}, "LocalDaskExecutor": {"scheduler": address}}.get(name, {})
    executor = getattr(importlib.import_module("prefectish.executors"), name)(**options)
    flow = build(store)
    stand_ins = {"LOGIN": '{"user": "ada", "password": "' + CANARIES["STAND_IN"] + '"}'}
    with prefectish.context(secrets=stand_ins):
        state = flow.run(executor=executor, parameters={"parameter": CANARIES["PARAMETER"]})
        show_all(flow, state, executor)
    show_history()
    sys.stdout.flush()
    show_reports(state, os.path.dirname(store))
    if name == "DaskExecutor":
        from distributed import Client

        with Client(address) as client:
            print(client.run_on_scheduler(lambda dask_scheduler: str(list(dask_scheduler.transition_log))))
    print("THE END", *(type(s).__name__ for s in state.result.values()))


if __name__ == "__main__":
    main(*sys.argv[1:])
