"""A cluster that runs an attempt again because a worker died: what was stored is taken, and no body runs twice."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prefectish import Flow, context, task
from prefectish.engine.driver.inline import LocalExecutor
from prefectish.engine.jobs.job import Job
from prefectish.engine.jobs.protocol import Session
from prefectish.engine.state import Failed, Success
from prefectish.engine.worker import storage
from prefectish.engine.worker.run_steps import run_job
from prefectish.errors import RemoteError
from prefectish.results import LocalResult


class RunsTwice:
    """Runs every job, loses its records, and runs it again, as a cluster does whose worker died at the wrong time."""

    @contextmanager
    def start(self, plan: Any, run: Mapping[str, Any]) -> Iterator[Session]:
        with LocalExecutor().start(plan, run) as session:
            submit = session.submit

            def submit_twice(jobs: Sequence[Job]) -> None:
                for job in jobs:
                    run_job(job)
                submit(jobs)

            session.submit = submit_twice  # type: ignore[method-assign]
            yield session


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let attempts run in another process than that of the owner."""
    numbers = itertools.count()
    monkeypatch.setattr(storage, "process_id", lambda: str(next(numbers)))


@pytest.fixture
def bodies() -> Counter[str]:
    return Counter()


def flow_of(body: Any, store: Any, **options: Any) -> tuple[Flow, Any]:
    with Flow("ledger", result=store) as flow:
        mapped = task(body, name="body", **options).map([1, 2, 3])
    return flow, mapped


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("location", [None, "${task_name}/${x}"])
def test_r4_stored_result_is_taken(tmp_path: Path, bodies: Counter[str], location: str | None) -> None:
    def body(x: int) -> int:
        bodies[str(x)] += 1
        return x * x

    flow, mapped = flow_of(body, LocalResult(dir=tmp_path, location=location))
    state = flow.run(executor=RunsTwice(), history=False)
    assert state.result[mapped].result == [1, 4, 9]
    assert bodies == {"1": 1, "2": 1, "3": 1}


@pytest.mark.usefixtures("far")
def test_r4_body_that_returned_nothing_does_not_run_again(tmp_path: Path, bodies: Counter[str]) -> None:
    def body(x: int) -> None:
        bodies[str(x)] += 1

    flow, mapped = flow_of(body, LocalResult(dir=tmp_path))
    state = flow.run(executor=RunsTwice(), history=False)
    assert [type(child) for child in state.result[mapped].map_states] == [Success] * 3
    assert bodies == {"1": 1, "2": 1, "3": 1}


@pytest.mark.usefixtures("far")
def test_r4_failed_attempt_is_stored_and_its_retries_are_attempts_of_their_own(
    tmp_path: Path, bodies: Counter[str]
) -> None:
    def body(x: int) -> int:
        bodies[str(x)] += 1
        if x == 2:
            raise ValueError("two")
        return x

    flow, mapped = flow_of(body, LocalResult(dir=tmp_path), max_retries=2, retry_delay=0)
    state = flow.run(executor=RunsTwice(), history=False)
    one, two, three = state.result[mapped].map_states
    assert (one.result, three.result) == (1, 3)
    assert type(two) is Failed
    assert isinstance(two.result, ValueError | RemoteError)
    assert bodies == {"1": 1, "2": 3, "3": 1}


def test_owner_writes_no_notes_for_itself(tmp_path: Path) -> None:
    flow, _ = flow_of(lambda x: None, LocalResult(dir=tmp_path))
    assert type(flow.run(history=False)) is Success
    assert list(tmp_path.rglob("*.*")) == []


@pytest.mark.usefixtures("far")
def test_without_checkpoints_bodies_run_again(tmp_path: Path, bodies: Counter[str]) -> None:
    def body(x: int) -> int:
        bodies[str(x)] += 1
        return x

    flow, _ = flow_of(body, LocalResult(dir=tmp_path))
    with context(checkpointing=False):
        flow.run(executor=RunsTwice(), history=False)
    assert bodies == {"1": 2, "2": 2, "3": 2}
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_can_be_switched_off_in_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, mapped = flow_of(lambda x: x, LocalResult(dir=tmp_path))
    monkeypatch.setenv("PREFECTISH_CHECKPOINTING", "false")
    assert flow.run(history=False).result[mapped].result == [1, 2, 3]
    assert list(tmp_path.iterdir()) == []
    flow.run(history=False, context={"checkpointing": True})
    assert len(list(tmp_path.rglob("*.1"))) == 3
