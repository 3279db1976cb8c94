"""What is known of a run from before, by values."""

from __future__ import annotations

import pytest

from prefectish.engine.scheduling.previous_run import PreviousResult, PreviousRun, PreviousWait
from prefectish.engine.state import Cancelled, Crashed, Failed, Retrying, Success


def result(state, is_readable=lambda: True):
    return PreviousResult(state, is_readable, 0, 0, 1, 0.5, "host:1")


def previous(state, **options):
    return PreviousRun({"load-1": {("a", 0): result(state)}}, {}, {"load-1": 3}, **options)


@pytest.mark.parametrize(
    ("state", "is_kept"), [(Success(1), True), (Failed("no"), True), (Crashed("x"), False), (Cancelled("x"), False)]
)
def test_child_that_came_to_an_end_of_its_own_is_kept(state, is_kept):
    assert (previous(state).find("load-1", ("a", 0)) is not None) is is_kept


def test_failed_child_is_not_kept_when_failures_are_retried():
    assert previous(Failed("no"), retry_failed=True).find("load-1", ("a", 0)) is None
    assert previous(Success(1), retry_failed=True).find("load-1", ("a", 0)) is not None


def test_record_of_a_task_that_changed_does_not_count():
    assert previous(Success(1), changed={"load-1"}).find("load-1", ("a", 0)) is None


def test_child_of_another_key_or_number_is_not_known():
    assert previous(Success(1)).find("load-1", ("b", 0)) is None
    assert previous(Success(1)).find("load-1", ("a", 1)) is None
    assert previous(Success(1)).find("clean-1", ("a", 0)) is None


def test_whether_a_result_is_readable_is_asked_once():
    asked = []
    found = result(Success(1), lambda: asked.append(1) or False)
    assert [found.readable, found.readable, asked] == [False, False, [1]]


def test_waiting_children_of_one_key_come_behind_those_that_ended():
    waits = [PreviousWait(Retrying("first", run_count=1), 0), PreviousWait(Retrying("second", run_count=2), 0)]
    known = PreviousRun({"load-1": {("a", 0): result(Success(1))}}, {"load-1": {"a": waits}}, {})
    assert [known.start("load-1", ("a", n)) for n in range(4)] == [None, *waits, None]


def test_width_is_compared():
    assert previous(Success(1)).same_width("load-1", 3)
    assert not previous(Success(1)).same_width("load-1", 4)


def test_children_of_one_key_are_known_by_their_rows_whether_they_ended_or_wait():
    waits = [PreviousWait(Retrying("first", run_count=1), 0, 2), PreviousWait(Retrying("second", run_count=2), 0, 1)]
    known = PreviousRun({"load-1": {("a", 0): result(Success(1))}}, {"load-1": {"a": waits}}, {})
    assert known.twins("load-1", "a") == {0: ("a", 0), 1: waits[1], 2: waits[0]}


@pytest.mark.parametrize("row", [None, 0], ids=["unknown", "taken"])
def test_children_of_one_key_are_not_known_by_rows_that_do_not_tell(row):
    waits = {"load-1": {"a": [PreviousWait(Retrying("later", run_count=1), 0, row)]}}
    assert PreviousRun({"load-1": {("a", 0): result(Success(1))}}, waits, {}).twins("load-1", "a") == {}
