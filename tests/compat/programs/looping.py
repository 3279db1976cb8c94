"""Looping over pages of an API, and Fibonacci numbers, as in the documentation of LOOP."""

import prefect
from prefect import Flow, Parameter, task
from prefect.engine.signals import LOOP

PAGES = {1: ["a", "b"], 2: ["c"], 3: []}


@task
def compute_large_fibonacci(M):
    loop_payload = prefect.context.get("task_loop_result", {})
    n = loop_payload.get("n", 1)
    fib = loop_payload.get("fib", 1)
    next_fib = fib + loop_payload.get("last", 0)
    if next_fib > M:
        return fib
    raise LOOP(message=f"Fib {n}={next_fib}", result=dict(n=n + 1, fib=next_fib, last=fib))


@task(log_stdout=True)
def all_pages():
    found = prefect.context.get("task_loop_result", [])
    page = prefect.context.get("task_loop_count", 1)
    if not PAGES[page]:
        return found
    print(f"page {page}")
    raise LOOP(result=found + PAGES[page])


@task
def count(x):
    if prefect.context.get("task_loop_count", 1) < x:
        raise LOOP(result=x)
    return prefect.context.get("task_loop_count", 1)


with Flow("fibonacci") as flow:
    M = Parameter("M", default=100)
    fib_num = compute_large_fibonacci(M)
    items = all_pages()
    counted = count.map([1, 3, 2])


def check(state):
    assert state.is_successful(), state
    assert state.result[fib_num].result == 89
    assert state.result[items].result == ["a", "b", "c"]
    assert state.result[counted].result == [1, 3, 2]
