"""Secrets: of the context, of the environment, and read in a body."""

import os

from prefect import Flow, task
from prefect.client import Secret
from prefect.tasks.secrets import EnvVarSecret, PrefectSecret

os.environ["IDIOM_TOKEN"] = "from the environment"


@task
def length(key, token):
    return len(key), len(token)


@task
def read():
    return len(Secret("IDIOM_KEY").get())


with Flow("secrets") as flow:
    key = PrefectSecret("IDIOM_KEY")
    both = length(key, EnvVarSecret("IDIOM_TOKEN"))
    inside = read()

OPTIONS = {"context": {"secrets": {"IDIOM_KEY": "from the context"}}}


def check(state):
    assert state.is_successful(), state.result
    assert state.result[both].result == (16, 20)
    assert state.result[inside].result == 16
