import pytest
from labels import label

from prefectish.edges import Edge
from prefectish.engine.plan.map_domain import (
    NO_UPSTREAM,
    NOTHING_LEFT,
    REFUSED,
    SCALAR,
    SKIPPED_UPSTREAM,
    UNMAPPABLE,
    KnownSource,
    element_width,
    flat_paths,
    measure,
    parent_verdict,
)
from prefectish.engine.plan.steps import Input, TaskName
from prefectish.engine.state import Failed, Mapped, Pending, Skipped, Success
from prefectish.tasks.mapping import A_LIST, UNMAPPABLE_RESULT

UP, DOWN = TaskName("up", "up-1", frozenset(), "up"), TaskName("down", "down-1", frozenset(), "down")


def source(state, width=None, key="x", mapped=True, kind="list", way_out=A_LIST):
    return KnownSource(Input(Edge(UP, DOWN, key, mapped=mapped), 0, UP, DOWN), state, width, kind, way_out)


def verdict(*sources, skip=True, strict=True):
    return parent_verdict(sources, skip=skip, strict=strict)


@pytest.mark.parametrize(
    ("value", "depth", "facts"),
    [
        ([1, 2], 1, (2, "list")),
        (None, 1, (UNMAPPABLE, "NoneType", A_LIST)),
        ([[1], [], 2, "text"], 2, (4, "list", (1, 0, SCALAR, SCALAR))),
        (5, 2, (UNMAPPABLE, "int", A_LIST)),
        ([], 2, (0, "list", ())),
    ],
    ids=label,
)
def test_measure_tells_small_facts(value, depth, facts):
    assert measure(value, depth) == facts


@pytest.mark.parametrize("value", ["text", b"bytes", bytearray(b"x"), 5, None, {"a": 1}], ids=label)
def test_text_and_what_is_not_a_list_are_one_element(value):
    assert element_width(value) == SCALAR


def test_table_and_list_that_is_shorter_than_it_says_are_refused_as_elements():
    assert element_width(Long([1, 2])) == REFUSED
    pandas = pytest.importorskip("pandas")
    assert element_width(pandas.DataFrame({"a": [1, 2]})) == REFUSED
    assert element_width(pandas.Series([1, 2])) == 2


class Long(list):
    def __len__(self):
        return 10**9


def test_measure_of_a_list_that_lies_is_a_refusal():
    for depth in (1, 2):
        width, kind, way_out = measure(Long([1, 2]), depth)
        assert (width, kind) == (UNMAPPABLE, "Long")
        assert "it has 1,000,000,000 items" in way_out


def test_flat_paths_skip_empty_items():
    assert flat_paths([0, 2, SCALAR, 0]) == [(1, 0), (1, 1), (2,)]
    assert flat_paths([1, REFUSED]) == [(0, 0), (1, -1)]
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


def test_parent_fails_on_an_unmappable_result_and_names_the_way_out():
    state, _, _ = verdict(source(Success(), UNMAPPABLE, kind="set", way_out="sorted(...)"), source(Success(), 2))
    hint = "x is a set (up): map over sorted(...)"
    assert state.message == f"{UNMAPPABLE_RESULT} {hint}"
    assert type(state.result) is TypeError
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
    assert state.message == "mapped inputs differ in length: a=3, b=5, up=3"
    assert type(state.result) is ValueError
    assert (width, warning) == (None, None)


def test_parent_that_is_not_strict_takes_the_shortest_and_warns():
    state, width, warning = verdict(source(Success(), 3, "a"), source(Success(), 5, "b"), strict=False)
    assert (state, width) == (None, 3)
    assert warning == "mapped inputs differ in length: a=3, b=5; the shortest wins"
    assert verdict(source(Success(), 3, "a"), source(Success(), 0, "b"), strict=False)[1] == 0
