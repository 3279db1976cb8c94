"""Flows as functions as users write them: mypy and pyright know what futures give."""

from __future__ import annotations

from typing import Any, assert_type

from prefectish import allow_failure, as_completed, flow, task, wait
from prefectish.engine.state import State
from prefectish.functions.futures import TaskFuture


@task(retries=3, retry_delay_seconds=10)
def load(url: str) -> bytes:
    return url.encode()


@task
async def size(page: bytes, unit: int = 1) -> int:
    return len(page) // unit


@task
def total(sizes: list[int]) -> int:
    return sum(sizes)


@flow(task_runner_max_concurrency=2)
def pages(urls: list[str]) -> int:
    loaded = [load.submit(url) for url in urls]
    assert_type(loaded[0], TaskFuture[bytes])
    sizes = [size.submit(page) for page in loaded]
    assert_type(sizes[0].result(), int)
    size.submit(b"", unit=3, wait_for=sizes)
    size.submit(allow_failure(loaded[0]), 2)
    assert_type(load.submit("a", return_state=True), State)
    assert_type(load.fn("a"), bytes)
    for future, _ in as_completed(sizes, with_results=True):
        assert_type(future, TaskFuture[Any])
    for future in as_completed(sizes):
        future.result()
    wait(sizes)
    return total.submit(sizes).result()


def misuse() -> None:
    size.submit("page")  # type: ignore[call-overload]
    size.submit(size.submit(b""))  # type: ignore[arg-type]
    load.submit("a", 1, 2, 3)  # type: ignore[call-overload]


def run() -> int:
    return pages(["a", "b"])
