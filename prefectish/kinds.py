"""Ask what a value of the user's is, without running code of the user's.

``isinstance`` reads ``__class__`` of a value that is not an instance by its type, which proxies compute: a weak one of
a dead object raises there, one that is bound to a request outside of it. In the process of the client that would end
the run, and not the child. What is asked for every child writes ``issubclass(type(value), kind)`` where it stands: a
call costs more than the question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from types import UnionType

    from typing_extensions import TypeIs

A = TypeVar("A")
B = TypeVar("B")


@overload
def is_a(value: object, kinds: type[A]) -> TypeIs[A]: ...
@overload
def is_a(value: object, kinds: tuple[type[A], type[B]]) -> TypeIs[A | B]: ...
@overload
def is_a(value: Any, kinds: tuple[type[Any], ...] | UnionType) -> bool: ...
def is_a(value: object, kinds: Any) -> bool:
    """Whether a value is an instance of a class, or of one of several, by its type alone.

    Examples
    --------
    >>> is_a(True, int), is_a("a", (int, float))
    (True, False)
    """
    return issubclass(type(value), kinds)
