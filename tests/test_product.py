"""Cartesian products by index arithmetic."""

from __future__ import annotations

import itertools
import math
import pickle
from typing import Any

import pytest
from bodies import give
from hypothesis import given
from hypothesis import strategies as st

from prefectish import Flow, Task, flatten, mapped, product, unmapped
from prefectish.control_flow.products import Column, Length, MakeColumn, column
from prefectish.engine import signals
from prefectish.tasks import Constant
from prefectish.tasks.mapping import UNMAPPABLE_RESULT


def columns(*lists: Any) -> list[Column]:
    lengths = {place: len(values) for place, values in enumerate(lists)}
    return [
        column(values, {place: n for place, n in lengths.items() if place != position}, position)
        for position, values in enumerate(lists)
    ]


# ---------------------------------------------------------------------- columns


@given(st.lists(st.lists(st.integers(), max_size=4), min_size=1, max_size=4))
def test_columns_are_those_of_itertools_product(lists: list[list[int]]) -> None:
    made = columns(*lists)
    rows = list(itertools.product(*lists))
    assert {len(each) for each in made} == {len(rows)}
    assert list(zip(*made, strict=True)) == rows


@given(st.lists(st.integers(0, 3), min_size=1, max_size=3), st.integers(-30, 30), st.integers(-30, 30))
def test_column_is_indexed_like_its_list(lengths: list[int], i: int, j: int) -> None:
    for made in columns(*[list(range(n)) for n in lengths]):
        values = list(made)
        assert made[i:j] == values[i:j]
        if -len(values) <= i < len(values):
            assert made[i] == values[i]
        else:
            with pytest.raises(IndexError):
                made[i]


def test_column_of_a_huge_product_is_small_and_quick() -> None:
    a, b = columns(range(10**9), range(10**9))
    assert len(a) == len(b) == 10**18
    assert (a[10**17 + 7], b[10**17 + 7]) == (10**8, 7)
    assert len(pickle.dumps(a)) < 200


def test_column_survives_pickling_and_compares_by_content() -> None:
    a, b = columns("ab", [1, 2])
    assert pickle.loads(pickle.dumps(a)) == a
    assert a != b
    assert (a == ["a", "a", "b", "b"]) is False
    assert repr(a) == "<Column of 4: str of 2>"


# ---------------------------------------------------------------------- what is recorded


def test_product_of_constants_is_known_while_building() -> None:
    with Flow("f") as flow:
        a, b = product([1, 2], ["x", "y", "z"])
    assert isinstance(a, Constant)
    assert isinstance(b, Constant)
    assert list(zip(a.value, b.value, strict=True)) == list(itertools.product([1, 2], "xyz"))
    assert flow.tasks == {a, b}


def test_product_of_results_moves_lengths_and_not_lists() -> None:
    with Flow("f") as flow:
        xs, ys = give([1]), give([2])
        a, b = product(xs, ys)
    assert isinstance(a, MakeColumn)
    assert {edge.key: edge.upstream_task.name for edge in flow.edges_to(a)} == {"values": "give", "length_1": "Length"}
    assert flow.upstream_tasks(a) == {xs, *(t for t in flow.downstream_tasks(ys) if isinstance(t, Length))}
    assert ys not in flow.upstream_tasks(a)
    assert [t.name for t in (a, b)] == ["product[0]", "product[1]"]


def test_length_of_what_is_here_is_a_constant() -> None:
    with Flow("f") as flow:
        xs = give([1])
        a, b = product(xs, [1, 2, 3])
    assert flow.constants[a] == {"length_1": 3}
    assert flow.constants[b] == {"values": [1, 2, 3]}


def test_product_of_one_needs_no_length() -> None:
    with Flow("f") as flow:
        xs = give([1])
        (a,) = product(xs)
    assert flow.upstream_tasks(a) == {xs}


def test_product_of_a_list_with_tasks() -> None:
    with Flow("f") as flow:
        a, _ = product([give(1), 2], [3])
        flat, _ = product(flatten([[1], [2, 3]]), [4])
    assert flow.get_tasks(task_type=Length) == [t for t in flow.tasks if isinstance(t, Length)]
    assert len(flow.get_tasks(task_type=Length)) == 1
    result = flow.run().result
    assert [list(result[t].result) for t in (a, flat)] == [[1, 2], [1, 2, 3]]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": 1}, r"product: input 1.*list\(d.items\(\)\)"),
        ({1, 2}, r"product: input 1.*sorted"),
        (5, r"product: input 1.*pass a list"),
        (iter([1]), r"product: input 1: got list_iterator, which can be read only once; pass list\(...\)"),
        (mapped([1]), r"product: input 1 is mapped\(...\)"),
        (unmapped(Task("x")), r"product: input 1 is unmapped\(...\)"),
    ],
)
def test_input_that_cannot_be_combined_is_refused_while_building(value: Any, words: str) -> None:
    with Flow("f") as flow:
        with pytest.raises(TypeError, match=words):
            product([1], value)
        assert not flow.tasks


def test_product_of_nothing_is_refused() -> None:
    with (
        Flow("f"),
        pytest.raises(TypeError, match="product: no inputs to combine; pass lists, or tasks that return lists"),
    ):
        product()


def test_product_needs_a_flow() -> None:
    with pytest.raises(ValueError, match=r"^no active Flow: use product"):
        product([1])
    flow = Flow("f")
    assert product([1], give([2], flow=flow), flow=flow)[1] in flow


@pytest.mark.parametrize("bad", [{"a": 1}, None, 3, {1}, iter([1])], ids=lambda v: type(v).__name__)
def test_result_that_cannot_be_mapped_is_refused_in_the_run(bad: Any) -> None:
    for made, more in ((Length(), {}), (MakeColumn(0), {"length_1": 2})):
        with pytest.raises(signals.FAIL, match=f"{UNMAPPABLE_RESULT} .* got {type(bad).__name__}[;,]"):
            made.run(bad, **more)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(0, 3))
def test_made_column_has_the_length_of_the_product(lengths: list[int], position: int) -> None:
    position %= len(lengths)
    others = {f"length_{place}": n for place, n in enumerate(lengths) if place != position}
    assert len(MakeColumn(position).run(list(range(lengths[position])), **others)) == math.prod(lengths)
