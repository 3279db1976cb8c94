"""Notifiers: a handler of a flow, on_failure of a task, and a Slack notifier that only wants failures."""

from prefect import Flow, task
from prefect.engine.state import Failed, Retrying, TriggerFailed
from prefect.triggers import any_failed
from prefect.utilities.notifications import slack_notifier

TOLD = []
handler = slack_notifier(only_states=[Retrying], webhook_secret="NO_HOOK")


def post_to_chat(task, old_state, new_state):
    if isinstance(new_state, Failed) and not isinstance(new_state, TriggerFailed):
        TOLD.append(f"{task.name} failed: {new_state.message}")
    return new_state


def tell(task, state):
    TOLD.append(f"{task.name} is {type(state).__name__}")


@task(state_handlers=[post_to_chat, handler])
def breaks():
    raise ValueError("no disk")


@task(on_failure=tell)
def follows(x):
    return x


@task(trigger=any_failed)
def alarm():
    return "rung"


with Flow("notifies", state_handlers=[post_to_chat]) as flow:
    broken = breaks()
    after = follows(broken)
    rung = alarm(upstream_tasks=[after])

flow.set_reference_tasks([rung])


def check(state):
    assert state.is_successful(), state
    assert state.result[rung].result == "rung"
    assert isinstance(state.result[after], TriggerFailed)
