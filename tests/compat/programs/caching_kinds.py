"""Caches by time, by inputs, by parameters, and a key that tasks share."""

import datetime
from datetime import timedelta

from prefect import Flow, Parameter, task
from prefect.engine.cache_validators import all_inputs, partial_inputs_only, partial_parameters_only

CALLS = []


@task(cache_for=timedelta(hours=1), cache_validator=all_inputs)
def by_inputs(x):
    CALLS.append("inputs")
    return x


@task(cache_for=datetime.timedelta(days=1), cache_validator=partial_inputs_only(validate_on=["x"]))
def by_one(x, now):
    CALLS.append("one")
    return x


@task(cache_for=timedelta(days=1), cache_validator=partial_parameters_only(validate_on=["nrows"]))
def by_parameter():
    CALLS.append("parameter")
    return 3


@task
def moment():
    return datetime.datetime.now().timestamp()


with Flow("caches") as flow:
    nrows = Parameter("nrows", default=5)
    a, b, c = by_inputs(nrows), by_one(nrows, moment()), by_parameter(upstream_tasks=[nrows])


def check(state):
    assert state.is_successful(), state
    assert [type(state.result[t]).__name__ for t in (a, b, c)] == ["Cached"] * 3


def check_again(state):
    assert state.is_successful(), state
    assert [state.result[t].result for t in (a, b, c)] == [5, 5, 3]
    assert len(CALLS) in (0, 3), CALLS
