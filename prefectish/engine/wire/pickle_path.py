"""Which part of a value cannot be pickled: the path to it, for an error that names what to change."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

from prefectish.engine.capture import Error, capture
from prefectish.engine.jobs.envelope import dumps

#: How deep to look, and at how many parts of one value.
_DEPTH = 12
_PARTS = 1000


def pickle_path(value: Any, name: str) -> str | None:
    """Return the path, from `name` on, to the innermost part that cannot be pickled; None if it is the whole value.

    Examples
    --------
    >>> pickle_path({"rows": [1, (x for x in "ab")]}, "data")
    "data['rows'][1]"
    """
    path, part, seen = name, value, {id(value)}
    for _ in range(_DEPTH):
        new = ((p, inner) for p, inner in _parts(part, path) if id(inner) not in seen)
        found = next(((p, inner) for p, inner in new if isinstance(capture(dumps, inner), Error)), None)
        if found is None:
            break
        path, part = found
        seen.add(id(part))
    return None if path == name else path


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what a value is made of, with its path; reading it may run the user's code, which is not our matter."""
    outcome = capture(lambda: [each for each, _ in zip(_inside(value, path), range(_PARTS), strict=False)])
    yield from () if isinstance(outcome, Error) else outcome.value


def _inside(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, FunctionType):
        yield from _captured(value, path)
    elif isinstance(value, MethodType):
        yield f"{path}.__self__", value.__self__
    elif isinstance(value, partial):
        yield f"{path}.func", value.func
        yield from ((f"{path}.args[{n}]", part) for n, part in enumerate(value.args))
        yield from ((f"{path}.keywords[{name!r}]", part) for name, part in value.keywords.items())
    elif isinstance(value, dict):
        yield from ((f"{path}[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"{path}[{n}]", part) for n, part in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((f"{path}{{{part!r}}}", part) for part in value)
    if not isinstance(value, type):
        yield from ((f"{path}.{name}", part) for name, part in _attributes(value))


def _captured(function: FunctionType, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what a function brings along: variables around it, globals that it names, defaults."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        outcome = capture(lambda cell=cell: cell.cell_contents)  # one that is not set yet has none
        if not isinstance(outcome, Error):
            yield f"{path}.{name}", outcome.value
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            yield f"{path}.{name}", function.__globals__[name]
    defaults = {**(function.__kwdefaults__ or {})}
    arguments = function.__code__.co_varnames[: function.__code__.co_argcount]
    given = function.__defaults__ or ()
    defaults.update(zip(arguments[len(arguments) - len(given) :], given, strict=True))
    yield from ((f"{path}({name}=)", part) for name, part in defaults.items())


def _names(code: CodeType) -> set[str]:
    """Return the names that code, and code inside it, looks up."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _names(constant)
    return found


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                yield name, getattr(value, name)
