"""The parents of maps: what they become once what they map over is known."""

from __future__ import annotations

import pytest
from owner import Owner, named

from prefectish import Flow, flatten, unmapped
from prefectish.engine.state import Failed, Mapped, Skipped, Success


def parent(state, width=None, **options):
    """Return the parent of a map over the result of a step that ended so."""
    with Flow("parent") as flow:
        named("each", **options).map(named("source")())
    owner = Owner(flow)
    (job,) = owner.start()
    owner.tell(job, state, widths=[width])
    return owner.state("each")


def test_parent_is_mapped_with_a_row_for_each_item():
    state = parent(Success(None, [1, 2, 3]), (3, "list", ()))
    assert isinstance(state, Mapped)
    assert state.n_map_states == 3


def test_parent_of_an_empty_list_ends_at_once():
    state = parent(Success(None, []), (0, "list", ()))
    assert isinstance(state, Mapped)
    assert state.map_states == []


def test_parent_of_what_has_no_items_fails_and_names_its_type():
    state = parent(Success(None, 7), (-1, "int", ()))
    assert type(state) is Failed
    assert "unmappable result" in state.message
    assert "int" in str(state.result)


def test_parent_behind_a_skipped_step_is_skipped():
    assert type(parent(Skipped("not today"))) is Skipped


def test_lists_of_unequal_lengths_fail_the_parent():
    with Flow("unequal") as flow:
        named("each").map([1, 2], [1, 2, 3])
    owner = Owner(flow)
    owner.start()
    state = owner.state("each")
    assert type(state) is Failed
    assert "x=2" in state.message
    assert "y=3" in state.message


def test_iterator_cannot_be_paired_with_a_list():
    with Flow("iterator") as flow:
        named("each").map(iter([1]), [1, 2])
    owner = Owner(flow)
    owner.start()
    state = owner.state("each")
    assert type(state) is Failed
    assert "pass list(...), or zip the inputs first" in state.message


def test_handler_may_end_the_parent_in_the_place_of_mapped():
    with Flow("handled") as flow:
        named("each").map([1, 2])
    owner = Owner(flow)
    owner.progress.changes.notify = lambda step_state, old, new: Failed("not now")
    assert owner.start() == []
    assert owner.state("each").message == "not now"


@pytest.mark.parametrize(("nested", "elements"), [([[1, 2], [3]], 3), ([1, [2, 3]], 3)])
def test_flattened_list_has_a_row_for_each_element(nested, elements):
    with Flow("flattened") as flow:
        named("each").map(flatten(nested), unmapped(0))
    owner = Owner(flow)
    assert len(owner.start()) == elements
