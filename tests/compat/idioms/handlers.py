"""State handlers of tasks and flows, callbacks on failure, and a terminal state handler."""

from prefect import Flow, task
from prefect.engine.state import Failed, Success
from prefect.utilities.notifications import callback_factory

SEEN = []


def note(flow, old, new):
    SEEN.append((flow.name, type(new).__name__))
    return new


def rescue(task, old, new):
    if new.is_failed():
        return Success("rescued", result=0)
    return new


def gone_wrong(flow, state):
    SEEN.append((flow.name, "callback"))


only_success = callback_factory(gone_wrong, check=lambda state: state.is_successful())


@task(state_handlers=[rescue])
def divides(x):
    return 1 / x


def verdict(flow, state, reference_states):
    if all(each.is_successful() for each in reference_states):
        return state
    return Failed("one of them failed")


with Flow("handlers", state_handlers=[note, only_success], terminal_state_handler=verdict) as flow:
    rescued = divides(0)
    half = divides(2)


def check(state):
    assert state.is_successful()
    assert state.result[rescued].result == 0
    assert state.result[rescued].message == "rescued"
    assert state.result[half].result == 0.5
    assert SEEN == [("handlers", "Running"), ("handlers", "Success"), ("handlers", "callback")]
