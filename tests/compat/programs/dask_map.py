"""Map and reduce on an executor of Dask: names, tags of resources, and a reduction at the end."""

from prefect import Flow, tags, task
from prefect.executors import DaskExecutor, LocalDaskExecutor

DASK = DaskExecutor(cluster_kwargs={"n_workers": 1, "threads_per_worker": 2}, adapt_kwargs={"maximum": 1})


@task
def numbers_task():
    return [1, 2, 3]


@task
def map_task(x):
    return x + 1


@task(tags=["dask-resource:GPU=0"])
def second(x, y):
    return x * y


@task
def reduce_task(x):
    return sum(x)


with Flow("map reduce", executor=LocalDaskExecutor(scheduler="threads", num_workers=2)) as flow:
    numbers = numbers_task()
    first_map = map_task.map(numbers)
    with tags("slow"):
        second_map = second.map(first_map, numbers)
    reduction = reduce_task(second_map)


def check(state):
    assert state.is_successful(), state
    assert state.result[reduction].result == 2 * 1 + 3 * 2 + 4 * 3
    assert "slow" in second_map.tags
