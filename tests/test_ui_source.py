"""What pages remember between two requests: computed once for all, left for a while, and not waited for too long."""

from __future__ import annotations

import threading
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("pydantic")

from prefectish.ui import source as sources
from prefectish.ui.source import Source


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(sources, "time", made)
    return made


@pytest.fixture
def source() -> Any:
    made = Source(None)  # type: ignore[arg-type]  # it is not read here
    yield made
    made.close()


def test_what_takes_long_is_left_longer(source: Source, clock: Clock) -> None:
    computed: list[float] = []

    def compute() -> int:
        computed.append(clock.now)
        clock.now += 3.0
        return len(computed)

    assert source.soon("key", compute, fresh_for=1.0, patience=None) == 1
    clock.now += 11.9
    assert source.soon("key", compute, fresh_for=1.0, patience=None) == 1
    clock.now += 0.2
    assert source.soon("key", compute, fresh_for=1.0, patience=None) == 2


def test_a_page_waits_no_longer_than_its_patience(source: Source) -> None:
    gate = threading.Event()

    def compute() -> str:
        assert gate.wait(60)
        return "whole"

    assert source.soon("key", compute, fresh_for=60.0, patience=0.0) is None
    gate.set()
    assert source.soon("key", compute, fresh_for=60.0, patience=None) == "whole"
    assert source.soon("key", compute, fresh_for=60.0, patience=0.0) == "whole"


def test_an_error_is_raised_and_not_remembered(source: Source) -> None:
    answers = iter([ValueError("odd"), 2])

    def compute() -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(ValueError, match="odd"):
        source.soon("key", compute, fresh_for=60.0, patience=None)
    assert source.soon("key", compute, fresh_for=60.0, patience=None) == 2


def test_all_who_ask_the_same_get_one_answer_until_something_was_asked_for(source: Source, clock: Clock) -> None:
    computed: list[int] = []

    def compute() -> int:
        computed.append(1)
        return len(computed)

    assert [source.answered("page", compute) for _ in range(100)] == [1] * 100
    source.forget_answers()
    assert source.answered("page", compute) == 2
    clock.now += 2 * sources.MOMENT
    assert source.recent("page") is None
    assert source.answered("page", compute) == 3
