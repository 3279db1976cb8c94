"""Checks of data: apply_map, switch, operators, and items of results."""

from prefect import Flow, Parameter, apply_map, case, task, unmapped
from prefect.tasks.control_flow import merge, switch


@task
def rows():
    return [{"id": 1, "n": 4}, {"id": 2, "n": -1}, {"id": 3, "n": 10}]


@task
def size(row, limit):
    return "bad" if row["n"] < 0 else "large" if row["n"] >= limit else "small"


@task
def keep(row):
    return row["id"]


@task
def mend(row):
    return -row["id"]


def clean(row, limit):
    kind = size(row, limit)
    with case(kind, "bad"):
        mended = mend(row)
    with case(kind, "small"):
        kept = keep(row)
    with case(kind, "large"):
        large = keep(row)
    return merge(mended, kept, large)


@task
def a():
    return "A"


@task
def b():
    return "B"


with Flow("quality") as flow:
    limit = Parameter("limit", default=10)
    found = rows()
    cleaned = apply_map(clean, found, limit=unmapped(limit))
    first = found[0]["n"] * 2 + limit
    is_large = (first > 15) & (limit >= 1)
    branch_a, branch_b = a(), b()
    switch(limit, {10: branch_a, 20: branch_b})
    chosen = merge(branch_a, branch_b)


def check(state):
    assert state.is_successful(), state
    assert state.result[cleaned].result == [1, -2, 3]
    assert state.result[first].result == 18
    assert state.result[is_large].result is True
    assert state.result[chosen].result == "A"
