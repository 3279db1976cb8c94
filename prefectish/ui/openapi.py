"""The description of the API by OpenAPI 3.1, made of the models of its requests and answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from pydantic.json_schema import models_json_schema

from prefectish.ui.records import Record, Refusal

#: Where the schemas of models are in the document.
REFERENCES = "#/components/schemas/{model}"
#: What refused requests are answered with.
REFUSALS = {
    "400": "the request does not fit",
    "401": "no valid token",
    "403": "another host, another site's form, or read-only",
    "404": "there is no such thing",
    "409": "the run is not driven, or the deployment archived",
    "503": "the history cannot be read",
}


class Operation(NamedTuple):
    """What can be asked for at an address; without an answer it is a number of bytes."""

    method: str
    path: str
    function: Callable[..., Any]
    query: type[Record]
    body: type[Record] | None
    answer: type[Record] | None


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the description of an API."""
    bodies = {each.body for each in operations if each.body is not None}
    answers = {each.answer for each in operations if each.answer is not None} | {Refusal}
    _, schemas = models_json_schema(
        [
            (model, "validation" if model in bodies else "serialization")
            for model in sorted(bodies | answers, key=lambda model: model.__name__)
        ],
        ref_template=REFERENCES,
    )
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(re.sub(r":\w+}", "}", each.path), {})[each.method] = _described(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "prefectish",
            "version": version("prefectish"),
            "description": "What a history holds, and requests.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _described(each: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": each.function.__name__,
        "summary": (each.function.__doc__ or "").partition("\n")[0],
        "parameters": [*_path_parameters(each.path), *_query_parameters(each.query)],
        "responses": {
            "200": {"description": "found", "content": _content(each.answer)},
            **{code: {"description": why, "content": _content(Refusal)} for code, why in REFUSALS.items()},
        },
    }
    if each.body is not None:
        found["requestBody"] = {"required": True, "content": _content(each.body)}
    return found


def _content(model: type[Record] | None) -> dict[str, Any]:
    if model is None:
        return {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {"application/json": {"schema": {"$ref": REFERENCES.format(model=model.__name__)}}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer", "minimum": 0, "maximum": 999_999_999} if kind else {"type": "string"},
        }
        for name, kind in re.findall(r"{(\w+)(:number)?}", path)
    ]


def _query_parameters(model: type[Record]) -> list[dict[str, Any]]:
    properties = model.model_json_schema()["properties"] if model.model_fields else {}
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": facts.get("description", ""),
            "schema": {key: value for key, value in facts.items() if key not in ("description", "title")},
        }
        for name, facts in properties.items()
    ]
