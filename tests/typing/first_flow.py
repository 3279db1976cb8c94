"""Code as users write it: mypy --strict accepts every line, and knows the types named here."""

from __future__ import annotations

from typing import assert_type

from prefectish import Flow, Parameter, Task, task, unmapped
from prefectish.engine.state import State
from prefectish.executors import DaskExecutor, LocalDaskExecutor, LocalExecutor
from prefectish.triggers import all_finished


@task
def numbers(count: int) -> list[int]:
    return list(range(count))


@task(max_retries=2, retry_delay=0.5, trigger=all_finished)
def scale(number: int, factor: int) -> int:
    return number * factor


class Total(Task):
    def run(self, values: list[int]) -> int:
        return sum(values)


def build() -> Flow:
    with Flow("typed") as flow:
        scaled = scale.map(numbers(Parameter("count", default=3)), factor=unmapped(10))
        assert_type(scaled, Task[list[int]])
        Total(name="total")(scaled)
    return flow


def run() -> int:
    flow = build()
    for executor in (LocalExecutor(), LocalDaskExecutor(scheduler="threads"), DaskExecutor("tcp://127.0.0.1:8786")):
        state = flow.run(parameters={"count": 4}, executor=executor)
        assert_type(state, State)
    return state.exit_code
