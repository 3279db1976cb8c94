"""Whether a value is of a type, and the value as that type; the only file that knows pydantic.

pydantic is an extra and slow to import, so it is imported when the first type is met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefectish.errors import FlowDefinitionError, ParameterError, text_of

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

#: Characters of a value in an error.
MAX_VALUE_LENGTH = 100
#: Reasons in an error.
MAX_REASONS = 3


def adapter_for(name: str, wanted: Any) -> TypeAdapter[Any]:
    """Return what checks values of a parameter.

    Parameters
    ----------
    name
        The parameter's.
    wanted
        Anything that can annotate an argument: a class, `list[int]`, `int | None`, `Annotated[...]`, a pydantic model.

    Raises
    ------
    FlowDefinitionError
        If it cannot be checked, or pydantic is not installed.
    """
    try:
        from pydantic import ConfigDict, TypeAdapter
        from pydantic.errors import PydanticSchemaGenerationError
    except ImportError:
        raise FlowDefinitionError(
            f"parameter {name!r} has type={type_name(wanted)}, and checking types needs pydantic: "
            f'pip install "prefectish[typed]"'
        ) from None
    try:
        try:
            return TypeAdapter(wanted)
        except PydanticSchemaGenerationError:  # a class of the user's, checked by isinstance
            return TypeAdapter(wanted, config=ConfigDict(arbitrary_types_allowed=True))
    except Exception as error:
        raise FlowDefinitionError(
            f"parameter {name!r}: type={type_name(wanted)} cannot be checked: {text_of(error).splitlines()[0]}"
        ) from error


def checked(name: str, wanted: Any, value: Any) -> Any:
    """Return the value as the type that is wanted; text that reads as a number becomes one, and so on.

    Raises
    ------
    ParameterError
        ``parameter 'n': 'many' is no int: ...``.
    """
    from pydantic import ValidationError

    adapter = adapter_for(name, wanted)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        reasons = _reasons(error)
    except Exception as error:  # a validator of the user's
        reasons = f"{type(error).__name__}: {text_of(error)}"
    raise refusal(name, value, type_name(wanted), reasons)


def refusal(name: str, value: Any, wanted: str, reason: str) -> ParameterError:
    """Return the error that says which value is not what a parameter takes."""
    text = repr(value)
    shown = text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}…"
    return ParameterError(f"parameter {name!r}: {shown} is no {wanted}: {reason}")


def type_name(wanted: Any) -> str:
    """Return the name of a type as one writes it.

    Examples
    --------
    >>> type_name(int), type_name(list[int]), type_name(int | None)
    ('int', 'list[int]', 'int | None')
    """
    return wanted.__qualname__ if isinstance(wanted, type) and not hasattr(wanted, "__args__") else repr(wanted)


def _reasons(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" if e["loc"] else e["msg"] for e in found[:MAX_REASONS]]
    more = len(found) - MAX_REASONS
    return "; ".join([*told, f"and {more} more"] if more > 0 else told)
