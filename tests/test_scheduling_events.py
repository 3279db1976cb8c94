"""What a history records of a run, and where its recorder comes from."""

from __future__ import annotations

import sys

import pytest
from owner import Owner, named

from prefectish import Flow
from prefectish.engine.scheduling.events import load
from prefectish.engine.state import Cancelled, Retrying, Success


def events_of(owner):
    return [(e.row, e.attempt, type(e.state).__name__) for e in owner.progress.run_state.events]


def recorded():
    with Flow("recorded") as flow:
        named("load").map([0, 1])
    owner = Owner(flow, record=True)
    return owner, owner.start()


def test_attempts_that_end_are_recorded_with_their_numbers():
    owner, (first, _) = recorded()
    owner.tell(first, Retrying("later", run_count=1))
    owner.tell(owner.progress.run_state.find("load-1").chain.open_rows[1].jobs[0], Success(None, 1))
    assert events_of(owner) == [(0, 1, "Retrying"), (1, 1, "Success")]


def test_state_that_no_attempt_made_has_no_number():
    owner, _ = recorded()
    owner.progress.cancellation.end(lambda step_state, row: Cancelled("over"), Cancelled("never"), owner.moment)
    assert {event[1] for event in events_of(owner)} == {0}


def test_run_without_a_history_keeps_no_events():
    with Flow("unrecorded") as flow:
        named("load")()
    assert Owner(flow).progress.run_state.events is None


def test_no_history_is_no_recorder():
    assert load(False) is None


def test_history_that_was_asked_for_needs_its_library(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    for name in [name for name in sys.modules if name.startswith("prefectish.history")]:
        monkeypatch.delitem(sys.modules, name)
    assert load(None) is None
    with pytest.raises(ModuleNotFoundError, match=r"^the history of runs needs sqlalchemy, .*\[history\]"):
        load(tmp_path / "history.db")
