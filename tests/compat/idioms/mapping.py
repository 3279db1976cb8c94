"""Mapping, with a reduction, an unmapped argument, flatten and a filter."""

from prefect import Flow, Parameter, flatten, task, unmapped
from prefect.tasks.control_flow import FilterTask

only_even = FilterTask(filter_func=lambda x: x % 2 == 0)


@task
def numbers(n):
    return list(range(n))


@task
def add(x, y):
    return x + y


@task
def spread(x):
    return [x] * x


@task
def total(values):
    return sum(values)


with Flow("mapping") as flow:
    n = Parameter("n", default=4)
    added = add.map(numbers(n), y=unmapped(10))
    zipped = add.map(x=[1, 2, 3], y=[1, 2, 3])
    spreads = spread.map([1, 2, 3])
    flat = add.map(flatten(spreads), unmapped(1))
    kept = only_even(added)
    result = total(kept)


def check(state):
    assert state.is_successful()
    assert state.result[added].result == [10, 11, 12, 13]
    assert state.result[zipped].result == [2, 4, 6]
    assert state.result[flat].result == [2, 3, 3, 4, 4, 4]
    assert state.result[kept].result == [10, 12]
    assert state.result[result].result == 22
    assert state.result[added].is_mapped()
