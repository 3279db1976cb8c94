"""What a child costs: time of the processor in its thread, and how far the peak memory of the process rose."""

from __future__ import annotations

from time import thread_time

from prefectish.engine.jobs.envelope import encode
from prefectish.engine.state import Success
from prefectish.engine.worker import cost


def test_cost_is_what_was_used_since(monkeypatch):
    used = iter([(1.0, 100), (3.5, 700)])
    now = next(used)
    monkeypatch.setattr(cost, "thread_time", lambda: now[0])
    monkeypatch.setattr(cost, "_peak", lambda: now[1])
    before = cost.begin()
    now = next(used)
    inputs = [Success(None, value) for value in ("four", bytearray(10), encode(list(range(5000)), "here"), 7, None)]
    assert cost.spent(before, inputs) == (2.5, 600, 4 + 10 + inputs[2]._raw_result.nbytes)


def test_work_of_this_thread_is_seen():
    before = cost.begin()
    until = thread_time() + 0.02
    while thread_time() < until:
        pass
    seconds, memory, taken = cost.spent(before)
    assert taken == 0
    assert 0.02 <= seconds < 10
    assert memory >= 0


def test_peak_is_unknown_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(cost, "resource", None)
    assert cost.spent(cost.begin())[1] == 0
