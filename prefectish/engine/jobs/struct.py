"""The base of slotted records: one list of fields, by which they are copied, pickled and shown.

No dataclasses: each costs half a millisecond at import. A class writes its ``__init__`` by hand, which type checkers
read and which is quickest; its parameters are the fields, and each is stored under its own name.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, ClassVar, Self


class Struct:
    """Base of records with slots.

    Examples
    --------
    >>> class Point(Struct):
    ...     __slots__ = ("x", "y")
    ...     def __init__(self, x, y=0):
    ...         self.x = x
    ...         self.y = y
    >>> Point(1).replace(y=2)
    <Point x=1, y=2>
    """

    __slots__ = ()

    fields: ClassVar[tuple[str, ...]] = ()
    _read: ClassVar[attrgetter[Any]]

    def __init_subclass__(cls) -> None:
        init = vars(cls).get("__init__")
        if init is not None:
            cls.fields = init.__code__.co_varnames[1 : init.__code__.co_argcount]
            cls._read = attrgetter(*cls.fields)

    def values(self, **changes: Any) -> tuple[Any, ...]:
        """Return the values of the fields in order, some of them replaced."""
        return tuple((self._as_dict() | changes).values())

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields replaced."""
        return type(self)(**(self._as_dict() | changes))

    def _as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.fields}

    def __reduce__(self) -> tuple[Any, ...]:
        values = self._read(self)
        return type(self), values if len(self.fields) > 1 else (values,)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(f'{name}={value!r}' for name, value in self._as_dict().items())}>"
