"""A resource manager around tasks, as in the documentation: created, set up, used, cleaned up."""

from tempfile import mkdtemp

import prefect
from prefect import Flow, Parameter, resource_manager, task

LOG = mkdtemp() + "/log"


def note(word):
    with open(LOG, "a") as file:
        file.write(word + "\n")


@resource_manager
class FakeCluster:
    def __init__(self, n_workers):
        self.n_workers = n_workers

    def setup(self):
        note("open")
        return {"workers": self.n_workers}

    def cleanup(self, cluster):
        note(f"close {cluster['workers']}")


@resource_manager(name="table", setup_task_kwargs={"log_stdout": True})
class Table:
    def setup(self):
        print("making a table")
        return "t"

    def cleanup(self, table):
        note(f"drop {table}")


@task
def load_data(cluster):
    return list(range(cluster["workers"]))


@task
def summarize(data, cluster, table):
    prefect.context.logger.info("%s of %s", table, cluster)
    return sum(data)


@task
def write_csv(total):
    note(f"total {total}")
    return total


with Flow("example") as flow:
    n_workers = Parameter("n_workers", default=4)
    with FakeCluster(n_workers=n_workers) as cluster:
        data = load_data(cluster)
        with Table() as table:
            total = summarize(data, cluster, table)
    written = write_csv(total)


def check(state):
    assert state.is_successful(), state
    assert state.result[written].result == 6
    with open(LOG) as file:
        lines = file.read().split("\n")[:-1]
    assert lines[0] == "open"
    assert sorted(lines[1:]) == ["close 4", "drop t", "total 6"]
