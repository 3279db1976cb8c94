"""Of which class an exception was, of which only the texts are known: its name, its message and its traceback."""

from __future__ import annotations

import builtins
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from prefectish.errors import RemoteError, is_cut
from prefectish.kinds import is_a

_HEADER = "Traceback (most recent call last):"
# Between the tracebacks of two exceptions of a chain, of which the last is that of the exception itself.
_CHAINED = re.compile(
    r"\n(?:The above exception was the direct cause of the following exception"
    r"|During handling of the above exception, another exception occurred):\n\n"
)


def class_of(name: str, text: str, traceback: str | None) -> type[Exception] | None:
    """Return the class of an exception, where it is loaded in this process; None where that is not certain.

    Parameters
    ----------
    name, text, traceback
        The name of its class, its text and its traceback, causes included.
    """
    if traceback is None:
        found = _without_module(name)
    elif (dotted := dotted_name(name, text, traceback)) is None:
        return None
    else:
        found = _loaded(dotted) if "." in dotted else _without_module(name)
    if not is_a(found, type) or not issubclass(found, Exception) or found.__name__ != name:
        return None
    return None if issubclass(found, RemoteError) else found


def can_be_of(kind: type[BaseException], name: str, text: str, traceback: str | None) -> bool:
    """Whether an exception may have been of a class: of that name, and of no other module as far as is known.

    A class of the main program has the module's name where the module is imported, and the reverse.
    """
    if kind.__name__ != name:
        return False
    dotted = None if traceback is None else dotted_name(name, text, traceback)
    if dotted is None or kind.__module__ == "__main__":
        return True
    if dotted == name and hasattr(builtins, name):
        return kind.__module__ == "builtins"
    return dotted in (kind.__qualname__, f"{kind.__module__}.{kind.__qualname__}")


def dotted_name(name: str, text: str, traceback: str) -> str | None:
    r"""Return the name of the class in a traceback, with its module, which builtins and the main program do not have.

    It is in the first line without indentation below the frames: what follows is of the text, or of notes.

    Examples
    --------
    >>> dotted_name("Late", "no", "Traceback (most recent call last):\n  File ...\nnetlib.Late: no\nLate: a note")
    'netlib.Late'
    """
    if is_cut(traceback):
        return None
    tracebacks = _CHAINED.split(traceback)
    quoted = len(_CHAINED.findall(text))  # a text may show another traceback
    lines = tracebacks[max(0, len(tracebacks) - 1 - quoted)].split("\n")
    own = next((line for line in lines if line and not line[0].isspace() and line != _HEADER), "")
    dotted = own.partition(":")[0]
    return dotted if dotted.rpartition(".")[2] == name else None


def _without_module(name: str) -> Any:
    """Return what has a name among builtins or in the main program; None if both have one."""
    found = [v for each in ("builtins", "__main__") if (v := _names_of(sys.modules.get(each)).get(name)) is not None]
    return found[0] if len(found) == 1 or (found and found[0] is found[-1]) else None


def _loaded(dotted: str) -> Any:
    """Return what has a name in a module that is loaded, or in a class of one."""
    for module, names in _splits(dotted):
        if module in sys.modules:
            found: Any = sys.modules[module]
            for name in names:
                found = _names_of(found).get(name)
            return found
    return None


def _splits(dotted: str) -> Iterator[tuple[str, list[str]]]:
    names = dotted.split(".")
    for count in range(len(names) - 1, 0, -1):
        yield ".".join(names[:count]), names[count:]


def _names_of(holder: Any) -> Mapping[str, Any]:
    """Return the names in a module or class, without running code of its own: some modules load others when read."""
    if is_a(holder, type):
        return vars(holder)
    with suppress(AttributeError):
        names = object.__getattribute__(holder, "__dict__")
        return names if is_a(names, dict) else {}
    return {}
