"""Maps: over lists, over what tasks return, with constants, nested, of unequal length, and reduced."""

from prefect import Flow, Parameter, Task, apply_map, flatten, mapped, task, unmapped


class AddTask(Task):
    def __init__(self, default=10, **kwargs):
        self.default = default
        super().__init__(**kwargs)

    def run(self, x, y=None):
        return x + (self.default if y is None else y)


@task
def numbers(n):
    return list(range(n))


@task
def nested(x):
    return [x] * x


@task
def total(values):
    return sum(values)


@task
def double(x):
    return 2 * x


def double_and_add(x, y):
    return AddTask(name="added")(double(x), y)


with Flow("mapping") as flow:
    n = Parameter("n", default=4)
    counted = numbers(n)
    added = AddTask(name="add").map(counted)
    shortest = AddTask(name="shortest").map(counted, y=[100, 200])
    constant = AddTask(name="constant").map(counted, unmapped(1))
    again = AddTask(name="again")(mapped(added), 5)
    flat = double.map(flatten(nested.map(counted)), task_args={"name": "flat"})
    pairs = apply_map(double_and_add, counted, y=unmapped(n))
    summed = total(flat)

EXPECTED = {
    "add": [10, 11, 12, 13],
    "shortest": [100, 201],
    "constant": [1, 2, 3, 4],
    "again": [15, 16, 17, 18],
    "flat": [2, 4, 4, 6, 6, 6],
    "added": [4, 6, 8, 10],
    "total": 28,
}
