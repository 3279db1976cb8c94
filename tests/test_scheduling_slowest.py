"""The children that took longest, by values."""

from __future__ import annotations

from types import SimpleNamespace

from prefectish.engine.scheduling.slowest import as_report


def step(slug, mapped=True, order=None):
    map_state = SimpleNamespace(order=lambda: order) if mapped else None
    return SimpleNamespace(step=SimpleNamespace(slug=slug, mapped=mapped), map_state=map_state)


def test_children_are_named_and_the_slowest_comes_first():
    found = as_report([(1.0, 0, 2), (3.0, 0, 5), (2.0, 1, 0), (0.0, -1, -1)], [step("load-1"), step("total-1", False)])
    assert [tuple(child) for child in found] == [("load-1", 5, 3.0), ("total-1", None, 2.0), ("load-1", 2, 1.0)]


def test_child_that_ran_again_is_named_once_with_its_longest_attempt():
    assert [tuple(child) for child in as_report([(1.0, 0, 2), (3.0, 0, 2)], [step("load-1")])] == [("load-1", 2, 3.0)]


def test_child_of_a_flattened_map_has_its_map_index():
    (child,) = as_report([(1.0, 0, 0)], [step("load-1", order=[1, 0])])
    assert child.map_index == 1
