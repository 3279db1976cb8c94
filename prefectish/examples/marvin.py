"""Deploys the standup of :mod:`prefectish.examples.standup`, and runs it by an agent.

``python -m prefectish.examples.marvin`` registers the flow under the project "marvin", lets an agent run it by hand and
on its schedule, deploys a second version, which archives the first, and shows the message that the owner of the flow
gets when a run fails. It keeps a history of its own in a temporary folder, and a small chat server.

With ``--image python:3.12-slim --builder docker`` the flow runs in a container.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from prefectish import attach, deployments, history
from prefectish.environments import ContainerEnvironment, Environment, LocalEnvironment
from prefectish.environments.container import BUILDERS
from prefectish.examples.chat import ChatServer
from prefectish.examples.standup import TOKEN
from prefectish.examples.standup import standup as flow
from prefectish.registry import Deployment
from prefectish.registry.agent import Agent
from prefectish.schedules import IntervalSchedule
from prefectish.secrets.store import variable

PROJECT = "marvin"


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy the standup, and run it; return the exit code."""
    options = parse_arguments(arguments)
    updates = {"Ada": "wrote the loom's program", "Grace": "found a moth"}
    chat = ChatServer("sesame", updates, silent=[], gone=["#nowhere"])
    os.environ[variable(TOKEN)] = chat.token  # where the agent finds it; the database has its name only
    with tempfile.TemporaryDirectory(prefix="marvin-") as folder, chat.serving():
        store = os.path.join(folder, "history.db")
        exit_code = show(chat, environment_of(options), store)
        for to, text in chat.messages:
            print(f"to {to}: {text}")
    return exit_code


def show(chat: ChatServer, environment: Environment, store: str) -> int:
    """Deploy, run by hand, deploy again, run on a schedule, and fail."""
    first = flow.deploy(
        project_name=PROJECT,
        environment=environment,
        parameters={"chat_url": chat.url},
        store=store,
    )
    print(first, "next at", *first.next(2))
    runs = {"by hand": first.run()}
    Agent(store).start(once=True)

    second = flow.deploy(
        project_name=PROJECT,
        environment=environment,
        parameters={"chat_url": chat.url, "standup_channel": "engineering"},
        schedule=[flow.schedule, IntervalSchedule(timedelta(seconds=2))],  # the second one, so that we see it
        store=store,
    )
    for deployment in deployments(PROJECT, store, archived=True):
        print(deployment)
    runs["on schedule"] = wait_for_schedule(second, store)
    runs["that fails"] = second.run({"standup_channel": "nowhere"})
    Agent(store).start(once=True)
    for how, run_id in runs.items():
        state = attach(run_id, store).wait(timeout=60)
        row = history.run(run_id, store=store)
        print(f"{how}: {type(state).__name__}. {state.message} (version {row.deployment_version}, {row.trigger})")
    return 0


def wait_for_schedule(deployment: Deployment, store: str) -> str:
    """Let an agent begin the run that is due, and return its identifier."""
    agent = Agent(store)
    at_work = threading.Thread(target=agent.start)
    at_work.start()
    try:
        while True:
            found = [row for row in history.runs(limit=None, store=store) if row.trigger == "schedule" and row.ended]
            if found:
                return found[-1].id
            time.sleep(0.1)
    finally:
        deployment.set_active(False)
        agent.stop()
        at_work.join()


def environment_of(options: argparse.Namespace) -> Environment:
    """Return where the flow runs: in this interpreter, or in a container."""
    if options.image is None:
        return LocalEnvironment(secrets=[TOKEN])
    given: dict[str, Any] = {"secrets": [TOKEN], "builder": options.builder}
    return ContainerEnvironment(
        base_image=options.image,
        python_dependencies=options.package,
        env_vars={"STANDUP_TEAM": "engineering"},
        registry_url=options.registry_url,
        **given,
    )


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m prefectish.examples.marvin", description=__doc__.split("\n")[0])
    parser.add_argument("--image", help="base image of a container to run in (default: this interpreter)")
    parser.add_argument("--builder", choices=BUILDERS, default="docker", help="what builds and runs containers")
    parser.add_argument("--package", action="append", default=[], help="a Python package of the image")
    parser.add_argument("--registry-url", help="where the image is kept")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
