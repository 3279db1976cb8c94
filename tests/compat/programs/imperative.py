"""The imperative API: tasks of one's own, set_dependencies, bind, chain, and copies."""

from prefect import Flow, Parameter, Task
from prefect.core.edge import Edge


class RunMe(Task):
    def run(self):
        return ["I did something!"]


class PlusOneTask(Task):
    def __init__(self, amount=1, **kwargs):
        self.amount = amount
        super().__init__(**kwargs)

    def run(self, x):
        return x + self.amount


class Collect(Task):
    def run(self, first, second=0, **others):
        return first, second, sorted(others)


flow = Flow("My imperative flow!")
number = Parameter("number", default=1)
plus_one = PlusOneTask(name="plus one")
plus_two = PlusOneTask(2, name="plus two", tags=["two"])
collect = Collect()
done = RunMe()
plus_one.set_upstream(number, key="x", flow=flow)
flow.set_dependencies(task=plus_two, keyword_tasks={"x": plus_one}, upstream_tasks=[done])
collect.bind(plus_one, second=plus_two, third=5, flow=flow)
last = Task("last")
flow.chain(collect, last, Task("very last"))
flow.add_edge(done, last)
assert Edge(done, last) in flow.edges


def check(state):
    assert state.is_successful(), state
    assert state.result[collect].result == (2, 4, ["third"])
    assert len(flow.get_tasks(tags=["two"])) == 1
    assert [task.name for task in flow.sorted_tasks()][-1] == "very last"
