"""The standup example: the reminder workflow of a daily standup, whole, against its chat server."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from prefectish import Flow, context
from prefectish.engine.state import Failed, Mapped, Skipped, Success
from prefectish.examples import standup as example
from prefectish.examples.chat import ChatServer
from prefectish.schedules import CronSchedule
from prefectish.testing import VirtualClock

UPDATES = {"Ada": "wrote the loom's program", "Grace": "found a moth"}


@pytest.fixture
def chat():
    with ChatServer("sesame", UPDATES, silent=["Edsger", "Barbara"]).serving() as chat:
        yield chat


def run(flow, chat, **options):
    secrets = {"secrets": {"CHAT_TOKEN": options.pop("token", chat.token)}}
    return flow.run(chat_url=chat.url, run_on_schedule=False, history=False, context=secrets, **options)


def recipients(chat):
    return sorted(to for to, _ in chat.messages)


def test_only_those_without_an_update_are_reminded(chat, executor):
    state = run(example.reminders, chat, executor=executor)
    assert type(state) is Success
    assert recipients(chat) == ["Barbara", "Edsger"]
    sent = state.result[example.result]
    assert type(sent) is Mapped
    assert [type(child) for child in sent.map_states] == [Skipped, Skipped, Success, Success]
    needed = state.result[example.needed].map_states
    assert needed[0].message == "Ada has already provided an update"
    assert state.result[example.final].result == "reminded Edsger, Barbara; 2 had written already"


def test_channel_is_a_parameter(chat):
    run(example.reminders, chat, standup_channel="morning")
    assert all("the standup in #morning is in 30 minutes" in text for _, text in chat.messages)


def test_busy_server_is_asked_again(chat):
    chat.hiccups = 2
    with VirtualClock():
        assert type(run(example.reminders, chat)) is Success
    assert recipients(chat) == ["Barbara", "Edsger"]


def test_reminders_decide_about_the_flow_and_the_owner_is_notified(chat):
    chat.gone = frozenset({"Edsger"})
    chat.team.append("owner")
    chat.updates["owner"] = "keeps the flow"
    with VirtualClock():
        state = run(example.reminders, chat)
    assert type(state) is Failed
    assert [type(child) for child in state.result[example.result].map_states] == [
        Skipped,
        Skipped,
        Failed,
        Success,
        Skipped,
    ]
    assert ("owner", "standup reminders failed: Some reference tasks failed.") in chat.messages


def test_report_that_fails_leaves_the_flow_successful(chat):
    def fail(reminded):
        raise ValueError("no report today")

    flow = example.reminders.copy()
    broken = example.final.copy()
    broken.run = fail
    flow.replace(example.final, broken)
    assert {task.name for task in flow.terminal_tasks()} == {"report"}
    state = run(flow, chat)
    assert type(state.result[broken]) is Failed
    assert type(state) is Success


def test_wrong_token_fails_and_shows_nowhere(chat, caplog):
    state = run(example.reminders, chat, token="not-the-right-one")
    assert type(state) is Failed
    assert "HTTP Error 401" in caplog.text
    assert "not-the-right-one" not in caplog.text


def test_updates_are_posted_to_the_channel(chat):
    assert type(run(example.standup, chat)) is Success
    assert chat.messages == [("#standup", "Ada: wrote the loom's program\nGrace: found a moth")]


def test_schedules_are_weekdays_at_half_past_eight_and_nine_in_new_york():
    after = datetime(2026, 3, 5, 20, tzinfo=UTC)
    assert [moment.strftime("%a %H:%M %Z") for moment in example.reminders.schedule.next(3, after=after)] == [
        "Fri 08:30 EST",
        "Mon 08:30 EDT",
        "Tue 08:30 EDT",
    ]
    assert example.standup.schedule.next(1, after=after)[0].hour == 9


def test_flow_runs_on_its_schedule(chat):
    """From a Friday noon to the end of Tuesday: two mornings, and the second finds everybody's update."""
    days = []

    def look(flow, old, new):
        if new.is_running():
            days.append(context.scheduled_start_time.strftime("%a %d %H:%M"))
        else:
            chat.updates.update(Edsger="drew a graph", Barbara="put it into a type")

    flow = example.reminders.copy()
    flow.state_handlers.insert(0, look)
    (clock,) = example.reminders.schedule.clocks
    flow.schedule = CronSchedule(clock.cron, timezone=clock.timezone, end_date=datetime(2026, 5, 6, tzinfo=UTC))
    secrets = {"secrets": {"CHAT_TOKEN": chat.token}}
    with VirtualClock(datetime(2026, 5, 1, 16, tzinfo=UTC)):
        state = flow.run(chat_url=chat.url, history=False, context=secrets)
    assert days == ["Mon 04 08:30", "Tue 05 08:30"]
    assert recipients(chat) == ["Barbara", "Edsger"]
    assert state.result[example.final].result == "reminded no one; 4 had written already"


def test_pieces_are_plain_functions_to_be_tested_by_themselves():
    assert example.is_reminder_needed.run("Edsger", UPDATES) == "Edsger"
    with pytest.raises(BaseException, match="Ada has already provided an update"):
        example.is_reminder_needed.run("Ada", UPDATES)
    assert example.report.run([None, None]) == "reminded no one; 2 had written already"
    assert isinstance(example.reminders, Flow)


@pytest.mark.parametrize(("arguments", "code"), [((), 0), (("--someone-left",), 1)])
def test_program_tells_what_the_chat_got(arguments, code):
    call = [sys.executable, "-m", "prefectish.examples.standup", *arguments]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert "to Edsger: Hi Edsger, the standup in #standup is in 30 minutes" in done.stdout
    assert f"standup reminders: {'Failed' if code else 'Success'}. " in done.stdout
    assert "post standup: Success." in done.stdout
    assert ("to owner: standup reminders failed" in done.stdout) is bool(code)
