"""The process that drives a deployed run, in its environment: ``python -m prefectish.registry.driver WORD FILE``.

Words: ``check`` loads the flow of a deployment, and prints facts of it; ``run`` drives a run that was asked for;
``fail`` ends one whose drivers were lost, so that its handlers and notifiers learn of it; ``detached`` drives a flow
that another process has started. The file is private and says with what, as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from prefectish.engine.driver.interrupts import TERMINATED
from prefectish.engine.driver.options import RunOrigin
from prefectish.engine.handlers import call_handlers
from prefectish.engine.jobs.preparation import prepare
from prefectish.engine.state import Failed, Running, State
from prefectish.environments.container import SECRETS
from prefectish.errors import HistoryUnavailable, PrefectishError, RunLocked, describe
from prefectish.history.holders import own_holder
from prefectish.history.recorder import INCOMPLETE_EXIT_CODE
from prefectish.history.registry_tables import deployments as deployed
from prefectish.history.signing import Signer
from prefectish.history.store import HistoryStore, open_store, patiently
from prefectish.registry import queue
from prefectish.registry.deployment import Deployment
from prefectish.registry.drive import (
    BEAT,
    FAILED,
    LOCKED,
    LOST_RUN,
    MARK,
    TOLD_TO_END,
    drive,
    origin_of,
    record_end,
    recorded_row,
)
from prefectish.registry.source import load
from prefectish.secrets.store import find as find_secret
from prefectish.validation import schema_of

logger = logging.getLogger("prefectish.registry")


def main(arguments: list[str]) -> int:
    """Do what the word says; return the exit code."""
    word, file = arguments
    if os.environ.pop(SECRETS, None) == "stdin":
        pairs = sys.stdin.buffer.read().split(b"\0")[:-1]
        for pair in pairs:
            name, _, value = pair.decode().partition("=")
            os.environ[name] = value
    with open(file, encoding="utf-8") as content:
        facts = json.load(content)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    try:
        return WORDS[word](facts)
    except HistoryUnavailable as error:  # longer than anybody waits: an agent begins it again
        logger.error("%s", error)
        return LOCKED


def check(facts: Mapping[str, Any]) -> int:
    """Load a flow and print facts of it; what keeps it from being loaded is printed, and makes the exit code 1."""
    try:
        flow = load(facts["source"], is_signed=True)  # it is about to be signed
        _check_secrets(facts["secrets"])
        described = {"name": flow.name, **_checked_parameters(flow, facts["parameters"])}
    except Exception as error:  # the flow's file is user code
        if not isinstance(error, PrefectishError):
            logger.error("the flow cannot be loaded", exc_info=error)
        print(f"{type(error).__name__}: {error}")
        return 1
    print(MARK + json.dumps(described))
    return 0


def _checked_parameters(flow: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names of a flow's parameters, of those without a value, and types, once the given ones fit."""
    from prefectish.errors import ParameterError
    from prefectish.functions.decorator import FlowFunction

    if isinstance(flow, FlowFunction):
        kinds = flow.signature.signature.parameters.values()
        takes = {p.name: p for p in kinds if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        required = {name: p.default is p.empty for name, p in takes.items()}
        hints = flow.signature.hints()
        types = {n: schema_of(hints.get(n), None if required[n] else p.default) for n, p in takes.items()}
        if any(p.kind is p.VAR_KEYWORD for p in kinds):
            required[queue.ANY_NAME] = False
        accept: Callable[[str, Any], Any] = flow.signature.accept
    else:
        flow.validate()
        own = {parameter.name: parameter for parameter in flow.parameters()}
        required = {name: parameter.required for name, parameter in own.items()}
        types = {name: schema_of(parameter.annotation, parameter.default) for name, parameter in own.items()}

        def accept(name: str, value: Any) -> Any:
            return own[name].accept(value)

    if unknown := queue.unknown_names(given, required):
        raise ParameterError(f"unknown: {', '.join(unknown)}; the flow has {', '.join(required) or 'none'}")
    for name in given.keys() & required.keys():
        accept(name, given[name])
    needs = [name for name, needed in required.items() if needed and name not in given]
    return {"parameters": list(required), "needs": needs, "types": types}


def _check_secrets(names: list[str]) -> None:
    for name in names:
        find_secret(name)


def run(facts: Mapping[str, Any]) -> int:
    """Drive a run that was asked for."""
    found = _begun(facts)
    if found is None:
        return 0
    store, row, deployment = found
    origin = origin_of(row, deployment)

    def driven() -> State | None:
        flow = _loaded(row, deployment, facts)
        _check_secrets(list(deployment.environment.secrets))
        values = {**deployment.parameters, **json.loads(row.parameters)}
        again = row.begun_by if row.begun_by in (queue.RESUME, queue.RETRY) else None
        return drive(flow, values, row.run, store, origin, again, timeout=deployment.options.timeout)

    return _end(store, row.run, row.claim, driven, deployment, origin)


def _begun(facts: Mapping[str, Any]) -> tuple[HistoryStore, Any, Deployment] | None:
    """Note that this driver begins; return the history, the row of the run, and its deployment.

    None if the run is not for this driver any more.
    """
    store = patiently(lambda: open_store(facts["store"]))
    row = patiently(lambda: queue.confirm(store, facts["run"], facts["claim"], own_holder()))
    if row is None:
        logger.info("run %s is not for this driver any more", facts["run"])
        return None
    _show_life(store, row.run, row.claim)
    return store, row, patiently(lambda: _deployment(store, row.deployment))


def fail(facts: Mapping[str, Any]) -> int:
    """End a run whose drivers were lost: its flow's handlers see it fail."""
    found = _begun(facts)
    if found is None:
        return 0
    store, row, deployment = found
    message = f"{LOST_RUN}: {facts['message']}"

    def driven() -> State:
        flow = _loaded(row, deployment, facts)
        state: State = Failed(message)
        return call_handlers(flow, flow.state_handlers, Running("Running flow."), state).state

    return _end(store, row.run, row.claim, driven, deployment, origin_of(row, deployment), record=True)


def _loaded(row: Any, deployment: Deployment, facts: Mapping[str, Any]) -> Any:
    """Load the flow of a run, if what was deployed and what was asked for is signed as it must be.

    In a container there is no key: there it counts that the agent, which has started it, has found all signed.
    """
    if (reason := deployment.refusal() or queue.refusal(row)) is not None:
        raise PrefectishError(f"run {row.run} of {deployment.path} must not be driven here: {reason}")
    is_signed = facts["is_signed"] or Signer().has_key
    return load(deployment.environment.source(deployment.source), is_signed=is_signed)


def _end(
    store: HistoryStore,
    run_id: str,
    claim: str,
    driven: Callable[[], State | None],
    deployment: Deployment,
    origin: RunOrigin,
    record: bool = False,
) -> int:
    """Drive a run, and note how it ended, whatever that was."""

    def note_end(state: State) -> None:
        patiently(lambda: record_end(store, run_id, deployment.flow_name, state, origin))

    try:
        state = driven()
        if state is not None and (record or state.exit_code == INCOMPLETE_EXIT_CODE):
            note_end(state)
    except HistoryUnavailable as error:  # nothing of the run has begun, or all of it has ended: it is looked at again
        logger.warning("%s", error)
        return LOCKED
    except RunLocked as error:  # by a driver that was taken for dead: an agent tries again when it is
        logger.warning("%s", error)
        return LOCKED
    except (KeyboardInterrupt, SystemExit) as stop:
        state = getattr(stop, "state", None) or Failed(describe(stop))
        if state.exit_code == TERMINATED and _is_handed_on(store, run_id, claim, deployment):
            return TERMINATED
        note_end(state)  # the flow's file may end the program
    except Exception as error:  # the flow's file, a cluster that cannot be reached: it is reported nowhere else
        logger.error("run %s could not be driven", run_id, exc_info=error)
        state = Failed(f"{type(error).__name__}: {error}", error)
        note_end(state)
    if state is None:
        found = patiently(lambda: recorded_row(store, run_id))
        assert found is not None
        name, message, code = found.state, found.message, found.exit_code
    else:
        name, message, code = type(state).__name__, state.message, state.exit_code
    patiently(lambda: queue.end(store, run_id, claim, f"{name}: {message}", code))
    return code or 0


def _is_handed_on(store: HistoryStore, run_id: str, claim: str, deployment: Deployment) -> bool:
    """Let another driver continue a run that SIGTERM has ended here; False if none is to."""
    options, resumes = deployment.options, queue.row_of(store, run_id).resumes
    if options.on_lost != "resume" or resumes >= options.max_resumes:
        return False
    logger.warning("run %s: %s; another driver continues it", run_id, TOLD_TO_END)
    return queue.hand_on_run(store, run_id, claim, TOLD_TO_END)


def detached(facts: Mapping[str, Any]) -> int:
    """Drive a flow that another process has handed over in a private file."""
    import cloudpickle

    prepare(facts["prepare"])
    with open(facts["pickle"], "rb") as file:
        for path in facts["path"]:
            if path not in sys.path:
                sys.path.append(path)
        handed = cloudpickle.load(file)
    os.unlink(facts["pickle"])
    store = patiently(lambda: open_store(facts["store"]))

    def driven() -> State | None:
        return drive(handed["flow"], handed["parameters"], facts["run"], store, None, **handed["options"])

    try:
        state = patiently(driven)  # it raises before anything has begun, or once all has ended
        if state is not None and state.exit_code == INCOMPLETE_EXIT_CODE:
            patiently(lambda: record_end(store, facts["run"], handed["flow"].name, state, None))
    except (KeyboardInterrupt, SystemExit) as stop:
        found: State | None = getattr(stop, "state", None)
        return 130 if found is None else found.exit_code
    except Exception as error:  # it is reported in the history only
        logger.error("run %s could not be driven", facts["run"], exc_info=error)
        failed = Failed(f"{type(error).__name__}: {error}", error)
        record_end(store, facts["run"], handed["flow"].name, failed, None)
        return FAILED
    return 0 if state is None else state.exit_code


def _show_life(store: HistoryStore, run_id: str, claim: str) -> None:
    """Let agents see that this driver lives, from a thread; a driver that has lost its run ends at once.

    It ends as if it were killed, because others drive the run from its record, to which it must not add.
    """

    def beat() -> None:
        while True:
            threading.Event().wait(BEAT)
            try:
                has_claim = queue.beat(store, run_id, claim)
            except PrefectishError as error:
                logger.warning("no sign of life could be given: %s", error)
                continue
            if not has_claim and (row := queue.row_of(store, run_id)) is not None and row.claim != claim:
                logger.error("run %s was given to another driver, because this one stood still", run_id)
                logging.shutdown()
                os._exit(7)

    threading.Thread(target=beat, name="prefectish-life", daemon=True).start()


def _deployment(store: HistoryStore, number: int) -> Deployment:
    with store.reading() as connection:
        row = connection.execute(deployed.select().where(deployed.c.number == number)).one()
    return Deployment(store, row)


WORDS: Mapping[str, Callable[[Mapping[str, Any]], int]] = {
    "check": check,
    "run": run,
    "fail": fail,
    "detached": detached,
}

if __name__ == "__main__":
    # Not this module of the name __main__: a flow's file is loaded as one of its own, and finds its functions by name.
    from prefectish.registry import driver

    sys.exit(driver.main(sys.argv[1:]))
