"""Open rows of a chain: those of bundles stay columns until one of them is looked at."""

from __future__ import annotations

import pytest
from owner import Owner, named

from prefectish import Flow
from prefectish.engine.scheduling.open_rows import MapRow
from prefectish.engine.state import Pending, Retrying


@pytest.fixture
def open_rows():
    with Flow("batched") as flow:
        named("load", batch_size=3).map(range(6))
    owner = Owner(flow, bundles=True, slots=2)
    owner.start()
    return owner.progress.run_state.find("load-1").chain.open_rows


def test_rows_of_bundles_are_counted_and_none_is_made(open_rows):
    assert len(open_rows) == 6
    assert (len(open_rows.single), len(open_rows.bundles)) == (0, 2)


def test_look_at_one_row_makes_single_rows_of_all(open_rows):
    row = open_rows[4]
    assert (row.row, row.items, row.submissions, row.counted) == (4, (4,), 1, True)
    assert row.jobs[0].index == 4
    assert row.submitted == row.jobs[0].awaiting == 1
    assert (sorted(open_rows.single), open_rows.bundles) == ([0, 1, 2, 3, 4, 5], {})


def test_bundle_can_be_singled_out_alone(open_rows):
    first, second = open_rows.bundles
    open_rows.single_out(first)
    assert (sorted(open_rows.single), list(open_rows.bundles)) == ([0, 1, 2], [second])
    open_rows.single_out(first)  # there is no such bundle any more
    assert len(open_rows) == 6


def test_rows_are_looked_for_by_number(open_rows):
    assert 5 in open_rows
    assert 6 not in open_rows
    assert sorted(open_rows) == [0, 1, 2, 3, 4, 5]


def test_step_is_unbegun_until_it_is_submitted_waits_or_was_begun_before():
    row = MapRow(0, ())
    assert row.is_unbegun(0)
    row.submitted = 1
    assert not row.is_unbegun(0)
    row.submitted, row.waiting = 0, 1
    assert not row.is_unbegun(0)
    row.waiting, row.starts = 0, {0: Retrying()}
    assert not row.is_unbegun(0)
    row.starts = {0: Pending()}
    assert row.is_unbegun(0)
