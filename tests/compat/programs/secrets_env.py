"""Secrets as tasks, from the environment, and in a body."""

import os

from prefect import Flow, task
from prefect.client import Secret
from prefect.tasks.secrets import EnvVarSecret, PrefectSecret

os.environ["DB_PORT"] = "5432"
OPTIONS = {"context": {"secrets": {"DB_PASSWORD": "hunter2"}}}


@task
def connect(password, port):
    return f"{len(password)}:{port}"


@task
def in_body():
    return len(Secret("DB_PASSWORD").get())


with Flow("secrets") as flow:
    port = EnvVarSecret("DB_PORT", cast=int)
    password = PrefectSecret("DB_PASSWORD")
    connected = connect(password, port)
    inside = in_body()


def check(state):
    assert state.is_successful(), state
    assert state.result[connected].result == "7:5432"
    assert state.result[inside].result == 7
