"""Check and convert values to a type; the only module that uses pydantic.

pydantic is an extra and slow to import, so it is imported when the first type is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from prefectish.errors import FlowDefinitionError, ParameterError, text_of

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

#: Maximum length of a value in an error, in characters.
MAX_VALUE_LENGTH = 100
#: Maximum number of reasons in an error.
MAX_REASONS = 3


def adapter_for(name: str, annotation: Any) -> TypeAdapter[Any]:
    """Return the pydantic adapter that checks values of a parameter of this name, for any annotation.

    Raises FlowDefinitionError if the type is not supported, or pydantic is not installed.
    """
    try:
        from pydantic import ConfigDict, TypeAdapter
        from pydantic.errors import PydanticSchemaGenerationError
    except ImportError:
        raise FlowDefinitionError(
            f"parameter {name!r} has type={type_name(annotation)}, and checking types needs pydantic: "
            f'pip install "prefectish[typed]"'
        ) from None
    try:
        try:
            return TypeAdapter(annotation)
        except PydanticSchemaGenerationError:  # any other class is checked by isinstance
            return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except Exception as error:
        raise FlowDefinitionError(
            f"parameter {name!r}: type={type_name(annotation)} cannot be checked: {text_of(error).splitlines()[0]}"
        ) from error


def schema_of(annotation: Any, default: Any = None) -> dict[str, Any]:
    """Return the JSON schema of a type, for forms, with a default that is JSON; empty if it has none, or no pydantic.

    Examples
    --------
    >>> schema_of(int, 3), schema_of(None), schema_of(None, "all")
    ({'type': 'integer', 'default': 3}, {}, {'default': 'all'})
    """
    found: dict[str, Any] = {}
    if annotation is not None and annotation is not Any:
        try:
            found = adapter_for("", annotation).json_schema()
            json.dumps(found)
        except Exception:  # a type that JSON does not have; what code of its own a type has may raise anything
            found = {}
    try:
        json.dumps(default, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        default = None
    return found if default is None else {**found, "default": default}


def checked(name: str, annotation: Any, value: Any) -> Any:
    """Convert a value to a type, for example the text "3" to the number 3.

    Raises
    ------
    ParameterError
        ``parameter 'n' must be int, got 'many': ...``.
    """
    from pydantic import ValidationError

    adapter = adapter_for(name, annotation)
    try:
        accepted = adapter.validate_python(value)
        # Of an `Iterable[...]` it makes an iterator that checks item by item, and can be read only once.
        return value if type(accepted).__name__ == "ValidatorIterator" else accepted
    except ValidationError as error:
        reasons = _reasons(error)
    except Exception as error:  # a validator in user code
        reasons = f"{type(error).__name__}: {text_of(error)}"
    raise refusal(name, value, type_name(annotation), reasons)


def refusal(name: str, value: Any, kind: str, reason: str) -> ParameterError:
    """Return the error for a value that a parameter does not accept."""
    text = repr(value)
    shown = text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}…"
    return ParameterError(f"parameter {name!r} must be {kind}, got {shown}: {reason}")


def type_name(annotation: Any) -> str:
    """Return the name of a type as written in code.

    Examples
    --------
    >>> type_name(int), type_name(list[int]), type_name(int | None)
    ('int', 'list[int]', 'int | None')
    """
    is_class = isinstance(annotation, type) and not hasattr(annotation, "__args__")
    return annotation.__qualname__ if is_class else repr(annotation)


def _reasons(error: ValidationError) -> str:
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    reasons = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" if e["loc"] else e["msg"] for e in errors[:MAX_REASONS]]
    more = len(errors) - MAX_REASONS
    return "; ".join([*reasons, f"and {more} more"] if more > 0 else reasons)


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant, None if none is near.

    Examples
    --------
    >>> closest("cuont", ["count", "name"]), closest("x", ["count"])
    ('count', None)
    """
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), 1)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint at what was probably meant; empty if nothing is near."""
    near = closest(name, known)
    return "" if near is None else f"; did you mean {near!r}?"
