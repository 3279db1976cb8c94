"""Where the flow of a deployment is: a file or a module, with the hash of its text; or the flow itself, pickled.

A pickled flow is code that the database brings, so it is only loaded with a signature.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import logging
import os
import sys
from collections.abc import Mapping
from types import CodeType, FunctionType
from typing import Any

from prefectish.engine.jobs.preparation import prepare, required
from prefectish.errors import FlowDefinitionError, PrefectishError
from prefectish.fingerprint import fingerprint
from prefectish.flow_loading import load_flow
from prefectish.flow_source import LOADING, is_loading, origin_of

logger = logging.getLogger("prefectish.registry")


class SourceChanged(PrefectishError):
    """Raised when the file of a deployed flow is not the one that was signed."""

    exit_code = 2


def source_of(flow: Any, has_key: bool) -> dict[str, Any]:
    """Return where a flow is found again, and what must be imported before it.

    Raises
    ------
    FlowDefinitionError
        It is not a global variable of a file or module, and without a key it cannot be pickled either.
    """
    before = {"prepare": list(modules)} if (modules := required()) else {}
    return {**_place_of(flow, has_key), **before}


def _place_of(flow: Any, has_key: bool) -> dict[str, Any]:
    origin = origin_of(flow)
    if origin is not None:
        where, _, name = origin.rpartition(":")
        if os.path.isfile(where):
            return {"file": os.path.abspath(where), "name": name, "digest": _digest(where)}
        return {"module": where, "name": name, "digest": _digest(_file_of(where))}
    if not has_key:
        raise FlowDefinitionError(
            f"flow {flow.name!r} cannot be found again: it must be a global of a file or module; write it into a file, "
            f"or set PREFECTISH_HMAC_KEY, here and for agents, to deploy it pickled and signed"
        )
    import cloudpickle

    content = cloudpickle.dumps(flow)
    digest = hashlib.sha256(f"{flow.name} {flow.version} {_reached(flow)}".encode()).hexdigest()
    return {"pickle": base64.b64encode(content).decode(), "digest": digest, "name": flow.name}


def load(source: Mapping[str, Any], is_signed: bool) -> Any:
    """Load the flow of a deployment.

    Parameters
    ----------
    is_signed
        Whether the source was signed with the key of this process.

    Raises
    ------
    SourceChanged
        The file changed since it was deployed, and what was deployed was signed; or a pickled flow is not signed.
    FlowDefinitionError
        There is no such flow.
    """
    prepare(source.get("prepare", ()))
    if "pickle" in source:
        if not is_signed:
            raise SourceChanged(
                "a pickled flow must be signed: set PREFECTISH_HMAC_KEY to the key with which it was deployed"
            )
        import cloudpickle

        return cloudpickle.loads(base64.b64decode(source["pickle"]))
    where = source.get("file") or source["module"]
    path = source["file"] if "file" in source else _file_of(source["module"])
    _check_unchanged(path, source["digest"], is_signed)
    os.environ[LOADING] = "1"
    try:
        return load_flow(f"{where}:{source['name']}")
    finally:
        del os.environ[LOADING]


def refuse_while_loading(name: str) -> None:
    """Raise FlowDefinitionError if a flow is deployed by the very file that a driver is loading."""
    if is_loading():
        raise FlowDefinitionError(
            f"flow {name!r} is deployed whenever its file is loaded; put it under `if __name__ == '__main__':`"
        )


def _reached(flow: Any) -> str:
    """Return a hash of the functions, tasks and plain values that bodies of a flow find as globals.

    A pickle takes them along. It cannot be hashed itself: it names cells of notebooks by the process that ran them.
    """
    todo = [getattr(each, "fn", None) for each in getattr(flow, "tasks", (flow,))]
    seen: dict[int, Any] = {}
    facts = []
    while todo:
        function = todo.pop()
        if not isinstance(function, FunctionType) or id(function) in seen:
            continue
        seen[id(function)] = function
        for name in sorted(_names(function.__code__) & function.__globals__.keys()):
            value = function.__globals__[name]
            body = getattr(value, "fn", value)
            if isinstance(body, FunctionType) and body.__module__ == function.__module__:
                todo.append(body)
                facts.append(f"{name} {fingerprint(body)}")
            elif isinstance(value, bool | int | float | str | bytes | None):
                facts.append(f"{name} {fingerprint(value)}")
    return " ".join(sorted(set(facts)))


def _names(code: CodeType) -> set[str]:
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)


def _check_unchanged(path: str, digest: str, is_signed: bool) -> None:
    if not os.path.exists(path) or _digest(path) == digest:
        return  # one that is missing is named where it is loaded
    if is_signed:
        raise SourceChanged(f"{path} has changed since it was deployed and signed; deploy it again")
    logger.warning("%s has changed since it was deployed; the changed flow runs: deploy it again", path)


def _file_of(module: str) -> str:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise FlowDefinitionError(f"no module {module!r} is found here; give the environment its working_dir")
    return spec.origin


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
