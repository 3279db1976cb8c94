"""Branches, merged; a switch; skipped tasks; a filter behind failures; operators on results."""

from prefect import Flow, Parameter, task
from prefect.engine import signals
from prefect.tasks.control_flow import FilterTask, case, ifelse, merge, switch
from prefect.triggers import all_finished, any_failed


@task
def is_even(x):
    return x % 2 == 0


@task
def say(text):
    return text


@task
def inverse(x):
    return 1 / x


@task
def skip():
    raise signals.SKIP("not today")


@task(skip_on_upstream_skip=False)
def after_skip(x):
    return "ran"


@task(trigger=any_failed)
def alarm():
    return "alarm"


@task(trigger=all_finished)
def always():
    return "always"


with Flow("control flow") as flow:
    x = Parameter("x", default=2)
    with case(is_even(x), True):
        even = say("even", task_args={"name": "even"})
    with case(is_even(x), False):
        odd = say("odd", task_args={"name": "odd"})
    merged = merge(even, odd)
    with case(x > 1, True):
        many = say("many", task_args={"name": "many"})
    one, two = say("one", task_args={"name": "one"}), say("two", task_args={"name": "two"})
    switch(x, {1: one, 2: two})
    yes, no = say("yes", task_args={"name": "yes"}), say("no", task_args={"name": "no"})
    ifelse(x.is_equal(2), yes, no)
    inverses = inverse.map([1, 0, 2])
    kept = FilterTask(filter_func=lambda value: not isinstance(value, BaseException), name="kept")(inverses)
    rung = alarm(upstream_tasks=[inverses])
    after = after_skip(skip())
    last = always(upstream_tasks=[inverses, rung])
    formula = (x + 1) * x

flow.set_reference_tasks([merged, kept, last, formula])

EXPECTED = {
    "even": "even", "odd": None, "Merge": "even", "many": "many", "one": None, "two": "two", "yes": "yes", "no": None,
    "kept": [1.0, 0.5], "alarm": "alarm", "after_skip": "ran", "always": "always", "Mul": 6,
}  # fmt: skip
