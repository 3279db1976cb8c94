"""Pausing from inside a body, and the answers that a body waits for.

A question is its text: the answer to it is found by it when the body is called again, so a body that asks twice gets
two answers. What was answered stays with the task's state until it is finished.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar, overload

from prefectish.engine import clock as clocks
from prefectish.engine.context import context
from prefectish.engine.signals import PAUSE
from prefectish.errors import ParameterError
from prefectish.validation import adapter_for, checked, type_name

T = TypeVar("T")
#: Keys of the context of a Paused state: its question, the name of the expected type, answers to other questions.
QUESTION, WANTED, ANSWERS = "question", "input", "answers"


@overload
def pause_task(message: Any = None, duration: float | timedelta | None = None) -> Any: ...
@overload
def pause_task(message: Any = None, duration: None = None, *, input: type[T]) -> T: ...
@overload
def pause_task(message: Any = None, duration: float | timedelta | None = None, *, input: Any) -> Any: ...


def pause_task(message: Any = None, duration: float | timedelta | None = None, *, input: Any = None) -> Any:
    """Pause the task until it is approved; its body is then called again from the start, and passes this line.

    A task that waits holds nothing. If only such tasks are left, the run ends, unfinished; `prefectish approve RUN`, or
    :meth:`RunRow.approve` in a program, continues it, also in another process and after weeks.

    Parameters
    ----------
    message
        The message of the Paused state: the question. Several questions of one body must differ.
    duration
        Seconds, at least 0, or a timedelta, after which the task continues without approval, with None as the answer.
    input
        The type of the answer: anything that can annotate an argument, such as ``bool`` or ``list[str]``. An answer
        of another type pauses the task again, with a message that says so.

    Returns
    -------
    object
        The answer; None if there is none.

    Raises
    ------
    PAUSE
        Unless it was approved.
    ValueError
        If the duration is negative.
    FlowDefinitionError
        If the type cannot be checked, or pydantic is not installed.

    Examples
    --------
    >>> with context(resume=True):
    ...     pause_task("shall I?")
    >>> with context(answers={"how many?": "3"}):
    ...     pause_task("how many?", input=int)
    3
    """
    asked = "pause_task was called" if message is None else message
    question = str(asked)
    answers: Mapping[str, Any] = context.get(ANSWERS) or {}
    others = {name: value for name, value in answers.items() if name != question}
    facts = {QUESTION: question, **({ANSWERS: others} if others else {})}
    if input is None:
        if question in answers or context.get("resume"):
            return answers.get(question)
    else:
        facts[WANTED] = type_name(input)
        adapter_for(question, input)
        if question in answers:
            try:
                return checked(question, input, answers[question])
            except ParameterError as error:
                asked = f"{question} ({str(error).removeprefix(f'parameter {question!r} ')})"
        elif duration is not None and context.get("resume"):
            return None
    if duration is None:
        raise PAUSE(asked, context=facts)
    raise PAUSE(asked, context=facts, start_time=_after(duration))


def answered(paused: Mapping[str, Any], message: Any, answer: Any) -> dict[str, Any]:
    """Return the context of the Resume state that follows a pause with this context and message.

    The answer is None for an approval without a word.
    """
    if answer is None:
        return dict(paused)
    question = paused.get(QUESTION, str(message))
    return {**paused, QUESTION: question, ANSWERS: {**(paused.get(ANSWERS) or {}), question: answer}}


def _after(duration: float | timedelta) -> datetime:
    wait = duration if isinstance(duration, timedelta) else timedelta(seconds=duration)
    if wait < timedelta(0):
        raise ValueError(f"pause_task: duration={duration!r} is negative")
    return clocks.later(clocks.now(), wait.total_seconds())
