"""Secrets from the context, and values of the context in a body."""

import prefect
from prefect import Flow, task
from prefect.tasks.secrets import EnvVarSecret, PrefectSecret


@task
def length(secret):
    return len(secret)


@task
def items(secret):
    return sorted(secret)


@task
def facts():
    context = prefect.context
    return [context.flow_name, context["task_name"], context.get("nothing"), "map_index" in context]


with Flow("secrets") as flow:
    token = PrefectSecret("COMPAT_TOKEN")
    length(token)
    items(PrefectSecret("COMPAT_ACCOUNT"))
    missing = EnvVarSecret("COMPAT_NOTHING", name="missing")
    flow.add_task(missing)
    facts()

CONTEXT = {"secrets": {"COMPAT_TOKEN": "abc", "COMPAT_ACCOUNT": '{"user": 1, "key": 2}'}}
EXPECTED = {"length": 3, "items": ["key", "user"], "missing": None, "facts": ["secrets", "facts", None, True]}
