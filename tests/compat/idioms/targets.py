"""Targets: a task whose file exists does not run again."""

import tempfile

from prefect import Flow, task
from prefect.engine.results import LocalResult

FOLDER = tempfile.mkdtemp(prefix="targets-")


@task(result=LocalResult(dir=FOLDER), target="{task_name}-{today}.prefect")
def first(x):
    return ("first", x)


@task(result=LocalResult(dir=FOLDER), target="{task_name}-{today}.prefect")
def second(x):
    return ("second", x)


@task(result=LocalResult(dir=FOLDER, location="{date:%Y}/{task_name}-{map_index}.prefect"))
def each(x):
    return x * 2


with Flow("targets") as flow:
    one = first(1)
    two = second(one)
    doubled = each.map([1, 2, 3])

OPTIONS = {"context": {"checkpointing": True}}  # or PREFECT__FLOWS__CHECKPOINTING=true


def check(state):
    assert state.is_successful()
    assert state.result[one].result == ("first", 1)
    assert state.result[two].result == ("second", ("first", 1))
    assert state.result[doubled].result == [2, 4, 6]


def check_again(state):
    assert state.result[one].is_cached()
    assert state.result[two].is_cached()
    assert state.result[two].result == ("second", ("first", 1))
