"""The contract of every executor: what waits for what. A branch waits for nobody but its own inputs.

Where several bodies run at once, one waits for a file that another leaves: with a barrier between them they never end.
"""

from __future__ import annotations

import pytest
from bodies import append
from real import until

from prefectish import Flow, context, flatten, task, unmapped
from prefectish.engine.state import Success

#: Seconds after which a body gives up, and its test fails.
LIMIT = 30


at_once = pytest.mark.parametrize("executor", ["threads", "processes", "dask"], indirect=True)
one_by_one = pytest.mark.parametrize("executor", ["local", "synchronous"], indirect=True)


@task
def give(x):
    return x


@task
def leave(path, x):
    path.touch()
    return x


@task
def wait_for(path, x=None):
    until(path.exists, LIMIT)
    return x


@at_once
def test_sibling_continues_while_a_child_of_the_first_step_still_runs(run, tmp_path):
    there = tmp_path / "there"

    @task
    def first(x):
        if x == 0:
            until(there.exists, LIMIT)
        return x

    @task
    def second(x):
        if x == 1:
            there.touch()
        return x

    with Flow("siblings") as flow:
        a = first.map([0, 1])
        b = give.map(a)
        c = second.map(b)
    assert run(flow).result[c].result == [0, 1]


@at_once
def test_unrelated_branch_runs_from_end_to_end_meanwhile(run, tmp_path):
    there = tmp_path / "there"
    with Flow("unrelated") as flow:
        slow = wait_for(there, "slow")
        slow_map = give.map(upstream_tasks=[], x=[1, 2])
        quick = give.map([1, 2, 3])
        leave(there, quick)
        after = give([slow, slow_map])
    state = run(flow)
    assert state.is_successful()
    assert state.result[after].result == ["slow", [1, 2]]


@at_once
def test_map_waits_for_its_own_list_only(run, tmp_path):
    there = tmp_path / "there"
    with Flow("unrelated") as flow:
        slow = give.map(wait_for(there, [1, 2]))
        quick = give.map(give([3, 4]))
        leave(there, quick)
    assert run(flow).result[slow].result == [1, 2]


@at_once
def test_elements_of_one_item_start_before_another_item_is_done(run, tmp_path):
    there = tmp_path / "there"

    @task
    def pages(x):
        if x == 0:
            until(there.exists, LIMIT)
        return [x, x]

    with Flow("flatten") as flow:
        flat = leave.map(unmapped(there), flatten(pages.map([0, 1])))
    assert run(flow).result[flat].result == [0, 0, 1, 1]


def test_waiting_retry_does_not_delay_others(run, tmp_path):
    """Whatever the number of slots: those that wait hold none."""
    order = tmp_path / "order"

    @task(max_retries=1, retry_delay=0.5)
    def unsteady(x):
        append(order, x)
        if x < 8 and context.task_run_count == 1:
            raise ValueError
        return x

    with Flow("retries") as flow:
        out = give.map(unsteady.map(range(12)))
    assert run(flow).result[out].result == list(range(12))
    started = order.read_text().split()
    assert sorted(started[:12], key=int) == [str(x) for x in range(12)]
    assert sorted(started[12:], key=int) == [str(x) for x in range(8)]


def three_steps(path, number, **placements):
    """Return a flow that maps steps a, b and c one over the other, and c."""

    @task
    def step(name, x):
        append(path, f"{name} {x}")
        return x

    with Flow("depth") as flow:
        out = range(number)
        for name in "abc":
            out = step.copy(name=name, **placements.get(name, {})).map(unmapped(name), out)
    return flow, out


#: Each step in jobs of its own, so that depth first is not a matter of what a job does first.
APART = {"b": {"batch_size": 1}}


@one_by_one
@pytest.mark.parametrize("placements", [{}, APART], ids=["in one job", "in jobs of their own"])
def test_branches_are_finished_one_after_another_where_bodies_are(run, tmp_path, placements):
    flow, _ = three_steps(tmp_path / "order", 5, **placements)
    run(flow)
    assert (tmp_path / "order").read_text().splitlines() == [f"{name} {x}" for x in range(5) for name in "abc"]


def test_last_step_starts_before_a_twentieth_of_the_first_is_begun(run, tmp_path):
    flow, out = three_steps(tmp_path / "order", 400)
    assert run(flow).result[out].result == list(range(400))
    order = (tmp_path / "order").read_text().splitlines()
    assert len(order) == 1200
    before = order[: next(n for n, line in enumerate(order) if line.startswith("c"))]
    assert sum(line.startswith("a") for line in before) <= 20


def test_fan_in_of_a_thousand_children_keeps_their_order(run):
    with Flow("fan-in") as flow:
        out = give(give.map(range(1000)))
    assert run(flow).result[out] == Success(None, list(range(1000)))
