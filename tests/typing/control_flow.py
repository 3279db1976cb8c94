"""Control flow, products and typed parameters as users write them: mypy --strict accepts every line."""

from __future__ import annotations

from typing import assert_type

from prefectish import (
    DateTimeParameter,
    Flow,
    Parameter,
    Task,
    apply_map,
    case,
    ifelse,
    merge,
    product,
    resource_manager,
    switch,
    task,
    unmapped,
)
from prefectish.tasks.control_flow import FilterTask


@task
def inc(x: int) -> int:
    return x + 1


@task
def add(x: int, y: int) -> int:
    return x + y


class Folder:
    def __init__(self, name: str) -> None:
        self.name = name

    def setup(self) -> str:
        return self.name

    def cleanup(self, name: str) -> None:
        del name


class Lock:
    def cleanup(self, nothing: None) -> None: ...


# mypy does not see that a decorator makes something else of a class.
folders = resource_manager(Folder)
locks = resource_manager(name="lock", cleanup_task_kwargs={"max_retries": 2, "retry_delay": 1})(Lock)


def step(x: Task, y: Task) -> Task:
    with case(x, 1):
        one = add(x, y)
    with case(x.is_equal(2), True):
        two = inc(y)
    return merge(one, named=two)


def build() -> Flow:
    with Flow("typed") as flow:
        n = Parameter("n", default="3", type=int)
        since = DateTimeParameter("since", required=False)
        a, b = inc(n), inc(n, upstream_tasks=[since])
        switch(n, {1: a, "many": b})
        ifelse(n > 2, a, None)
        with folders("tmp") as folder, locks():
            inc(n, upstream_tasks=[folder])
        stepped = apply_map(step, [1, 2, 3], unmapped(a))
        columns = product([1, 2], stepped)
        assert_type(columns, tuple[Task, ...])
        FilterTask(lambda value: value is not None, name="good")(add.map(*columns))
        merge(b, flow=flow)
    assert_type(flow.version, str)
    return flow
