"""A resource manager: set up, used by a block of tasks, cleaned up whatever happens."""

from prefect import Flow, Parameter, resource_manager, task


@resource_manager
class Connection:
    def __init__(self, name):
        self.name = name

    def setup(self):
        return f"connection to {self.name}"

    def cleanup(self, connection):
        assert connection == f"connection to {self.name}"


@task
def query(connection, what):
    return f"{what} by {connection}"


@task
def breaks(connection):
    raise ValueError("broken")


with Flow("resources") as flow:
    name = Parameter("name", default="db")
    with Connection(name) as connection:
        answer = query(connection, "rows")
    with Connection("other") as other:
        broken = breaks(other)

flow.set_reference_tasks([answer])


def check(state):
    assert state.is_successful()
    assert state.result[answer].result == "rows by connection to db"
    assert state.result[broken].is_failed()
    cleanups = [s for t, s in state.result.items() if "cleanup" in t.name]
    assert len(cleanups) == 2
    assert all(s.is_successful() for s in cleanups)
