"""Any run that breaks off anywhere, any number of times, with another list each time, ends as if it had been whole."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from prefectish import Flow, flatten, history, task, triggers
from prefectish.engine.scheduling.rows import Rows
from prefectish.engine.state import State
from prefectish.errors import ResultReleased
from prefectish.hashing import stable_hash
from prefectish.results import LocalResult

#: What ran, and which items are bad: globals, which are no part of what a body is.
RAN: Counter[tuple[str, Any]] = Counter()
BAD: set[int] = set()
#: Lists of items, some of them twice.
ITEMS = st.lists(st.integers(0, 8), min_size=1, max_size=8)


class Broken(BaseException):
    """The client dies here."""


class Part:
    """What is done with a run in one part of it.

    Parameters
    ----------
    items : the list that is mapped over.
    dies_after : records after which the client dies; None for not at all.
    """

    def __init__(self, items: list[int], dies_after: int | None) -> None:
        self.items = items
        self.dies_after = dies_after

    def __repr__(self) -> str:
        return f"Part({self.items}, {self.dies_after})"


PARTS = st.lists(st.builds(Part, ITEMS, st.integers(0, 40)), min_size=1, max_size=3)


def load(x: int) -> int:
    RAN["load", x] += 1
    if x in BAD:
        raise ValueError(f"bad {x}")
    return 10 * x


def twice(y: int) -> int:
    RAN["twice", y] += 1
    return 2 * y


def spread(y: int) -> list[int]:
    RAN["spread", y] += 1
    return list(range(y // 10 % 4))


def part(z: int) -> int:
    RAN["part", z] += 1
    return z + 1


def listing(values: list[Any], parts: list[Any]) -> list[list[Any]]:
    RAN["listing", None] += 1
    return [[v if isinstance(v, int) else "failed" for v in seen] for seen in (values, parts)]


def flow_of(items: list[int], store: Any) -> Flow:
    with Flow("any", result=store) as flow:
        loaded = task(load).map(items)
        parts = task(part).map(flatten(task(spread).map(loaded)))
        task(listing, trigger=triggers.all_finished)(task(twice).map(loaded), parts)
    return flow


def result_of(state: State, flow: Flow) -> Any:
    return state.result[next(t for t in flow.tasks if t.name == "listing")].result


def drive(flow: Flow, part: Part, path: str, run_id: str | None, retry: bool = False) -> State | None:
    """Start or resume a run; None if its client died."""
    taken = 0
    record = Rows.record

    def dying(self: Any, *arguments: Any) -> None:
        nonlocal taken
        if part.dies_after is not None and taken >= part.dies_after:
            raise Broken
        taken += 1
        record(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rows, "record", dying)
        try:
            if run_id is None:
                return flow.run(history=path)
            return flow.resume(run_id, history=path, retry_failed=retry)
        except Broken:
            return None


@pytest.mark.parametrize("kept", [True, False], ids=["store", "no store"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(parts=PARTS, last=ITEMS, bad=st.sets(st.integers(0, 8), max_size=2), fixed=st.booleans())
def test_any_broken_run_ends_as_if_it_had_been_whole(
    kept: bool, parts: list[Part], last: list[int], bad: set[int], fixed: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "history.db"))
        store = LocalResult(dir=Path(folder, "results")) if kept else None
        BAD.clear()
        BAD.update(bad)
        run_id = None
        for part in parts:
            drive(flow_of(part.items, store), part, path, run_id)
            run_id = history.runs(store=path)[0].id
        recorded = history.run(run_id or "", store=path)
        stands = ("Success",) if fixed else ("Success", "Failed")
        done = Counter(child.item_key for child in recorded.children("load") if child.state in stands)
        RAN.clear()
        if fixed:
            BAD.clear()
        flow = flow_of(last, store)
        state = drive(flow, Part(last, None), path, run_id, retry=fixed)
        assert state is not None
        ran = RAN.copy()
        note(f"ran {ran}")
        whole = flow_of(last, None)
        if kept or not _released(state, flow):
            assert result_of(state, flow) == result_of(whole.run(history=False), whole)
        if kept:
            for x in set(last):
                assert ran["load", x] <= max(0, last.count(x) - done[stable_hash(x)])
        children = history.run(run_id or "", store=path).children("load")
        assert [child.index for child in children] == list(range(len(last)))


def _released(state: State, flow: Flow) -> bool:
    """Whether the last result was made before, by a part of the run, and not stored."""
    try:
        result_of(state, flow)
    except ResultReleased:
        return True
    return False
