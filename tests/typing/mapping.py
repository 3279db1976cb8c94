"""Maps as users write them: what a task returns is known, and after a map a list of it. mypy and pyright accept it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, assert_type

from prefectish import Flow, Task, allow_failure, flatten, task, unmapped
from prefectish.tasks import FunctionTask
from prefectish.triggers import all_finished


class Row:
    size: int


@task
def addresses(count: int = 3) -> list[str]:
    return [str(n) for n in range(count)]


@task(max_retries=2, retry_delay=1, timeout=timedelta(seconds=30))
def load(address: str) -> Row:
    return Row()


@task(batch_size="auto", rate="10/s", on_child_failure="stop", max_failures=0.01, min_sample=50)
async def size(row: Row, unit: int = 1) -> int:
    return row.size // unit


@task
def words(text: str) -> list[str]:
    return text.split()


@task
def total(sizes: list[int]) -> float:
    return float(sum(sizes))


@task(trigger=all_finished)
def report(names: list[str], rows: list[Row | BaseException]) -> str:
    return f"{len(rows)} of {len(names)}"


@task
def count(rows: Sequence[object]) -> int:
    return len(rows)


class Largest(Task[int]):
    """The base says what `run` returns."""

    def run(self, sizes: list[int], least: int = 0) -> int:
        return max([*sizes, least])


class Old(Task):
    """Without it, what comes after is not checked."""

    def run(self, sizes: list[int]) -> int:
        return max(sizes)


def build() -> Flow:
    with Flow("typed maps") as flow:
        urls = addresses()
        assert_type(urls, Task[list[str]])
        rows = load.map(urls)
        assert_type(rows, Task[list[Row]])
        sizes = size.map(rows, unit=unmapped(1024))
        assert_type(sizes, Task[list[int]])
        assert_type(size.map(rows, unmapped(1024)), Task[list[int]])
        assert_type(total(sizes), Task[float])
        assert_type(Largest()(sizes), Task[int])
        assert_type(Old()(sizes), Task[Any])
        # Of a map, a body may take the failures too.
        assert_type(report(urls, rows), Task[str])
        assert_type(count(rows), Task[int])
        load.map(["a", "b"])
        load.map(iter("ab"))
        load.map(list("ab"))
        load.map([urls[0], "b"])
        load.map(flatten(words.map(["a b", "c"])))
        size.map(rows, range(3))
        size.map(unmapped(load("a")), unit=[1, 2])
        total([1, 2, Largest()(sizes)])
        report(urls, allow_failure(rows), upstream_tasks=[sizes], task_args={"name": "last"})
        load(urls, mapped=True)
    return flow


def bodies() -> None:
    """Outside a flow a body is called as it is."""
    assert_type(load.run("a"), Row)
    assert_type(total.run([1, 2]), float)
    assert_type(FunctionTask(len, name="length", max_retries=1, retry_delay=0).name, str)


async def body() -> None:
    assert_type(await size.run(Row(), unit=3), int)
