"""Forms made from the types of parameters and of answers, and what they say, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from prefectish.errors import ParameterError
from prefectish.ui.records import FormField

Kind = Literal["text", "integer", "number", "boolean", "choice", "date", "datetime", "json"]
#: Kinds of fields by the type of a JSON schema, and by the name of a type.
BY_SCHEMA: Mapping[str, Kind] = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}
BY_NAME: Mapping[str, Kind] = {"str": "text", "int": "integer", "float": "number", "bool": "boolean"}
#: Before the names of parameters in a form: one may be called `csrf`, or `action`, which scripts take for the form's.
PARAMETER = "parameter:"
BY_FORMAT: Mapping[str, Kind] = {"date": "date", "date-time": "datetime"}


def answer_form(wanted: Any) -> list[FormField]:
    """Return the form for the answer that a paused task wants, by the name of its type; empty: only a yes.

    Examples
    --------
    >>> [field.kind for field in answer_form("int")], [field.kind for field in answer_form("list[str]")]
    (['integer'], ['json'])
    >>> answer_form(None)
    []
    """
    if not isinstance(wanted, str):
        return []
    kind: Kind = BY_NAME.get(wanted, "json")
    return [FormField(name="input", label=f"answer ({wanted})", kind=kind, required=True)]


def parameter_form(
    takes: list[str], needs: list[str], types: Mapping[str, Any], values: Mapping[str, Any]
) -> list[FormField]:
    """Return the form for the parameters of a deployed flow.

    Parameters
    ----------
    takes, needs
        Names of its parameters, and of those without a value.
    types
        JSON schemas of parameters with a type, by name.
    values
        Those of the deployment.
    """
    return [_field(name, types.get(name, {}), name in needs, values) for name in takes if name != "**"]


def _field(name: str, schema: Mapping[str, Any], required: bool, values: Mapping[str, Any]) -> FormField:
    kind, choices = _kind_of(schema)
    default = values.get(name, schema.get("default"))
    return FormField(
        name=name,
        label=name,
        kind=kind,
        default=default,
        value=shown(kind, default),
        required=required,
        choices=choices,
        help=str(schema.get("description", "")),
    )


def _kind_of(schema: Mapping[str, Any]) -> tuple[Kind, list[str]]:
    """Return the kind of a field for a JSON schema, and what can be chosen.

    Examples
    --------
    >>> _kind_of({"anyOf": [{"type": "integer"}, {"type": "null"}]}), _kind_of({"enum": ["a", "b"], "type": "string"})
    (('integer', []), ('choice', ['a', 'b']))
    """
    others = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if len(others) == 1:
        return _kind_of(others[0])
    if isinstance(schema.get("enum"), list) and all(isinstance(value, str) for value in schema["enum"]):
        return "choice", list(schema["enum"])
    if schema.get("format") in BY_FORMAT:
        return BY_FORMAT[schema["format"]], []
    found = schema.get("type")
    return BY_SCHEMA.get(found, "json") if isinstance(found, str) else "json", []


def shown(kind: Kind, value: Any) -> str:
    """Return a value as a field of this kind shows it."""
    if value is None:
        return ""
    return value if isinstance(value, str) and kind != "json" else json.dumps(value)


def values_of(form: list[FormField], given: Mapping[str, str]) -> dict[str, Any]:
    """Return what the fields of a form say; fields that were left empty keep their default.

    Raises
    ------
    ParameterError
        A field does not fit its type.

    Examples
    --------
    >>> form = parameter_form(["n", "day"], ["n"], {"n": {"type": "integer"}, "day": {"type": "string"}}, {})
    >>> values_of(form, {"parameter:n": "3", "parameter:day": "", "day": "of another field"})
    {'n': 3}
    """
    texts = {field.name: given.get(PARAMETER + field.name, "") for field in form}
    return {field.name: value_of(field, texts[field.name]) for field in form if texts[field.name] != ""}


def value_of(field: FormField, text: str) -> Any:
    """Return what a field says; ParameterError."""
    try:
        match field.kind:
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "boolean":
                return {"true": True, "false": False, "on": True}[text.lower()]
            case "json":
                return json.loads(text)
    except (ValueError, KeyError, RecursionError):
        wanted = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}
        raise ParameterError(f"{field.name} must be {wanted.get(field.kind, 'JSON')}, got {text[:80]!r}") from None
    if field.kind == "choice" and text not in field.choices:
        raise ParameterError(f"{field.name} must be one of {', '.join(field.choices)}, got {text[:80]!r}")
    return text
