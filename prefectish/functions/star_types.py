"""What annotations of ``*args`` and ``**kwargs`` say that others cannot: ``*tuple[...]`` and ``Unpack[...]``."""

from __future__ import annotations

import typing
from typing import Annotated, Any

from prefectish.engine.capture import Value, capture


def unpacked(hint: Any) -> Any:
    """Return the type of all values together that an annotation unpacks; None if it is that of each value.

    Examples
    --------
    >>> from typing import Unpack
    >>> unpacked(Unpack[tuple[int, str]]), unpacked(int)
    (tuple[int, str], None)
    """
    return typing.get_args(hint)[0] if _form(hint) == "Unpack" else None


def of_key(hint: Any, name: str) -> Any:
    """Return the type of a value that ``**kwargs`` takes, by its key; None if the annotation does not say.

    Examples
    --------
    >>> from typing import NotRequired, TypedDict, Unpack
    >>> Options = TypedDict("Options", {"count": NotRequired[int]})
    >>> of_key(Unpack[Options], "count"), of_key(Unpack[Options], "other"), of_key(int, "count")
    (<class 'int'>, None, <class 'int'>)
    """
    fields = unpacked(hint)
    if fields is None:
        return hint
    found = capture(typing.get_type_hints, typing.get_origin(fields) or fields, include_extras=True)
    return _bare(found.value.get(name)) if isinstance(found, Value) else None


def is_variable(hint: Any) -> bool:
    """Whether an annotation stands for any arguments: those of a ParamSpec, or ``*Ts``."""
    return type(unpacked(hint) or hint).__name__ in ("ParamSpecArgs", "ParamSpecKwargs", "TypeVarTuple")


def _bare(hint: Any) -> Any:
    """Return the type of a key without what says whether the key has to be there."""
    if typing.get_origin(hint) is Annotated:
        return Annotated[_bare(hint.__origin__), *hint.__metadata__]
    return _bare(typing.get_args(hint)[0]) if _form(hint) in ("Required", "NotRequired", "ReadOnly") else hint


def _form(hint: Any) -> str | None:
    """Return the word of a special form, which `typing` and `typing_extensions` each may have one of."""
    word: str | None = getattr(typing.get_origin(hint), "_name", None)
    return word
