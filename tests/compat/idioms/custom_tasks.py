"""Tasks as classes, with retries, signals, triggers, an nout, tags and looping."""

from datetime import timedelta

import prefect
from prefect import Flow, Task, tags, task
from prefect.engine import signals
from prefect.engine.signals import LOOP
from prefect.triggers import all_finished, any_failed


class Add(Task):
    def __init__(self, step=1, **kwargs):
        self.step = step
        super().__init__(**kwargs)

    def run(self, x):
        return x + self.step


@task(nout=2)
def pair():
    return 1, 2


@task(max_retries=2, retry_delay=timedelta(seconds=0))
def flaky():
    if prefect.context.get("task_run_count") < 2:
        raise ValueError("once")
    return "at last"


@task
def skipped():
    raise signals.SKIP("not today")


@task
def fails():
    raise signals.FAIL("on purpose", result=7)


@task(trigger=any_failed, skip_on_upstream_skip=False)
def clean_up():
    return "cleaned"


@task(trigger=all_finished)
def last():
    return "last"


@task
def factorial(n):
    done = prefect.context.get("task_loop_result", {"n": n, "product": 1})
    if done["n"] == 1:
        return done["product"]
    raise LOOP(message="going on", result={"n": done["n"] - 1, "product": done["product"] * done["n"]})


with Flow("custom") as flow:
    one, two = pair()
    with tags("math"):
        three = Add(step=2, name="adds")(one)
    five = three + two
    tried = flaky()
    skip = skipped()
    failed = fails()
    cleaned = clean_up(upstream_tasks=[failed])
    end = last(upstream_tasks=[failed, cleaned])
    looped = factorial(5)

flow.set_reference_tasks([end, five, tried, looped])


def check(state):
    assert state.is_successful()
    assert state.result[five].result == 5
    assert state.result[tried].result == "at last"
    assert state.result[skip].is_skipped()
    assert state.result[failed].is_failed()
    assert state.result[failed].result == 7
    assert state.result[cleaned].result == "cleaned"
    assert state.result[end].result == "last"
    assert state.result[looped].result == 120
    assert "math" in three.tags
