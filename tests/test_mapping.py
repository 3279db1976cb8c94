"""Which constants can be mapped over."""

from __future__ import annotations

import array
from typing import Any

import pytest

from prefectish.tasks.mapping import check_mappable


class Scalar:
    """Like an array without dimensions: it has the methods of a sequence and refuses them."""

    def __len__(self) -> int:
        raise TypeError("len() of unsized object")

    def __getitem__(self, i: int) -> int:
        raise IndexError


@pytest.mark.parametrize(
    "value",
    [[], [1], (1, 2), "abc", b"ab", range(3), array.array("i", [1]), memoryview(b"a"), iter([1]), map(str, [1])],
    ids=lambda value: type(value).__name__,
)
def test_sequences_and_iterators_pass(value: Any) -> None:
    check_mappable(value, "load", "argument 'x'")
    if hasattr(value, "__next__"):
        assert next(value) in (1, "1"), "the check took an item"
    else:
        assert list(value) == list(value[:])


@pytest.mark.parametrize(
    ("value", "kind", "way_out"),
    [
        (3, "int", r"wrap it in unmapped\(...\)"),
        (None, "NoneType", r"wrap it in unmapped\(...\)"),
        (object(), "object", "pass a list"),
        ({1, 2}, "set", r"no order; pass list\(...\) or sorted\(...\)"),
        (frozenset(), "frozenset", "no order"),
        ({"a": 1}, "dict", r"pass list\(d.items\(\)\)"),
        (Scalar(), "Scalar", "pass a list"),
    ],
)
def test_what_has_no_item_i_is_refused_with_a_way_out(value: Any, kind: str, way_out: str) -> None:
    with pytest.raises(TypeError, match=f"^load.map: argument 'x' cannot be mapped over: got {kind}; .*{way_out}"):
        check_mappable(value, "load", "argument 'x'")


def test_dict_view_has_no_items_by_number() -> None:
    with pytest.raises(TypeError, match="got dict_items"):
        check_mappable({}.items(), "load", "argument 'x'")
