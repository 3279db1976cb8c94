"""What stands for a large result while a function makes the name of a result: most never look at their inputs."""

from __future__ import annotations

from typing import Any

_KINDS = (int, float, str, bytes, list, dict, set)
_OWN = frozenset({"__class__", "__new__", "__init__", "__init_subclass__", "__subclasshook__", "__getattribute__"})


class Looked(BaseException):
    """Raised when a function looks at what stands for a result."""


class Away:
    """Stands for a result that is on a worker; to do anything with it but pass it on raises `Looked`.

    Parameters
    ----------
    looked
        True is added when it is looked at, whatever the function makes of the exception.
    """

    __slots__ = ("_looked",)

    def __init__(self, looked: list[bool]) -> None:
        object.__setattr__(self, "_looked", looked)

    def __getattribute__(self, name: str) -> Any:
        object.__getattribute__(self, "_looked").append(True)
        raise Looked


def _look(self: Away, *_: Any) -> Any:
    object.__getattribute__(self, "_looked").append(True)
    raise Looked


for _name in sorted({name for kind in _KINDS for name in dir(kind) if name.startswith("__")} - _OWN | {"__call__"}):
    if callable(getattr(object, _name, _look)):
        setattr(Away, _name, _look)
