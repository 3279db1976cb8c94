"""Queries as text."""

from __future__ import annotations

import pytest

from prefectish.compat.graphql import (
    EnumValue,
    GQLObject,
    LiteralSetValue,
    compress,
    decompress,
    parse_graphql,
    parse_graphql_arguments,
    with_args,
)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, ""),
        ({"a": 1, "b": None, "c": True}, "a: 1, b: null, c: true"),
        ({"a": 'say "x"'}, r'a: "say \"x\""'),
        ({"a": {"b": {"_in": [1, "2"]}}}, 'a: { b: { _in: [1, "2"] } }'),
        ({"order_by": {"at": EnumValue("desc")}, "none": {}}, "order_by: { at: desc }, none: {}"),
        ("limit: 5", "limit: 5"),
        ({"tags": LiteralSetValue(["a", "b"])}, 'tags: "{a, b}"'),
    ],
)
def test_arguments(arguments, text):
    assert parse_graphql_arguments(arguments) == text
    assert with_args("run", arguments) == f"run({text})"


def test_fields_come_as_text_lists_dictionaries_and_objects():
    class Author(GQLObject):
        """A name in a query."""

    document = {
        with_args("book", {"limit": 1}): [
            "id\ntitle",
            {
                Author()({"born": 1900}): {
                    "name",
                }
            },
        ],
        "left": False,
        "kept": ...,
    }
    assert parse_graphql(document) == "\n".join(
        ["book(limit: 1) {", "    id", "    title", "    author(born: 1900) {", "        name", "    }", "}", "kept"]
    )


def test_what_is_no_query_is_refused():
    with pytest.raises(TypeError, match="a query must be made of strings, lists and dictionaries, got int"):
        parse_graphql({"query": 5})
    for document in (GQLObject, {"query": [GQLObject]}, {GQLObject: ["id"]}):
        with pytest.raises(TypeError, match="got the class GQLObject; call it"):
            parse_graphql(document)


def test_values_are_compressed():
    assert decompress(compress({"a": [1, "é" * 1000]})) == {"a": [1, "é" * 1000]}
    assert len(compress("é" * 1000)) < 200
