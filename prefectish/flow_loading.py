"""Load flows from files and modules, as a script of the user's would."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any

from prefectish.engine.worker.tracebacks import keeps_all, one_line
from prefectish.errors import FlowDefinitionError
from prefectish.flows import Flow
from prefectish.functions.decorator import FlowFunction
from prefectish.validation import did_you_mean


def load_flow(where: str) -> Flow | FlowFunction[Any, Any]:
    """Return the flow at ``FILE``, ``FILE:name`` or ``module:name``, by its variable or by its own name."""
    source, name = _split_name(where)
    module = _run_file(source) if _is_file(source) else _import(source)
    found = {n: value for n, value in vars(module).items() if isinstance(value, Flow | FlowFunction)}
    if name:
        called = [value for value in found.values() if value.name == name]
        if name not in found and len(called) != 1:
            known = f"it has {', '.join(found)}" if found else "it has no flow at its top level"
            raise FlowDefinitionError(f"{source} has no flow {name!r}; {known}{did_you_mean(name, found)}")
        return found.get(name) or called[0]
    distinct = {id(value): value for value in found.values()}
    if not distinct:
        raise FlowDefinitionError(f"{source} has no flow; make one at its top level, not in a function")
    if len(distinct) > 1:
        raise FlowDefinitionError(f"{source} has {len(distinct)} flows ({', '.join(found)}); write {source}:name")
    return next(iter(distinct.values()))


def module_of(where: str) -> ModuleType:
    """Return the module of a flow that was loaded by :func:`load_flow`."""
    source, _ = _split_name(where)
    return sys.modules[os.path.basename(source).removesuffix(".py") if _is_file(source) else source]


def _is_file(source: str) -> bool:
    return source.endswith(".py") or os.path.isfile(source)


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
            raise _import_error(name, error) from error
        raise FlowDefinitionError(f"no such file or module: {name}") from None
    except Exception as error:  # it is the user's
        raise _import_error(name, error) from error


def _import_error(name: str, error: Exception) -> Exception:
    """Return an error of one line, with its place in the file; the error itself if tracebacks are asked for."""
    if isinstance(error, ModuleNotFoundError) and error.name == "prefect":
        return FlowDefinitionError(
            f"{name} imports prefect, which is not installed here: --prefect1 runs a file of Prefect 1 as it is, and "
            f"`prefectish move {name}` rewrites it"
        )
    return error if keeps_all() else FlowDefinitionError(f"{name} could not be imported: {one_line(error)}")


def _run_file(path: str) -> ModuleType:
    """Import a file under its own name, so that its functions can be pickled by that name."""
    if not os.path.isfile(path):
        raise FlowDefinitionError(f"no such file: {path}")
    place = os.path.abspath(path)  # tracebacks show it, and may be read from another folder
    folder, file = os.path.split(place)
    sys.path.insert(0, folder)
    name = file.removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, place, loader=SourceFileLoader(name, place))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # it is the user's
        raise _import_error(path, error) from error
    return module
