"""Flows of parts: functions that build, update of a flow by another one, and runs of flows by flows."""

from prefect import Flow, Parameter, case, task
from prefect.tasks.prefect import create_flow_run, wait_for_flow_run


@task
def inc(x, by=1):
    return x + by


@task
def runs(x):
    with Flow("inside") as inside:
        value = inc(Parameter("x"))
    state = inside.run(x=x)
    return state.result[value].result


with Flow("part") as part:
    ten = inc(Parameter("x", default=1), by=9)

with Flow("whole") as flow:
    x = Parameter("x", default=1)
    one = inc(x)
    of_child = runs(one)
    with case(x, "never"):
        child = create_flow_run(flow_name="part", project_name="parts", parameters={"x": one})
        waited = wait_for_flow_run(child, stream_logs=True, raise_final_state=True)

flow.update(part, merge_parameters=True)
flow.set_reference_tasks([of_child, ten])


def check(state):
    assert state.is_successful(), state
    assert state.result[of_child].result == 3
    assert state.result[ten].result == 10
    assert state.result[waited].is_skipped()
