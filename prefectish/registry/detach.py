"""Hand a run to a driver process of its own, which does not end with this one."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from typing import Any

import cloudpickle

from prefectish import config
from prefectish.engine.driver.run import new_run_id
from prefectish.engine.jobs.preparation import required
from prefectish.environments.local import LocalEnvironment
from prefectish.errors import PrefectishError
from prefectish.history.store import open_store
from prefectish.registry import queue
from prefectish.registry.attached import AttachedRun
from prefectish.registry.deploying import deploy
from prefectish.registry.deployment import Deployment, deployments
from prefectish.registry.drive import recorded_row
from prefectish.results import LocalResult
from prefectish.schedules.as_json import from_json as schedule_of

#: Seconds in which a driver has to begin its run.
BEGINS_WITHIN = 60.0
POLL_INTERVAL = 0.05


class DriverFailed(PrefectishError):
    """Raised when the driver of a detached run ended before the run began."""

    exit_code = 3


def detach(
    flow: Any, parameters: Mapping[str, Any], project: str | bool, history: Any, options: Mapping[str, Any]
) -> AttachedRun:
    """Start a flow in a process of its own, or have an agent start it, and return a handle.

    Parameters
    ----------
    project
        True for a driver on this machine; the name of a project for an agent.
    history
        Where the run is recorded, by which it is reached; not False.
    options
        Options of the run that can be sent to another process.

    Raises
    ------
    TypeError
        There is no history, there is a page, or the executor holds on to a client of this process.
    DriverFailed
        The driver ended before the run began; the error has its output.
    """
    if history is False:
        raise TypeError("detach must have a history, by which the run is reached from here, got history=False")
    if options.get("page"):
        raise TypeError("detach must have no page=True, whose page ends with this process; use `prefectish ui`")
    own = getattr(flow, "options", flow)  # of a flow function, or of a flow
    executor = options.get("executor") or getattr(own, "executor", None)
    if getattr(executor, "_client", None) is not None or getattr(executor, "client", None) is not None:
        raise TypeError(f"detach must have an executor without client=, which ends with this process, got {executor!r}")
    store = None if history in (None, True) else history
    if isinstance(project, str):
        return _by_agent(flow, parameters, project, store, options)
    return _by_process(flow, parameters, store, options)


def _by_agent(
    flow: Any, parameters: Mapping[str, Any], project: str, store: Any, options: Mapping[str, Any]
) -> AttachedRun:
    if unsent := sorted(name for name, value in options.items() if value is not None and name != "timeout"):
        raise TypeError(f"detach={project!r} must leave {', '.join(unsent)} to the flow, which the agent loads anew")
    queue.as_json(parameters)
    former = next((each for each in deployments(project, store) if each.name == flow.name), None)
    if former is None:
        deployment = deploy(flow, project, set_schedule_active=False, store=store, timeout=options.get("timeout"))
    else:
        deployment = _as_it_is_deployed(flow, former, store, options.get("timeout"))
    return AttachedRun(deployment._store, deployment.run(parameters))


def _as_it_is_deployed(flow: Any, former: Deployment, store: Any, timeout: Any) -> Deployment:
    """Deploy a flow as it is now, with all else as it was chosen: who starts one run must not change the others."""
    if timeout is not None:
        raise TypeError(f"detach must leave timeout to {former.path}, which is deployed with its own, got {timeout!r}")
    return deploy(
        flow, former.project, name=former.name, environment=former.environment, parameters=former.parameters,
        schedule=[schedule_of(facts) for facts in former.schedules], labels=former.labels, store=store,
        set_schedule_active=former.active, **former.options._asdict(),
    )  # fmt: skip


def _by_process(flow: Any, parameters: Mapping[str, Any], store: Any, options: Mapping[str, Any]) -> AttachedRun:
    opened, run_id = open_store(store), new_run_id()
    folder = os.path.join(config.home(), "drivers")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    handle, pickle = tempfile.mkstemp(".pickle", f"{run_id}-", folder)
    with os.fdopen(handle, "wb") as file:
        given = {name: value for name, value in options.items() if value is not None}
        cloudpickle.dump({"flow": with_results(flow), "parameters": dict(parameters), "options": given}, file)
    facts = {"store": opened.address, "run": run_id, "pickle": pickle, "path": sys.path, "prepare": required()}
    file_name = os.path.join(folder, f"{run_id}.json")
    with open(os.open(file_name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as written:
        json.dump(facts, written)
    output = os.path.join(folder, f"{run_id}.log")
    with open(os.open(output, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as log:
        process = LocalEnvironment().launch("detached", file_name).popen(stdout=log, stderr=log)
    # its end is seen to: a child process that is not waited for would stay in the table of processes
    threading.Thread(target=process.wait, name="prefectish-driver", daemon=True).start()
    run = AttachedRun(opened, run_id)
    end = time.monotonic() + BEGINS_WITHIN
    while recorded_row(opened, run_id) is None:
        if process.poll() is not None and recorded_row(opened, run_id) is None:
            with open(output, encoding="utf-8", errors="replace") as log_text:
                said = log_text.read()[-4000:]
            raise DriverFailed(f"the driver of run {run_id} ended with code {process.returncode}: {said}")
        if time.monotonic() > end:
            process.kill()
            raise DriverFailed(f"the driver of run {run_id} did not begin within {BEGINS_WITHIN:g} s; see {output}")
        time.sleep(POLL_INTERVAL)
    return run


def with_results(flow: Any) -> Any:
    """Return the flow with a store of results, so that another process can read them: its own, or the home folder's."""
    if flow.result is not None:
        return flow
    if hasattr(flow, "with_options"):
        return flow.with_options(result=LocalResult())
    copied = flow.copy()
    copied.result = LocalResult()
    return copied
