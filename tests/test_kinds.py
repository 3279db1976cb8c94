"""What a value is, asked without its own code."""

from __future__ import annotations

import ast
import weakref
from collections.abc import Mapping
from pathlib import Path

import pytest

import prefectish
from prefectish.kinds import is_a


class Gone:
    pass


class Bound:
    @property
    def __class__(self):
        raise RuntimeError("outside of a request")


@pytest.mark.parametrize("make", [lambda: weakref.proxy(Gone()), Bound], ids=["dead", "bound"])
def test_u21_proxy_of_something_gone_is_asked_nothing(make):
    """U21, the rule."""
    value = make()
    with pytest.raises((ReferenceError, RuntimeError)):
        isinstance(value, int)
    assert not is_a(value, int)
    assert not is_a(value, (str, Mapping))


def test_subclasses_and_abstract_classes_count():
    assert is_a(True, int)
    assert is_a({}, (str, Mapping))
    assert is_a({}, Mapping)


def asks_a_result_for_its_class(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="isinstance"), args=[ast.Attribute(attr="result" | "_raw_result"), _]):
            return True
    return False


def test_u21_results_of_states_are_asked_for_their_type_everywhere():
    """U21, the rule where it stands: what reads a state in the client must not run the code of its result."""
    package = Path(prefectish.__file__).parent
    assert asks_a_result_for_its_class(ast.parse("isinstance(state._raw_result, int)", mode="eval").body)
    found = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in package.rglob("*.py")
        if path.parent.name != "examples"  # programs of users, which know their results
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if asks_a_result_for_its_class(node)
    ]
    assert not found, "write is_a(state.result, kind)"
