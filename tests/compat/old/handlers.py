"""State handlers of tasks and flows, retries, a loop, and what a signal carries."""

from datetime import timedelta

import prefect
from prefect import Flow, task
from prefect.engine.signals import LOOP, SUCCESS, PrefectStateSignal
from prefect.engine.state import Failed, Retrying, Success
from prefect.utilities.notifications import callback_factory

CHANGES = []


def rescue(obj, old_state, new_state):
    if isinstance(new_state, Failed):
        return Success("rescued", result=len(str(new_state.message)) > 0)
    return new_state


def note(flow, old_state, new_state):
    CHANGES.append(type(new_state).__name__)


@task(state_handlers=[rescue])
def fragile():
    raise ValueError("no")


@task(max_retries=2, retry_delay=timedelta(seconds=0), state_handlers=[callback_factory(print, lambda s: False)])
def third_time():
    if prefect.context.get("task_run_count") < 3:
        raise OSError("again")
    return prefect.context["task_run_count"]


@task
def loop():
    value = prefect.context.get("task_loop_result", 1)
    if value > 100:
        return value
    raise LOOP(message=f"at {value}", result=value * 3)


@task
def early():
    try:
        raise SUCCESS("enough", result="early")
    except PrefectStateSignal as signal:
        return signal.state.result


def stop(obj, state):
    raise AssertionError("the flow has not failed")


with Flow("handlers", state_handlers=[note], on_failure=stop) as flow:
    fragile()
    third_time()
    loop()
    early()

assert not issubclass(Retrying, Failed)
EXPECTED = {"fragile": True, "third_time": 3, "loop": 243, "early": "early"}
