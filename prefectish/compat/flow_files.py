"""`prefect.utilities.storage` and `prefect.utilities.filesystems`: flows in files and as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import cloudpickle

from prefectish.flows import Flow


class ParsedPath(NamedTuple):
    """The parts of a path: of one without a scheme it is ``file``."""

    scheme: str
    netloc: str
    path: str


def parse_path(path: str) -> ParsedPath:
    """Return the parts of a path or URL."""
    found = urlparse(path)
    if len(found.scheme) < 2:  # a drive of Windows is not a scheme
        return ParsedPath("file", "", path)
    return ParsedPath(found.scheme, found.netloc, found.path)


def read_bytes_from_path(path: str) -> bytes:
    """Return the content of a path or URL."""
    parsed = parse_path(path)
    if parsed.scheme in ("file", "agent"):
        return Path(parsed.path).read_bytes()
    import fsspec

    with fsspec.open(path, "rb") as file:
        content: bytes = file.read()
    return content


def extract_flow_from_file(
    file_path: str | None = None, file_contents: str | bytes | None = None, flow_name: str | None = None
) -> Any:
    """Run a program and return the flow that it defines, the first one or that of a name.

    Parameters
    ----------
    file_path
        The file of the program.
    file_contents
        The program itself, instead of a file.
    flow_name
        Name of the flow.
    """
    if (file_path is None) == (file_contents is None):
        raise ValueError("Provide either `file_path` or `file_contents`, and only one of them.")
    text = file_contents if file_path is None else Path(file_path).expanduser().read_text()
    names: dict[str, Any] = {"__name__": "prefect_flow"}
    exec(compile(text or "", file_path or "<flow>", "exec"), names)
    return flow_in(names, flow_name)


def extract_flow_from_module(module_str: str, flow_name: str | None = None) -> Any:
    """Return the flow of ``module``, or of ``module:attribute``, which may be a function that returns it."""
    name, _, attribute = module_str.partition(":")
    module = import_module(name)
    if not attribute:
        return flow_in(vars(module), flow_name)
    found = getattr(module, attribute)
    flow = found() if callable(found) and not isinstance(found, Flow) else found
    if not isinstance(flow, Flow):
        raise TypeError(f"{module_str} must be a flow, or a function that returns one, got {flow!r}")
    if flow_name is not None and flow.name != flow_name:
        raise ValueError(f"Flow {flow_name!r} not found in {module_str!r}, which is flow {flow.name!r}")
    return flow


def flow_in(names: Mapping[str, Any], flow_name: str | None = None) -> Any:
    """Return the flow among the names of a program, the first one or that of a name; ValueError if there is none."""
    flows = {value.name: value for value in reversed(list(names.values())) if isinstance(value, Flow)}
    if not flows:
        raise ValueError("No flow found in file.")
    if flow_name is None:
        return list(flows.values())[-1]
    if flow_name not in flows:
        raise ValueError(f"Flow {flow_name!r} not found in file. Found flows: {sorted(flows)}")
    return flows[flow_name]


def flow_to_bytes_pickle(flow: Any) -> bytes:
    """Return a flow as bytes."""
    packed: bytes = cloudpickle.dumps(flow)
    return packed


def flow_from_bytes_pickle(data: bytes) -> Any:
    """Return the flow of bytes."""
    return cloudpickle.loads(data)
