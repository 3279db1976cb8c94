"""Classes of tasks with defaults, bound without a copy, in an imperative flow; tags, unpacking and pipes."""

from datetime import timedelta

from prefect import Flow, Parameter, Task, tags, task
from prefect.core import Edge
from prefect.tasks.core.operators import GetAttr, GetItem
from prefect.utilities.tasks import as_task, defaults_from_attrs


class Greet(Task):
    def __init__(self, greeting="hello", **kwargs):
        self.greeting = greeting
        super().__init__(name="greet", max_retries=1, retry_delay=timedelta(seconds=1), **kwargs)

    @defaults_from_attrs("greeting")
    def run(self, name, greeting=None):
        return f"{greeting} {name}"


class Point:
    def __init__(self, x):
        self.x = x


@task(nout=2)
def divide(a, b):
    return divmod(a, b)


@task
def plus(x, y=1):
    return x + y


@task
def point(x):
    return Point(x).__dict__["x"]


@task
def records():
    return {"a": [1, 2]}


@task
def complexes():
    return 1 + 2j


name = Parameter("name", default="ada")
greeting = Greet()
flow = Flow("custom tasks")
flow.set_dependencies(greeting, keyword_tasks={"name": name})

with flow:
    with tags("math"):
        quotient, rest = divide(17, 5)
    piped = plus(quotient).pipe(plus, y=rest)
    item = GetItem(name="item")(records(), "a")
    missing = GetItem(name="missing", default="none")(records(), "b")
    real = GetAttr(name="real")(complexes(), "imag")
    listed = as_task([point(1), 2])

assert Edge(name, greeting, key="name") in flow.edges
assert "divide" in {t.name for t in flow.get_tasks(tags=["math"])}
EXPECTED = {"greet": "hello ada", "item": [1, 2], "missing": "none", "real": 2.0, "List": [1, 2]}
