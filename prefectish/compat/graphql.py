"""`prefect.utilities.graphql`: queries as text, from dictionaries and lists."""

from __future__ import annotations

import base64
import gzip
import json
import re
import textwrap
import uuid
from collections.abc import Iterable, Mapping
from typing import Any


class GQLObject:
    """An object that stands for its name in a query."""

    def __init__(self, name: str | None = None, _arguments: str | None = None) -> None:
        self.__name = name or type(self).__name__.lower()
        self.__arguments = _arguments

    def __call__(self, arguments: Any) -> GQLObject:
        """Return the object with arguments."""
        return type(self)(self.__name, parse_graphql_arguments(arguments))

    def __repr__(self) -> str:
        return f'<GQL: "{self}">'

    def __str__(self) -> str:
        return f"{self.__name}({self.__arguments})" if self.__arguments else self.__name


class EnumValue:
    """A value of an enumeration, which stands without quotes."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __str__(self) -> str:
        return self.value


class LiteralSetValue(EnumValue):
    """Values in the form of a set in SQL: ``"{a, b}"``."""

    def __init__(self, value: Iterable[Any]) -> None:
        super().__init__(json.dumps(f"{{{', '.join(str(member) for member in value)}}}"))


def with_args(field: Any, arguments: Any) -> str:
    """Return a field with arguments.

    Examples
    --------
    >>> with_args("task", {"where": {"name": {"_eq": "load"}}})
    'task(where: { name: { _eq: "load" } })'
    """
    return f"{field}({parse_graphql_arguments(arguments)})"


def parse_graphql_arguments(arguments: Any) -> str:
    """Return arguments as they stand in a query.

    Examples
    --------
    >>> parse_graphql_arguments({"limit": 5, "order_by": EnumValue("asc"), "ids": ["a"]})
    'limit: 5, order_by: asc, ids: ["a"]'
    """
    if isinstance(arguments, str):
        return arguments
    parsed = _argument(arguments)
    return parsed[2:-2] if isinstance(arguments, Mapping) and arguments else parsed.strip("{} ")


def _argument(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key}: {_argument(member)}" for key, member in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, str | uuid.UUID):
        return json.dumps(str(value))
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, Iterable):
        return f"[{', '.join(_argument(member) for member in value)}]"
    return str(value)


def parse_graphql(document: Any) -> str:
    """Return a query as text, from strings, lists of fields, and dictionaries of what is below a field.

    Examples
    --------
    >>> print(parse_graphql({"query": {"book": ["title", {"author": {"name": True, "born": False}}]}}))
    query {
        book {
            title
            author {
                name
            }
        }
    }
    """
    return "\n".join(_lines(document))


def _lines(document: Any) -> Iterable[str]:
    if isinstance(document, Mapping):
        for field, below in document.items():
            if isinstance(field, type):
                raise TypeError(f"a query must be made of objects, got the class {field.__name__}; call it")
            if below is True or below is ...:
                yield str(field)
            elif below is not False and below is not None:
                yield f"{field} {{"
                yield from (f"    {line}" for line in _lines(below))
                yield "}"
    elif isinstance(document, str | GQLObject):
        yield from re.sub(r"\n\s*\n", "\n", textwrap.dedent(str(document)).strip()).splitlines()
    elif isinstance(document, type):
        raise TypeError(f"a query must be made of objects, got the class {document.__name__}; call it")
    elif isinstance(document, Iterable):
        for member in document:
            yield from _lines(member)
    else:
        raise TypeError(f"a query must be made of strings, lists and dictionaries, got {type(document).__name__}")


def compress(input: Any) -> str:
    """Return a value as compressed JSON in base64; `decompress` reads it."""
    return base64.b64encode(gzip.compress(json.dumps(input).encode())).decode()


def decompress(string: str) -> Any:
    """Return the value that `compress` was given."""
    return json.loads(gzip.decompress(base64.b64decode(string)))
