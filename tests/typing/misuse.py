"""What is refused before anything runs: each line is an error for mypy and pyright, or its `ignore` would be one."""

from __future__ import annotations

from prefectish import Flow, Task, task, unmapped


@task
def names() -> list[str]:
    return ["a"]


@task
def load(name: str, times: int = 1) -> float:
    return len(name) * times


@task
def total(sizes: list[float]) -> float:
    return sum(sizes)


class Largest(Task[int]):
    def run(self, sizes: list[int]) -> int:
        return max(sizes)


def build() -> Flow:
    with Flow("mistakes") as flow:
        sizes = load.map(names())
        load.map([1, 2])  # type: ignore[list-item]
        load.map(3)  # type: ignore[call-overload]
        load.map({"a", "b"})  # type: ignore[call-overload]
        load.map(total(sizes))  # type: ignore[arg-type]
        load.map(sizes)  # type: ignore[arg-type]
        load.map(names(), unmapped("x"))  # type: ignore[arg-type]
        load.map(names(), [1], [2])  # type: ignore[call-overload]
        load(sizes)  # type: ignore[arg-type]
        load("a", "b")  # type: ignore[call-overload]
        total(names())  # type: ignore[arg-type]
        Largest()(names())  # type: ignore[arg-type]
        load.run(1)  # type: ignore[arg-type]
        task(max_retry=2)  # type: ignore[call-overload]
        task(batch_size="car")  # type: ignore[call-overload]
        task(3)  # type: ignore[call-overload]
    return flow
