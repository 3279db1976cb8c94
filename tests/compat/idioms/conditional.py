"""Control flow: case, switch, ifelse and merge."""

import prefect
from prefect import Flow, Parameter, case, task
from prefect.tasks.control_flow import ifelse, merge, switch


@task
def check_condition(value):
    return value > 2


@task
def action(name):
    prefect.context.get("logger").info("taking %s", name)
    return f"took {name}"


with Flow("conditional") as flow:
    value = Parameter("value", default=3)
    condition = check_condition(value)
    with case(condition, True):
        yes = action("yes")
    with case(condition, False):
        no = action("no")
    merged = merge(yes, no)
    three, four = action("three"), action("four")
    switch(value, {3: three, 4: four})
    big, small = action("big"), action("small")
    ifelse(condition, big, small)


def check(state):
    assert state.is_successful()
    assert state.result[merged].result == "took yes"
    assert state.result[no].is_skipped()
    assert state.result[three].result == "took three"
    assert state.result[four].is_skipped()
    assert state.result[big].result == "took big"
    assert state.result[small].is_skipped()
