"""The contract of every executor, of calls in both spellings: what a body is given, and what it gives back."""

from __future__ import annotations

import pytest

from prefectish import flow, task, triggers
from prefectish.engine.state import Mapped, State, Success, TriggerFailed


def kinds(state: State) -> list[type[State]]:
    """Return the classes of the states of a map's children."""
    assert type(state) is Mapped, state
    return [type(child) for child in state.map_states]


# ---------------------------------------------------------------------- what a map waits for


@task
def fails_on_one(n):
    if n == 1:
        raise ValueError("one")
    return n


@task
def follow(n):
    return n


def two_failed(upstream):
    return sum(state.is_failed() for state in upstream.values()) == 2 and len(upstream) == 4


@task(trigger=two_failed)
def count_failed(n):
    return n


@task(trigger=triggers.any_successful)
def one_is_enough(n):
    return n


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1, 0, 0)], ids=str)
def test_f1_each_future_of_one_task_that_a_map_waits_for_counts(spelled, order):
    def program():
        waited = [spelled.call(fails_on_one, n) for n in order]
        return {"x": follow.map([7, 8], **spelled.waited(waited))}

    assert kinds(spelled.states(program)["x"]) == [TriggerFailed, TriggerFailed]


def test_f1_triggers_of_a_map_count_what_it_waits_for(spelled):
    def program():
        waited = [spelled.call(fails_on_one, n) for n in (1, 0, 1)]
        some = [spelled.call(fails_on_one, n) for n in (1, 0)]
        return {
            "two": count_failed.map([7, 8], **spelled.waited(waited)),
            "any": one_is_enough.map([7], **spelled.waited(some)),
        }

    found = spelled.states(program)
    assert kinds(found["two"]) == [Success, Success]
    assert kinds(found["any"]) == [Success]


@pytest.mark.parametrize("form", ["children", "nested", "set", "maps", "several maps"])
def test_f1_a_map_waits_for_futures_in_any_collection(executor, form):
    forms = {
        "children": lambda m, n: list(m),
        "nested": lambda m, n: [[m[1], [m[0]]]],
        "set": lambda m, n: [{m[1], m[0]}],
        "maps": lambda m, n: [m],
        "several maps": lambda m, n: [m, n],
    }

    def program():
        first, other = fails_on_one.map([1, 0]), fails_on_one.map([0, 2])
        waits = follow.map([7, 8], wait_for=forms[form](first, other))
        waits.wait()
        return kinds(waits.state)

    assert flow(program, executor=executor, history=False)() == [TriggerFailed, TriggerFailed]
