"""Order and cycles, on plain values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefectish.errors import FlowDefinitionError
from prefectish.graphs import cycle_text, order


def sort(upstream: dict[str, str], nodes: str = "") -> str:
    return "".join(order(nodes or upstream, lambda node: upstream.get(node, "")))


def test_order_keeps_the_given_order_where_it_may() -> None:
    assert sort({"c": "", "a": "", "b": ""}) == "cab"
    assert sort({"a": "", "b": "a", "c": "", "d": "bc"}) == "abcd"


def test_order_puts_what_is_waited_for_first() -> None:
    assert sort({"c": "b", "b": "a", "a": ""}) == "abc"


def test_order_of_nothing_is_empty() -> None:
    assert sort({}) == ""


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=80), st.permutations(range(31)))
def test_order_is_topological_and_complete(pairs: list[tuple[int, int]], nodes: list[int]) -> None:
    upstream = {node: [min(pair) for pair in pairs if max(pair) == node != min(pair)] for node in nodes}
    result = order(nodes, upstream.__getitem__)
    place = {node: at for at, node in enumerate(result)}
    assert sorted(result) == sorted(nodes)
    assert all(place[before] < place[node] for node in nodes for before in upstream[node])


@pytest.mark.parametrize(
    ("upstream", "text"),
    [
        ({"a": "a"}, "cycle: a -> a"),
        ({"a": "b", "b": "a"}, "cycle: a -> b -> a"),
        ({"a": "c", "b": "a", "c": "b"}, "cycle: a -> b -> c -> a"),
        ({"a": "b", "b": "c", "c": "a"}, "cycle: a -> c -> b -> a"),
        ({"x": "y", "y": "", "b": "ac", "a": "b", "c": "y"}, "cycle: a -> b -> a"),
        ({"z": "c", "a": "c", "b": "a", "c": "b"}, "cycle: a -> b -> c -> a"),
    ],
)
def test_cycle_is_named_in_the_direction_of_data_from_the_first_name(upstream: dict[str, str], text: str) -> None:
    with pytest.raises(FlowDefinitionError) as caught:
        sort(upstream)
    assert str(caught.value) == text


def test_cycle_uses_labels() -> None:
    with pytest.raises(FlowDefinitionError, match="cycle: A -> B -> A"):
        order("ab", {"a": "b", "b": "a"}.__getitem__, str.upper)


def test_cycle_text_closes_the_ring() -> None:
    assert cycle_text(["a"]) == "cycle: a -> a"


def test_deep_graph_needs_no_recursion() -> None:
    deep = 100_000
    assert order(range(deep), lambda n: [n + 1] if n + 1 < deep else [])[0] == deep - 1


def test_order_asks_for_the_upstream_of_each_node_once() -> None:
    asked: list[int] = []

    def upstream(node: int) -> range:
        asked.append(node)
        return range(node)

    order(range(50), upstream)
    assert sorted(asked) == list(range(50))
