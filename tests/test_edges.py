"""Edges as values, and what the wrappers say about them."""

from __future__ import annotations

import pickle

import cloudpickle
import pytest

from prefectish import Task, allow_failure, flatten, mapped, unmapped
from prefectish.edges import Edge, unwrap
from prefectish.errors import FlowDefinitionError

A, B = Task("a"), Task("b")


def test_edge_is_plain_by_default() -> None:
    edge = Edge(A, B)
    assert (edge.upstream_task, edge.downstream_task, edge.key) == (A, B, None)
    assert (edge.mapped, edge.flattened, edge.allow_failure) == (False, False, False)


def test_edges_are_equal_by_value() -> None:
    assert Edge(A, B, "x", mapped=True) == Edge(A, B, "x", mapped=True)
    assert len({Edge(A, B, "x"), Edge(A, B, "x")}) == 1


@pytest.mark.parametrize(
    "other",
    [
        Edge(B, A, "x"),
        Edge(A, B, "y"),
        Edge(A, B),
        Edge(A, B, "x", mapped=True),
        Edge(A, B, "x", flattened=True),
        Edge(A, B, "x", allow_failure=True),
        Edge(Task("a"), B, "x"),
        (A, B, "x", False, False, False),
    ],
)
def test_edges_that_differ_are_not_equal(other: object) -> None:
    assert Edge(A, B, "x") != other


def test_edge_is_frozen() -> None:
    edge = Edge(A, B)
    with pytest.raises(AttributeError, match="frozen"):
        edge.key = "x"
    with pytest.raises(AttributeError, match="frozen"):
        del edge.key


@pytest.mark.parametrize("key", ["", "1x", "a b", "class", 3])
def test_edge_refuses_a_key_that_is_not_an_argument_name(key: str) -> None:
    with pytest.raises(FlowDefinitionError, match=r"a -> b: key .* is not a valid argument name"):
        Edge(A, B, key)


@pytest.mark.parametrize("module", [pickle, cloudpickle])
def test_edge_survives_pickling_with_its_flags(module: object) -> None:
    edge = module.loads(module.dumps(Edge(A, B, "x", flattened=True)))  # type: ignore[attr-defined]
    assert (edge.key, edge.mapped, edge.flattened) == ("x", False, True)
    assert edge.upstream_task.name == "a"


def test_edge_repr_names_what_is_set() -> None:
    assert repr(Edge(A, B)) == "<Edge: a to b>"
    assert repr(Edge(A, B, "x", mapped=True)) == "<Edge: a to b, key=x, mapped>"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, (1, None, False, False)),
        (unmapped(1), (1, False, False, False)),
        (mapped(1), (1, True, False, False)),
        (flatten(1), (1, None, True, False)),
        (allow_failure(1), (1, None, False, True)),
        (unmapped(flatten(1)), (1, False, True, False)),
        (flatten(unmapped(1)), (1, False, True, False)),
        (allow_failure(mapped(flatten(1))), (1, True, True, True)),
    ],
)
def test_wrappers_merge(value: object, expected: tuple[object, ...]) -> None:
    assert unwrap(value) == expected


def test_wrapper_around_the_upstream_task_beats_the_keywords() -> None:
    assert Edge(unmapped(A), B, "x", mapped=True) == Edge(A, B, "x")
    assert Edge(flatten(A), B, "x", mapped=True) == Edge(A, B, "x", mapped=True, flattened=True)
    assert Edge(mapped(allow_failure(A)), B) == Edge(A, B, mapped=True, allow_failure=True)
    with pytest.raises(FlowDefinitionError, match="edge a -> b: key 'not one'"):
        Edge(unmapped(A), B, "not one")


def test_inner_wrapper_wins_a_contradiction() -> None:
    assert unwrap(unmapped(mapped(1))).mapped is True
    assert unwrap(mapped(unmapped(1))).mapped is False


def test_wrapper_cannot_be_unpacked() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        list(unmapped([1, 2]))


def test_wrapper_repr_shows_the_value() -> None:
    assert repr(unmapped(flatten([1]))) == "unmapped(flatten([1]))"
