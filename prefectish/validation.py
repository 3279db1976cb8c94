"""Check and convert values to a type; the only module that uses pydantic.

pydantic is an extra and slow to import, so it is imported when the first type is used.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from enum import Enum
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal

from prefectish.errors import FlowDefinitionError, ParameterError, text_of
from prefectish.slugs import meant

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

#: Maximum length of a value in an error, in characters.
MAX_VALUE_LENGTH = 100
#: Maximum number of tasks that an error about a misspelt name lists.
MAX_TASKS_SHOWN = 40
#: Maximum number of reasons in an error.
MAX_REASONS = 3
#: In the schema of a type that takes more than the schema says, since it converts what it is given.
CONVERTS = "x-converts"
_CONVERTING = frozenset(
    ("function-before", "function-plain", "function-wrap", "named-tuple", "call", "generator", "complex")
)
# Of texts, and in the configuration of models: what a text is made of, or into, before its length is looked at.
_CONVERTING_TEXTS = (
    "coerce_numbers_to_str", "str_strip_whitespace", "str_to_lower", "str_to_upper",
    "strip_whitespace", "to_lower", "to_upper",
)  # fmt: skip
_TYPES: Mapping[str, Any] = {
    "string": str, "integer": int, "number": float, "boolean": bool, "null": None, "array": list, "object": dict,
}  # fmt: skip
_FORMATS: Mapping[str, Any] = {"date": date, "time": time, "duration": timedelta}
_BOUNDS = {
    "minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt", "multipleOf": "multiple_of",
    "minLength": "min_length", "maxLength": "max_length", "minItems": "min_length", "maxItems": "max_length",
}  # fmt: skip


@functools.cache
def can_validate() -> bool:
    """Whether types can be checked: pydantic is an extra."""
    from importlib.util import find_spec

    return find_spec("pydantic") is not None


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
    import json

    found: dict[str, Any] = {}
    if annotation is not None and annotation is not Any:
        try:
            adapter = adapter_for("", annotation)
            found = adapter.json_schema()
            json.dumps(found)
            if _converts(adapter.core_schema):
                found[CONVERTS] = True
        except Exception:  # a type that JSON does not have; what code of its own a type has may raise anything
            found = {}
    try:
        json.dumps(default, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        default = None
    return found if default is None else {**found, "default": default}


def _converts(core: Any) -> bool:
    """Whether a type takes more than its schema says, somewhere in what pydantic made of it."""
    if isinstance(core, list | tuple):
        return any(map(_converts, core))
    if not isinstance(core, Mapping):
        return False
    kind = core.get("type")
    if kind == "enum" and core["cls"]._missing_.__func__ is not Enum._missing_.__func__:  # type: ignore[attr-defined]
        return True
    if kind in _CONVERTING or any(core.get(name) is True for name in _CONVERTING_TEXTS):
        return True
    return any(_converts(part) for name, part in core.items() if name not in ("metadata", "serialization"))


def type_of(schema: Mapping[str, Any]) -> Any:
    """Return a type that takes what a JSON schema of :func:`schema_of` describes; Any where it takes more than it says.

    Examples
    --------
    >>> type_of({"type": "integer", "default": 3}), type_of({"anyOf": [{"type": "string"}, {"type": "null"}]})
    (<class 'int'>, str | None)
    >>> type_of({"enum": ["eu", "us"], "type": "string"}), type_of({"type": "string", CONVERTS: True})
    (typing.Literal['eu', 'us'], typing.Any)
    """
    return Any if CONVERTS in schema else _type_of(schema, schema.get("$defs", {}), ())


def _type_of(schema: Mapping[str, Any], defined: Mapping[str, Any], within: tuple[str, ...]) -> Any:
    if (reference := schema.get("$ref")) is not None:
        name = str(reference).rpartition("/")[2]
        return Any if name in within or name not in defined else _type_of(defined[name], defined, (*within, name))
    if "anyOf" in schema:
        return functools.reduce(or_, [_type_of(each, defined, within) for each in schema["anyOf"]])
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if values is not None:
        return Literal[tuple(values)] if all(isinstance(value, str) for value in values) else Any
    if "format" in schema:
        return _format(schema["format"])
    found = _TYPES.get(str(schema.get("type")), Any)
    if found is list and "items" in schema:
        found = list[_type_of(schema["items"], defined, within)]  # type: ignore[misc]  # a type that is made here
    if found is dict and isinstance(schema.get("additionalProperties"), Mapping):
        found = dict[str, _type_of(schema["additionalProperties"], defined, within)]  # type: ignore[misc]
    if found is dict and "properties" in schema:
        found = _fields(schema, defined, within)
    bounds = {_BOUNDS[name]: bound for name, bound in schema.items() if name in _BOUNDS}
    if not bounds or found is Any:
        return found
    from pydantic import Field

    return Annotated[found, Field(**bounds)]


def _format(name: Any) -> Any:
    """Return the type of texts of a format; Any for one that is not known."""
    if name == "date-time":
        return _moment()
    if name == "uuid":
        from uuid import UUID  # it looks for programs of the system, which takes two milliseconds

        return UUID
    return _FORMATS.get(name, Any)


def _fields(schema: Mapping[str, Any], defined: Mapping[str, Any], within: tuple[str, ...]) -> Any:
    """Return a type that takes the fields of a model or a dataclass as they are.

    Which are missing or unknown is left to the run: a model may take a field by several names, of which a schema tells
    one.
    """
    from typing_extensions import TypedDict  # which pydantic brings; it does not take that of Python 3.11

    types = {name: _type_of(each, defined, within) for name, each in schema["properties"].items()}
    made: Any = TypedDict(str(schema.get("title", "dict")), types, total=False)  # type: ignore[misc]  # made here
    made.__module__ = "builtins"  # it is shown without a module
    return made


def _moment() -> Any:
    """Return the type of a date with time, by all texts that `datetime` reads too."""
    from pydantic import BeforeValidator

    def read(value: Any) -> Any:
        try:
            return datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
        except ValueError:
            return value

    return Annotated[datetime, BeforeValidator(read)]


def misfits(values: Mapping[str, Any], schemas: Mapping[str, Mapping[str, Any]]) -> Iterator[ParameterError]:
    """Yield what is wrong with values, by name, of which only the schemas of their types are known here.

    What no schema describes, and everything where pydantic is missing, is left to the run.
    """
    for name, value in values.items() if can_validate() else ():
        schema = schemas.get(name)
        if schema is None or (expected := type_of(schema)) is Any:
            continue
        try:
            checked(name, expected, value)
        except ParameterError as error:
            yield error


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
    >>> type_name(int), type_name(list[int]), type_name(int | None), type_name(Annotated[int, "at least 0"])
    ('int', 'list[int]', 'int | None', 'int')
    """
    if hasattr(annotation, "__metadata__"):  # Annotated
        return type_name(annotation.__origin__)
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


def unknown_argument(kind: type, name: str) -> TypeError:
    """Return the error for an argument that a class does not take."""
    import inspect

    known = (known for known in inspect.signature(kind).parameters if known != "unknown")
    return TypeError(f"{kind.__name__} got an unexpected keyword argument {name!r}{did_you_mean(name, known)}")


def unknown_task(name: object, labels: Iterable[str], run: str = "this run") -> str:
    """Return the message about a task that a run does not have: what its tasks are called, and which was meant.

    Examples
    --------
    >>> print(unknown_task("lode", ["load", "parse"]))
    no task is called 'lode' in this run: 'load', 'parse'; did you mean 'load'?
    """
    known = list(labels)
    shown = ", ".join(map(repr, known[:MAX_TASKS_SHOWN])) or "it has none"
    more = f", ... ({len(known)} in all)" if len(known) > MAX_TASKS_SHOWN else ""
    return f"no task is called {name!r} in {run}: {shown}{more}{did_you_mean(str(name), known)}"


def unknown_tag(tag: str, tags: Iterable[str], run: str = "this run") -> str:
    """Return the message about a tag that no task of a run has.

    Examples
    --------
    >>> print(unknown_tag("disc", {"net", "disk"}))
    no task of this run has the tag 'disc'; its tags are ['disk', 'net']; did you mean 'disk'?
    """
    known = sorted(tags)
    return f"no task of {run} has the tag {tag!r}; its tags are {known}{did_you_mean(tag, known)}"


def only_task(name: str, tasks: Iterable[tuple[str, str, str]], run: str | None = None) -> str:
    """Return the slug of the one task that is meant, of slugs, labels and names; KeyError if none is, or several."""
    known = list(tasks)
    found = meant(name, known)
    if not found:
        raise KeyError(unknown_task(name, (label for _, label, _ in known), run or "this run"))
    if len(found) > 1:
        where = "" if run is None else f" in {run}"
        raise KeyError(f"several tasks are called {name!r}{where}; name one of {', '.join(found)}")
    return found[0]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint at what was probably meant; empty if nothing is near."""
    near = closest(name, known)
    return "" if near is None else f"; did you mean {near!r}?"
