"""Extract, transform, load: the first tutorial, with retries and parameters."""

import json
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp

import prefect
from prefect import Flow, Parameter, task

FOLDER = Path(mkdtemp())
SOURCE = FOLDER / "values.csv"
SOURCE.write_text("1,2,3,4")


@task(max_retries=3, retry_delay=timedelta(seconds=0))
def extract(path):
    logger = prefect.context.get("logger")
    logger.info("attempt %s", prefect.context.get("task_run_count"))
    if prefect.context.get("task_run_count") < 2:
        raise OSError("not yet")
    with open(path) as f:
        return [int(text) for text in f.readline().strip().split(",")]


@task
def transform(data):
    return [i + 1 for i in data]


@task
def load(data, path):
    with open(path, "w") as f:
        json.dump(data, f)
    return len(data)


def build_flow():
    with Flow("my_etl") as flow:
        path = Parameter(name="path", required=True)
        data = extract(path)
        tdata = transform(data)
        load(tdata, str(FOLDER / "out.json"))
    return flow


flow = build_flow()
OPTIONS = {"parameters": {"path": str(SOURCE)}}

if __name__ == "__main__":
    flow.run(**OPTIONS)


def check(state):
    assert state.is_successful(), state
    assert json.loads((FOLDER / "out.json").read_text()) == [2, 3, 4, 5]
