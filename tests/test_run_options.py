"""The options of a run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from prefectish import Flow, Task, flow
from prefectish.engine.driver.options import RunOptions
from prefectish.engine.state import Scheduled


def test_given_options_replace_others_and_none_replaces_nothing() -> None:
    options = RunOptions(history="h.db", progress=True, keep_results=True)
    merged = options.merged(history=False, progress=None, keep_results=False, timeout=timedelta(minutes=1))
    assert merged == RunOptions(history=False, progress=True, keep_results=False, timeout=60.0)
    assert options == RunOptions(history="h.db", progress=True, keep_results=True)


def test_options_are_frozen() -> None:
    with pytest.raises(AttributeError):
        RunOptions().timeout = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"on_pause": "ask"}, "on_pause must be None, or 'prompt' to ask on the terminal, got 'ask'"),
        ({"state": 3}, "state must be a State, got 3"),
        ({"timeout": 0}, "timeout"),
        ({"timeuot": 3}, "timeuot"),
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        RunOptions(state=Scheduled()).merged(**wrong)


def test_both_front_ends_refuse_the_same_executor_in_the_same_words() -> None:
    text = r"executor must be an Executor instance such as .*LocalDaskExecutor\(\), or .*, got 'treads'"
    with pytest.raises(TypeError, match=text):
        Flow("f", tasks=[Task()]).run(executor="treads")
    with pytest.raises(TypeError, match=text):
        flow(lambda: 1, name="g").run(executor="treads")
