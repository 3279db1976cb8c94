"""Where a run went on last time: the KV store, artifacts, and the run's own facts."""

import prefect
from prefect import Flow, task
from prefect.backend import get_key_value, set_key_value
from prefect.backend.artifacts import create_link_artifact, create_markdown_artifact
from prefect.engine.results import PrefectResult

set_key_value("last-of-kv", 1)


@task
def get_last_execution_timestamp():
    return get_key_value("last-of-kv")


@task
def run_etl(start):
    create_markdown_artifact(f"# from {start}")
    create_link_artifact("https://example.org")
    return start + 1


@task(result=PrefectResult())
def set_last(now):
    return set_key_value(key="last-of-kv", value=now)


@task
def facts():
    names = ["flow_name", "flow_run_id", "task_name", "task_full_name", "today", "scheduled_start_time"]
    return [name for name in names if prefect.context.get(name)]


with Flow("kv") as flow:
    start = get_last_execution_timestamp()
    now = run_etl(start)
    set_last(now)
    known = facts()


def check(state):
    assert state.is_successful(), state
    assert state.result[now].result == state.result[start].result + 1
    assert len(state.result[known].result) == 6
