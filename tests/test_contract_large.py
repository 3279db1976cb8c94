"""The contract of every executor: large results, which may stay where they were made, are there for other attempts."""

from __future__ import annotations

import pytest
from bodies import state_names

from prefectish import Flow, context, task
from prefectish.engine import signals
from prefectish.engine.state import Retrying

#: More than what is sent with a record, and what a worker keeps to itself otherwise.
LARGE = 20_000


@task
def large(x):
    return str(x) * LARGE


def second_time(again):
    """Return a body that measures its input in its second attempt."""

    def body(text):
        if context.task_run_count < 2:
            return again()
        return text[0], len(text)

    return body


def fail():
    raise ValueError("once more")


def signal():
    raise signals.RETRY("once more")


AGAIN = {
    "failure": (fail, {"max_retries": 1, "retry_delay": 0}),
    "signal": (signal, {}),
    "state": (lambda: Retrying("once more"), {}),
}


@pytest.mark.parametrize("options", [{}, {"batch_size": 2}, {"max_concurrency": 1}], ids=["plain", "batch", "limit"])
@pytest.mark.parametrize("kind", AGAIN)
def test_further_attempt_reads_large_results_of_its_branch(spelled, kind, options):
    again, retries = AGAIN[kind]

    def program():
        texts = large.map([1, 2])
        tried = task(second_time(again), name="tried", **retries, **options)
        return {"each": tried.map(texts), "once": spelled.call(tried, spelled.call(large, 3))}

    states = spelled.states(program)
    assert (states["each"].result, states["once"].result) == ([("1", LARGE), ("2", LARGE)], ("3", LARGE))


def test_further_attempt_reads_large_results_that_others_read_too(spelled):
    def program():
        texts = large.map([1, 2])
        tried = task(second_time(fail), name="tried", max_retries=1, retry_delay=0)
        return {"each": tried.map(texts), "all": spelled.call(task(lambda xs: [len(x) for x in xs], name="all"), texts)}

    states = spelled.states(program)
    assert (states["each"].result, states["all"].result) == ([("1", LARGE), ("2", LARGE)], [LARGE, LARGE])


def test_further_attempt_at_the_end_of_a_branch_reads_two_large_results_of_it(run):
    with Flow("branch") as built:
        first = large.map([1, 2])
        second = task(lambda x: 2 * x, name="second").map(first)

        @task(max_retries=2, retry_delay=0)
        def both(a, b):
            if context.task_run_count < 3:
                raise ValueError("once more")
            return len(a), len(b)

        last = task(lambda pair: sum(pair), name="last").map(both.map(first, second))
    state = run(built)
    assert state_names(state.result[last]) == ["Success"] * 2
    assert state.result[last].result == [3 * LARGE] * 2
