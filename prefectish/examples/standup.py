"""Reminds a team of its daily standup, and posts what they wrote: two flows on schedules.

``python -m prefectish.examples.standup`` runs both once, at once, against a small chat server of its own; with
``--on-schedule`` they wait for 8:30 and 9:00 in New York, Monday to Friday.

Who has written an update already is not reminded: the child of ``is_reminder_needed`` raises SKIP, and the child of
``send_reminder`` behind it is skipped too. ``report`` runs all the same, and whether the reminders went out is what
decides about the flow, whatever becomes of the report.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from prefectish import Flow, Parameter, Secret, context, task, unmapped
from prefectish.engine import signals
from prefectish.engine.state import State
from prefectish.errors import PrefectishError
from prefectish.examples.census import EXECUTORS
from prefectish.examples.chat import ChatServer
from prefectish.schedules import CronSchedule

#: Seconds for each call of the chat server.
TIMEOUT = 10.0
TOKEN = "CHAT_TOKEN"


def call(url: str, token: str, message: Mapping[str, str] | None = None) -> Any:
    """Ask the chat server, or send it a message, and return what it answers."""
    body = None if message is None else json.dumps(message).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    direct = build_opener(ProxyHandler({}))  # it is on this machine
    try:
        with direct.open(Request(url, body, headers), timeout=TIMEOUT) as answer:
            return json.load(answer)
    except HTTPError as refused:  # which is an open answer too
        refused.close()
        raise


def tell_the_owner(flow: Flow, state: State) -> None:
    """Send a message to the maintainer of the flow."""
    text = f"{flow.name} failed: {state.message}"
    call(f"{context.parameters['chat_url']}/messages", Secret(TOKEN).get(), {"to": "owner", "text": text})


@task
def get_team(chat_url: str, token: str) -> list[str]:
    """Return the names of all people."""
    team: list[str] = call(f"{chat_url}/team", token)
    return team


@task
def get_latest_updates(chat_url: str, token: str) -> dict[str, str]:
    """Return what people wrote today, by name."""
    updates: dict[str, str] = call(f"{chat_url}/updates", token)
    return updates


@task
def is_reminder_needed(user: str, updates: dict[str, str]) -> str:
    """Return the user, unless there is an update of theirs."""
    if user in updates:
        raise signals.SKIP(f"{user} has already provided an update")
    return user


@task(max_retries=3, retry_delay=timedelta(seconds=0.1))
def send_reminder(user: str, chat_url: str, token: str, channel: str) -> str:
    """Write to one person."""
    text = f"Hi {user}, the standup in #{channel} is in 30 minutes, and you have not written an update yet."
    call(f"{chat_url}/messages", token, {"to": user, "text": text})
    return user


@task(skip_on_upstream_skip=False)
def report(reminded: Sequence[str | None]) -> str:
    """Return what was done; those who needed no reminder are None."""
    names = [user for user in reminded if user is not None]
    return f"reminded {', '.join(names) or 'no one'}; {len(reminded) - len(names)} had written already"


@task(max_retries=3, retry_delay=timedelta(seconds=0.1))
def post_standup(updates: dict[str, str], chat_url: str, token: str, channel: str) -> None:
    """Post all updates to the channel."""
    text = "\n".join(f"{user}: {update}" for user, update in updates.items())
    call(f"{chat_url}/messages", token, {"to": f"#{channel}", "text": text})


at_half_past_eight = CronSchedule("30 8 * * 1-5", timezone="America/New_York")
at_nine = CronSchedule("0 9 * * 1-5", timezone="America/New_York")

with Flow("standup reminders", schedule=at_half_past_eight, on_failure=tell_the_owner) as reminders:
    chat_url = Parameter("chat_url")
    standup_channel = Parameter("standup_channel", default="standup")
    token = Secret(TOKEN)
    updates = get_latest_updates(chat_url, token)
    needed = is_reminder_needed.map(get_team(chat_url, token), unmapped(updates))
    result = send_reminder.map(needed, unmapped(chat_url), unmapped(token), unmapped(standup_channel))
    final = report(result)

reminders.set_reference_tasks([result])

with Flow("post standup", schedule=at_nine, on_failure=tell_the_owner) as standup:
    chat_url = Parameter("chat_url")
    token = Secret(TOKEN)
    posted = post_standup(
        get_latest_updates(chat_url, token), chat_url, token, Parameter("standup_channel", default="standup")
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both flows against a chat server of their own; return the exit code."""
    options = parse_arguments(arguments)
    updates = {"Ada": "wrote the loom's program", "Grace": "found a moth"}
    chat = ChatServer("sesame", updates, silent=["Edsger", "Barbara"], gone=["Alan"] if options.someone_left else [])
    chat.hiccups = 1  # the first message is answered by "too busy", and sent again
    with chat.serving():
        try:
            states = run(chat, options)
        except PrefectishError as error:
            print(f"standup: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            return 130
        for to, text in chat.messages:
            print(f"to {to}: {text}")
    for flow, state in zip((reminders, standup), states, strict=True):
        print(f"{flow.name}: {type(state).__name__}. {state.message}")
    print(states[0].result[final].result)
    return max(state.exit_code for state in states)


def run(chat: ChatServer, options: argparse.Namespace) -> list[State]:
    """Run both flows, once and one after the other, or both on their schedules, side by side."""
    name, arguments = EXECUTORS[options.executor]
    executor = getattr(import_module("prefectish.executors"), name)(**arguments)
    given: dict[str, Any] = {"chat_url": chat.url, "executor": executor, "context": {"secrets": {TOKEN: chat.token}}}
    if not options.on_schedule:
        return [flow.run(run_on_schedule=False, **given) for flow in (reminders, standup)]
    for flow in (reminders, standup):
        assert flow.schedule is not None
        print(f"{flow.name}: next at {', '.join(str(moment) for moment in flow.schedule.next(2))}")
    states: dict[str, State] = {}
    first = threading.Thread(target=lambda: states.update(first=reminders.run(**given)), daemon=True)
    first.start()
    states["second"] = standup.run(**given)
    first.join()
    return [states["first"], states["second"]]


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m prefectish.examples.standup", description=__doc__.split("\n")[0])
    parser.add_argument("--executor", choices=EXECUTORS, default="local", help="where the tasks run (default: local)")
    parser.add_argument("--on-schedule", action="store_true", help="wait for 8:30 and 9:00 in New York, until Ctrl-C")
    parser.add_argument("--someone-left", action="store_true", help="let a reminder fail, and the flow with it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
