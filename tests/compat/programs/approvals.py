"""A task that waits for a manual answer, which a handler gives, and one that pauses for a time."""

from datetime import timedelta

from prefect import Flow, task
from prefect.engine.state import Paused, Resume
from prefect.triggers import manual_only
from prefect.utilities.tasks import pause_task


def approve(task, old_state, new_state):
    if isinstance(new_state, Paused):
        return Resume("approved")
    return new_state


@task
def build():
    return "image"


@task(trigger=manual_only, state_handlers=[approve])
def deploy(image):
    return f"deployed {image}"


@task
def waits():
    pause_task("a moment", duration=timedelta(seconds=0.1))
    return "waited"


with Flow("Pause") as flow:
    deployed = deploy(build())
    waited = waits()


def check(state):
    assert state.is_successful(), state
    assert state.result[deployed].result == "deployed image"
    assert state.result[waited].result == "waited"
