import array

import pytest
from labels import label

from prefectish.edges import Edge
from prefectish.engine.plan.map_domain import (
    NO_UPSTREAM,
    NOTHING_LEFT,
    SCALAR,
    SKIPPED_UPSTREAM,
    UNMAPPABLE,
    UNMAPPABLE_RESULT,
    KnownSource,
    element_width,
    flat_paths,
    measure,
    parent_verdict,
    width_of,
)
from prefectish.engine.plan.steps import Input, TaskName
from prefectish.engine.state import Failed, Mapped, Pending, Skipped, Success

UP, DOWN = TaskName("up", "up-1", frozenset()), TaskName("down", "down-1", frozenset())


def source(state, width=None, key="x", mapped=True, kind="list"):
    return KnownSource(Input(Edge(UP, DOWN, key, mapped=mapped), 0, UP, DOWN), state, width, kind)


def verdict(*sources, skip=True, strict=True):
    return parent_verdict(sources, skip=skip, strict=strict)


class Endless:
    def __getitem__(self, index):
        return index


@pytest.mark.parametrize(
    ("value", "width"),
    [
        ([], 0),
        ((1, 2), 2),
        ("abc", 3),
        (b"ab", 2),
        (range(7), 7),
        (array.array("i", [1]), 1),
        ({"a": 1}, UNMAPPABLE),
        ({1, 2}, UNMAPPABLE),
        (None, UNMAPPABLE),
        (5, UNMAPPABLE),
        (iter([1]), UNMAPPABLE),
        (Endless(), UNMAPPABLE),
        (list, UNMAPPABLE),
    ],
    ids=label,
)
def test_width_of_a_value(value, width):
    assert width_of(value) == width


def test_width_of_an_array_without_dimensions():
    numpy = pytest.importorskip("numpy")
    assert width_of(numpy.array(5)) == UNMAPPABLE
    assert width_of(numpy.zeros((3, 2))) == 3


@pytest.mark.parametrize(
    ("value", "depth", "facts"),
    [
        ([1, 2], 1, (2, "list")),
        (None, 1, (UNMAPPABLE, "NoneType")),
        ([[1], [], 2, "text"], 2, (4, "list", (1, 0, SCALAR, SCALAR))),
        (5, 2, (UNMAPPABLE, "int", ())),
        ([], 2, (0, "list", ())),
    ],
    ids=label,
)
def test_measure_tells_small_facts(value, depth, facts):
    assert measure(value, depth) == facts


@pytest.mark.parametrize("value", ["text", b"bytes", bytearray(b"x"), 5, None, {"a": 1}], ids=label)
def test_text_and_what_is_not_a_list_are_one_element(value):
    assert element_width(value) == SCALAR


def test_flat_paths_skip_empty_items():
    assert flat_paths([0, 2, SCALAR, 0]) == [(1, 0), (1, 1), (2,)]
    assert flat_paths([]) == []


def test_parent_of_one_list_has_its_width():
    assert verdict(source(Success(), 3)) == (None, 3, None)
    assert verdict(source(Success(), 0)) == (None, 0, None)


def test_parent_ignores_the_width_of_unmapped_inputs():
    assert verdict(source(Success(), 3), source(Success(), None, mapped=False)) == (None, 3, None)
    assert verdict(source(Success(), 3), source(Failed(), None, mapped=False)) == (None, 3, None)


def test_parent_whose_width_is_not_known_yet_goes_ahead():
    assert verdict(source(Success(), None)) == (None, None, None)


def test_parent_fails_without_a_successful_mapped_input():
    state, width, warning = verdict(source(Failed()), source(Success(), 3, mapped=False))
    assert (type(state), state.message, width, warning) == (Failed, NO_UPSTREAM, None, None)


def test_parent_goes_ahead_with_one_successful_mapped_input():
    assert verdict(source(Failed()), source(Success(), 2)) == (None, 2, None)


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("dict", "x is a dict (up-1): map over list(d.items())"),
        ("set", "x is a set (up-1): return a list, not a set"),
    ],
)
def test_parent_fails_on_an_unmappable_result_and_names_the_way_out(kind, hint):
    state, _, _ = verdict(source(Success(), UNMAPPABLE, kind=kind), source(Success(), 2))
    assert state.message == (f"{UNMAPPABLE_RESULT} {hint}" if kind == "dict" else UNMAPPABLE_RESULT)
    assert str(state.result) == hint


@pytest.mark.parametrize("mapped", [True, False])
def test_parent_of_a_skipped_input_is_skipped(mapped):
    state, _, _ = verdict(source(Skipped(), None, mapped=mapped), source(Success(), 2))
    assert (type(state), state.message) == (Skipped, SKIPPED_UPSTREAM)


def test_parent_skips_for_a_skipped_child_behind_an_unmapped_edge_only():
    parent = Mapped(map_states=[Success(), Skipped()])
    assert type(verdict(source(Success(), 1), source(parent, mapped=False))[0]) is Skipped
    assert verdict(source(parent, 2)) == (None, 2, None)
    assert verdict(source(Success(), 1), source(Mapped(map_states=[None, Pending()]), mapped=False))[1] == 1


def test_parent_that_does_not_skip_is_skipped_if_nothing_else_is_left():
    state, _, _ = verdict(source(Skipped(), UNMAPPABLE, kind="NoneType"), skip=False)
    assert (type(state), state.message) == (Skipped, NOTHING_LEFT)


def test_parent_that_does_not_skip_maps_over_what_is_left():
    skipped = source(Skipped(), UNMAPPABLE, kind="NoneType")
    assert verdict(skipped, source(Success(), 2), skip=False) == (None, 2, None)
    assert verdict(source(Skipped(result=[1, 2, 3]), 3), skip=False) == (None, 3, None)
    assert verdict(skipped, source(Failed()), skip=False)[0].message == NO_UPSTREAM


def test_parent_of_unequal_lengths_names_each():
    state, width, warning = verdict(source(Success(), 3, "a"), source(Success(), 5, "b"), source(Success(), 3, None))
    assert state.message == "mapped inputs differ in length: a=3, b=5, up-1=3"
    assert type(state.result) is ValueError
    assert (width, warning) == (None, None)


def test_parent_that_is_not_strict_takes_the_shortest_and_warns():
    state, width, warning = verdict(source(Success(), 3, "a"), source(Success(), 5, "b"), strict=False)
    assert (state, width) == (None, 3)
    assert warning == "mapped inputs differ in length: a=3, b=5; the shortest wins"
    assert verdict(source(Success(), 3, "a"), source(Success(), 0, "b"), strict=False)[1] == 0
