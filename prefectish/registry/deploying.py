"""Deploy a flow: build its environment, load the flow in it, and only then register it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefectish import config
from prefectish.environments.as_json import to_json as environment_json
from prefectish.environments.base import MAX_OUTPUT, Environment, EnvironmentFailed, output_of
from prefectish.environments.local import LocalEnvironment
from prefectish.errors import FlowDefinitionError, ParameterError
from prefectish.history.signing import Signer
from prefectish.history.store import open_store
from prefectish.process_tree import kill_tree
from prefectish.registry.deployment import Content, Deployment, check_name, register
from prefectish.registry.drive import MARK
from prefectish.registry.options import DeploymentOptions
from prefectish.registry.queue import as_json, mistyped, unknown_names
from prefectish.registry.source import refuse_while_loading, source_of
from prefectish.schedules import Schedule
from prefectish.schedules.as_json import to_json as schedule_json

#: Stands for the schedule of the flow itself.
OWN = ...


def deploy(
    flow: Any,
    project_name: str,
    *,
    name: str | None = None,
    environment: Environment | None = None,
    parameters: Mapping[str, Any] | None = None,
    schedule: Any = OWN,
    labels: Iterable[str] = (),
    build: bool = True,
    push: bool = False,
    set_schedule_active: bool = True,
    store: str | os.PathLike[str] | None = None,
    hmac_key: bytes | str | None = None,
    overlap: str | None = None,
    catch_up: bool | None = None,
    on_lost: str | None = None,
    max_resumes: int | None = None,
    timeout: Any = None,
) -> Deployment:
    """Register a flow; see :meth:`prefectish.Flow.deploy`."""
    check_name("project_name", project_name)
    chosen = check_name("name of a deployment", flow.name if name is None else name)
    refuse_while_loading(flow.name)
    options = DeploymentOptions.checked(
        overlap=overlap, catch_up=catch_up, on_lost=on_lost, max_resumes=max_resumes, timeout=timeout
    )
    tags = _labels(labels)
    values = json.loads(as_json(parameters or {}))
    schedules = [schedule_json(each) for each in _schedules(flow, schedule)]
    as_json({f"schedule {n}": facts for n, facts in enumerate(schedules)})
    signer = Signer(hmac_key)
    source = source_of(flow, signer.has_key)
    place = _environment(environment, source)
    opened = open_store(store)
    if build:
        place.build(source, push)
    facts = check_in(place, source, values)
    source |= {"takes": facts["parameters"], "needs": facts["needs"], "types": facts.get("types", {})}
    _check_clocks(schedules, source, set_schedule_active)
    content = Content(source, environment_json(place), values, schedules)
    return register(opened, project_name, chosen, flow.name, content, tags, options, set_schedule_active, signer)


def check_in(environment: Environment, source: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Load a flow in its environment and return facts of it.

    Raises
    ------
    EnvironmentFailed
        It cannot be loaded there; the error has the output.
    """
    facts = {
        "source": environment.source(source),
        "secrets": list(environment.secrets),
        "parameters": dict(parameters),
    }
    shared = Path(config.home(), "agent")  # as those of runs: a job of a queue does not see /tmp of this machine
    shared.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="check-", dir=shared) as folder:
        file = Path(folder, "check.json")
        file.write_text(json.dumps(facts), encoding="utf-8")
        output = output_of(file)
        with open(output, "ab") as written:
            process = environment.launch("check", str(file)).popen(stdout=written, stderr=written)
            try:
                code = process.wait()
            except BaseException:  # Ctrl-C, while the flow's file hangs: the process is in a session of its own
                kill_tree(process.pid)
                raise
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    found = next((line for line in reversed(lines) if line.startswith(MARK)), None)
    if code or found is None:
        said = "\n".join(lines)[-MAX_OUTPUT:] or "it printed nothing"
        raise EnvironmentFailed(f"the flow cannot be loaded in {environment!r} (exit code {code}); {said}")
    loaded: dict[str, Any] = json.loads(found.removeprefix(MARK))
    return loaded


def _check_clocks(schedules: Sequence[Mapping[str, Any]], source: Mapping[str, Any], active: bool) -> None:
    """Refuse a schedule that brings parameters which the flow does not take, or not all that it needs."""
    for clock in (clock for facts in schedules for clock in facts["clocks"]):
        brought = (clock["parameter_defaults"] or {}).keys()
        if unknown := unknown_names(brought, source["takes"]):
            raise ParameterError(
                f"unknown: {', '.join(unknown)}, by parameter_defaults of the schedule; the flow has "
                f"{', '.join(source['takes']) or 'none'}"
            )
        if faults := mistyped(clock["parameter_defaults"] or {}, source["types"], source["needs"]):
            raise ParameterError(f"{'; '.join(faults)}, by parameter_defaults of the schedule")
        if active and (missing := sorted(set(source["needs"]) - brought)):
            raise ParameterError(
                f"missing: {', '.join(missing)}; a schedule must find values: give parameters=, parameter_defaults of "
                f"its clocks, or set_schedule_active=False"
            )


def _environment(environment: Environment | None, source: Mapping[str, Any]) -> Environment:
    if environment is None:
        folder = os.path.dirname(source["file"]) if "file" in source else os.getcwd()
        return LocalEnvironment(working_dir=folder)
    if not isinstance(environment, Environment):
        raise TypeError(f"environment must be one of prefectish.environments, got {environment!r}")
    return environment


def _labels(labels: Iterable[str]) -> list[str]:
    found = [labels] if isinstance(labels, str) else list(labels)
    if not all(isinstance(label, str) and label for label in found):
        raise TypeError(f"labels must be a list of non-empty strings, got {found!r}")
    return found


def _schedules(flow: Any, schedule: Any) -> Sequence[Schedule]:
    """Return the schedules of a deployment: the flow's own, none, one, or several."""
    own = getattr(flow, "schedule", None)
    given = own if schedule is OWN else schedule
    found = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
    for each in found:
        if not isinstance(each, Schedule):
            raise FlowDefinitionError(f"schedule must be a Schedule, a list of them, or None, got {each!r}")
    return found
