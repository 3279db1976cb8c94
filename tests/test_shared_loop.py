"""The loop that async bodies of a process share, without a run."""

from __future__ import annotations

import asyncio
import threading

import pytest

from prefectish.engine.capture import Error, Value
from prefectish.engine.worker.shared_loop import awaited, shares_loop, side_by_side


async def fails(error):
    raise error


async def thread_name():
    return threading.current_thread().name


def test_loop_is_one_for_all_and_ends_with_none():
    first = awaited(thread_name())
    assert isinstance(first, Value)
    assert first.value == "prefectish-loop"
    for error in (ValueError("no"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()):
        outcome = awaited(fails(error))
        assert isinstance(outcome, Error)
        assert outcome.exception is error
    assert awaited(thread_name()).value == "prefectish-loop"


def test_calls_are_made_side_by_side_and_errors_come_out():
    barrier = threading.Barrier(3, timeout=30)
    side_by_side([lambda: barrier.wait() and None] * 3, 3)
    with pytest.raises(ValueError, match="no"):
        side_by_side([lambda: (_ for _ in ()).throw(ValueError("no"))], 2)
    assert not shares_loop()
