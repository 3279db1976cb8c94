"""Load what the command line names: flows from files, executors, parameter values."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any

from prefectish.errors import FlowDefinitionError, ParameterError
from prefectish.flows import Flow
from prefectish.functions.decorator import FlowFunction

EXECUTORS = {
    "local": ("LocalExecutor", {}),
    "threads": ("LocalDaskExecutor", {"scheduler": "threads"}),
    "processes": ("LocalDaskExecutor", {"scheduler": "processes"}),
    "dask": ("DaskExecutor", {}),
}


def load_flow(where: str) -> Flow | FlowFunction[Any, Any]:
    """Return the flow at ``FILE``, ``FILE:name`` or ``module:name``, by its variable or by its own name."""
    source, name = _split_name(where)
    module = _run_file(source) if source.endswith(".py") or os.path.isfile(source) else _import(source)
    found = {n: value for n, value in vars(module).items() if isinstance(value, Flow | FlowFunction)}
    if name:
        called = [value for value in found.values() if value.name == name]
        if name not in found and len(called) != 1:
            raise FlowDefinitionError(f"{source} has no flow {name!r}; it has {', '.join(found) or 'none'}")
        return found.get(name) or called[0]
    distinct = {id(value): value for value in found.values()}
    if len(distinct) != 1:
        raise FlowDefinitionError(
            f"{source} has {len(distinct)} flows ({', '.join(found) or 'none'}); write {source}:name"
        )
    return next(iter(distinct.values()))


def _split_name(where: str) -> tuple[str, str]:
    """Split into file or module, and name; a drive letter is not a file."""
    source, colon, name = where.rpartition(":")
    if not colon or os.path.isfile(where) or where.endswith(".py"):
        return where, ""
    return source, name


def _import(name: str) -> ModuleType:
    """Import a module as a script in the current folder would."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise FlowDefinitionError(f"no such file or module: {name}") from None


def _run_file(path: str) -> ModuleType:
    """Import a file under its own name, so that its functions can be pickled by that name."""
    if not os.path.isfile(path):
        raise FlowDefinitionError(f"no such file: {path}")
    folder, file = os.path.split(os.path.abspath(path))
    sys.path.insert(0, folder)
    name = file.removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, path, loader=SourceFileLoader(name, path))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load_executor(name: str | None, address: str | None) -> Any:
    """Return an executor by its short name; None for the flow's own."""
    if address is not None and name not in (None, "dask"):
        raise FlowDefinitionError(f"--address requires --executor dask, got --executor {name}")
    if name is None and address is None:
        return None
    if name is not None and name not in EXECUTORS:
        raise FlowDefinitionError(f"--executor must be one of {', '.join(EXECUTORS)}, got {name}")
    attribute, arguments = EXECUTORS[name or "dask"]
    module = importlib.import_module("prefectish.executors")
    return getattr(module, attribute)(**arguments, **({"address": address} if address else {}))


def parse_parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse parameters of the form ``key=value``; values are parsed as JSON if possible.

    Examples
    --------
    >>> parse_parameters(["n=3", "name=eu", "flags=[1, true]"])
    {'n': 3, 'name': 'eu', 'flags': [1, True]}
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ParameterError(f"--param must be key=value, got {pair}")
        values[key] = parse_value(text)
    return values


def parse_value(text: str) -> Any:
    """Parse a text as JSON; return it unchanged if it is not JSON.

    Examples
    --------
    >>> parse_value("[1, true]"), parse_value("eu")
    ([1, True], 'eu')
    """
    try:
        return json.loads(text)
    except ValueError:
        return text
