"""Limits, pauses, chores and pictures as users write them: mypy --strict accepts every line."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from prefectish import Flow, Task, pause_task, task
from prefectish.tasks.files import ReadFile, WriteFile
from prefectish.tasks.http import HTTPTask
from prefectish.tasks.mail import EmailTask
from prefectish.tasks.shell import ShellTask
from prefectish.tasks.sql import SQLTask


@task(timeout=2.5, total_timeout=timedelta(minutes=1), isolation="process", log_stdout=True)
def careful(x: int) -> int:
    pause_task("shall I?", duration=timedelta(seconds=1))
    return x


@task
async def later(x: int) -> int:
    return x


def build() -> Flow:
    with Flow("chores") as flow:
        listing = ShellTask("ls", return_all=True, timeout=5)()
        assert_type(listing, Task)
        page = HTTPTask("http://localhost", returns="text", max_retries=2, retry_delay=1)(params={"q": 1})
        written = WriteFile("memory://page").map(content=[page])
        rows = SQLTask("sqlite://", "select :a", name="rows")(parameters={"a": later(careful(1))})
        read = ReadFile("memory://page")(upstream_tasks=[written])
        EmailTask(email_to=["a@example.com"], smtp_type="STARTTLS")(msg=read, upstream_tasks=[rows])
    return flow


def draw() -> str:
    flow = build()
    text = flow.visualize(flow.run(), format="dot", filename="chores.mmd")
    assert_type(text, str)
    assert_type(ShellTask().run(command="true"), str | list[str] | None)
    return text
