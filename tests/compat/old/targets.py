"""Results that are found again: a target for a task, and a location with a field for each child."""

import tempfile

import prefect
from prefect import Flow, task
from prefect.engine.results import LocalResult
from prefect.engine.serializers import JSONSerializer

FOLDER = tempfile.mkdtemp()


@task(result=LocalResult(dir=FOLDER), target="{task_name}-{date:%Y}.prefect")
def numbers():
    return [1, 2, 3]


@task(result=LocalResult(dir=FOLDER, location="{map_index}.json", serializer=JSONSerializer()))
def square(x):
    return {"square": x * x}


@task
def where():
    return prefect.context.get("flow_name")


with Flow("targets", result=LocalResult(dir=FOLDER)) as flow:
    found = numbers()
    squares = square.map(found)
    name = where()

CONTEXT = {"checkpointing": True}
EXPECTED = {"numbers": [1, 2, 3], "square": [{"square": 1}, {"square": 4}, {"square": 9}], "where": "targets"}
