"""A flow for tests of the history: children that fail, a task that is retried in vain, and a total of all."""

from __future__ import annotations

from typing import Any

from prefectish import Flow, task, triggers


@task
def load(x: int) -> int:
    if x % 7 == 3:
        raise ValueError(f"no file {x}")
    return x


@task(max_retries=2, retry_delay=0)
def flaky() -> None:
    raise RuntimeError("never")


@task(trigger=triggers.all_finished)
def total(values: list[Any]) -> int:
    return len(values)


def example(width: int = 20) -> Flow:
    with Flow("example") as flow:
        total(load.map(list(range(width))))
        flaky()
    return flow
