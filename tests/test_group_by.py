"""Groups of the results of a map, on every executor."""

from __future__ import annotations

import pytest
from bodies import give, inc, inverse

from prefectish import Flow, task
from prefectish.engine.state import Failed, TriggerFailed


def parity(x):
    return "odd" if x % 2 else "even"


@task
def summed(group):
    key, values = group
    return key, sum(values)


def test_groups_come_by_first_appearance_with_values_in_map_order(spelled):
    def program():
        groups = inc.map([2, 5, 1, 4, 0]).group_by(parity)
        return {"groups": groups, "sums": summed.map(groups)}

    states = spelled.states(program)
    assert states["groups"].result == [("odd", [3, 5, 1]), ("even", [6, 2])]
    assert states["sums"].result == [("odd", 9), ("even", 8)]


def test_key_may_be_a_task_and_a_map_may_be_empty(spelled_here):
    def program():
        return {"by": give.map([1, 2, 1]).group_by(give), "none": give.map([]).group_by(parity)}

    states = spelled_here.states(program)
    assert states["by"].result == [(1, [1, 1]), (2, [2])]
    assert states["none"].result == []


def test_failures_and_keys_without_hash(spelled_here):
    def program():
        return {"failed": inverse.map([1, 0]).group_by(parity), "lists": give.map([[1]]).group_by(list)}

    states = spelled_here.states(program)
    assert isinstance(states["failed"], TriggerFailed)
    assert isinstance(states["lists"], Failed)
    assert "group_by: the key of item 0 must be hashable, got a list" in str(states["lists"].message)


def test_what_cannot_be_grouped_is_refused():
    with Flow("groups"):
        with pytest.raises(TypeError, match="group_by: give is not mapped"):
            give(1).group_by(parity)
        with pytest.raises(TypeError, match="key must be a function of a result, or a task, got 3"):
            give.map([1]).group_by(3)
