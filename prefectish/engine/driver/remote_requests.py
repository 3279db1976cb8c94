"""Requests to a run that come by its history, from other processes: words and JSON instead of objects.

What another process asks for is carried out by the same requests as what a handle asks for; here is how each is spelt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prefectish.engine.capture import Error, Value
from prefectish.engine.driver.control import (
    Approve,
    CancelRun,
    CancelTask,
    DrainRun,
    PauseRun,
    Reply,
    ResumeRun,
    RetryFailed,
    RunControl,
    SetTagLimit,
    SetTaskLimit,
)
from prefectish.engine.scheduling.retry_failed import chooser
from prefectish.engine.task_states import story_of

#: Fields of a request by the word for it.
VERBS: Mapping[str, Callable[..., Any]] = {
    "cancel": CancelRun,
    "drain": DrainRun,
    "pause": PauseRun,
    "resume": ResumeRun,
    "cancel_task": CancelTask,
    "set_task_limit": lambda slug, size: SetTaskLimit(slug, size),
    "set_tag_limit": SetTagLimit,
    "approve": lambda slug, index, input: Approve(slug, index, input),
    "retry": lambda slug, where, rows: RetryFailed(slug, _chosen(where, rows)),
}
STORY = "story"


def ask(control: RunControl, verb: str, arguments: Mapping[str, Any]) -> Reply:
    """Leave a request that came as words in the mailbox of a run, and return the reply, which the loop gives.

    A request that makes no sense is answered at once, by the error that says why.
    """
    reply = Reply()
    try:
        if verb == STORY:
            reply.answer = Value(str(story_of(control.run_id, arguments["key"])))
            reply.known.set()
            return reply
        if verb not in VERBS:
            raise ValueError(f"request must be one of {', '.join((*VERBS, STORY))}, got {verb!r}")
        request = VERBS[verb](**arguments)
    except Exception as error:  # the words come from another process, maybe of another version
        reply.answer = Error(error)
        reply.known.set()
        return reply
    control.mailbox.post(request, reply)
    return reply


def _chosen(where: str | None, rows: list[int] | None) -> Callable[[int, Any], bool]:
    """Return what picks failed children: by the name of an exception, or by their rows."""
    if rows is None:
        return chooser(where)
    chosen = frozenset(rows)
    return lambda row, state: row in chosen
