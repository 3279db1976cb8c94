"""Signals and triggers of the documentation: SUCCESS with a result, SKIP, FAIL, RETRY, a trigger of one's own."""

import datetime

import prefect
from prefect import Flow, task
from prefect.engine import signals
from prefect.engine.state import State
from prefect.triggers import all_failed, always_run, some_failed


@task
def signal_task(message):
    if message == "go!":
        raise signals.SUCCESS(message="going!", result=1)
    elif message == "stop!":
        raise signals.FAIL(message="stopping!")
    elif message == "skip!":
        raise signals.SKIP(message="skipping!")


@task(max_retries=0)
def later():
    if prefect.context.task_run_count == 1:
        raise signals.RETRY(start_time=datetime.datetime.now(datetime.UTC))
    return "late"


def odd(upstream_states):
    states = list(upstream_states.values())
    assert all(isinstance(state, State) for state in states)
    if sum(state.is_failed() for state in states) % 2 == 0:
        raise signals.TRIGGERFAIL("an even number failed")
    return True


@task(trigger=always_run, skip_on_upstream_skip=False)
def cleans():
    return "clean"


@task(trigger=odd, skip_on_upstream_skip=False)
def odds():
    return True


@task(trigger=some_failed(at_least=1, at_most=0.5), skip_on_upstream_skip=False)
def some():
    return True


@task(trigger=all_failed)
def all_of_them():
    return True


with Flow("signals") as flow:
    go, stop, skip = (signal_task(word) for word in ("go!", "stop!", "skip!"))
    three = [go, stop, skip]
    cleaned, odd_one, some_of, all_ = (each(upstream_tasks=three) for each in (cleans, odds, some, all_of_them))
    waited = later()

flow.set_reference_tasks([cleaned])


def check(state):
    assert state.is_successful(), state
    kinds = [type(state.result[each]).__name__ for each in [*three, cleaned, odd_one, some_of, all_, waited]]
    assert kinds == ["Success", "Failed", "Skipped", "Success", "Success", "Success", "Skipped", "Success"], kinds
    assert state.result[go].result == 1
    assert state.result[waited].result == "late"
