"""Maps over children of maps that have not ended, alone, in lists, and nested, on every executor."""

from __future__ import annotations

import pytest
from bodies import add, inc, take, total
from real import note, notes, spend

from prefectish import as_completed, flatten, flow, task


@task
def numbers(n):
    spend(0.02)
    return list(range(n))


def ragged():
    return [one.result() for one in [inc.map(child) for child in numbers.map([3, 0, 2])]]


def each_twice():
    children = numbers.map([2, 2])
    return [one.result() for one in [add.map(child, children[0]) for child in children]]


def in_lists():
    children = numbers.map([3, 0, 2])
    pairs = take.map([[child, {"first": children[0]}] for child in children[1:]])
    return total.map(list(children)).result(), total.map(children[1:]).result(), pairs.result()


def maps_of_maps():
    inner = [inc.map(child) for child in numbers.map([2, 3])]
    return total.map(inner).result(), total.submit(inner[0]).result()


def flattened():
    children = numbers.map([2, 3])
    return inc.map(flatten([children[0], children[1]])).result(), inc.map(flatten(children)).result()


def three_deep():
    outer = take.map([[[1, 2], [3]], [[4]]])
    middle = [take.map(child) for child in outer]
    return [[one.result() for one in row] for row in [[inc.map(child) for child in map_] for map_ in middle]]


def as_they_end():
    sums = [total.submit(child) for child in numbers.map([2, 3])]
    return sorted(future.result() for future in as_completed(sums))


def mixed():
    children = inc.map(numbers.submit(3))
    return inc.map(children[:2]).result(), inc.map([children[2], 5, inc.submit(1)]).result()


EXPECTED = {
    ragged: [[1, 2, 3], [], [1, 2]],
    each_twice: [[0, 2], [0, 2]],
    in_lists: ([3, 0, 1], [0, 1], [[[], {"first": [0, 1, 2]}], [[0, 1], {"first": [0, 1, 2]}]]),
    maps_of_maps: ([3, 6], 3),
    flattened: ([1, 2, 1, 2, 3], [1, 2, 1, 2, 3]),
    three_deep: [[[2, 3], [4]], [[5]]],
    as_they_end: [1, 3],
    mixed: ([2, 3], [4, 6, 3]),
}


@pytest.mark.parametrize("shape", EXPECTED, ids=lambda function: function.__name__)
def test_maps_over_children_that_have_not_ended(executor, shape):
    assert flow(shape, executor=executor, history=False)() == EXPECTED[shape]


def test_call_without_arguments_is_found_in_the_cache_of_this_process(executor, tmp_path):
    @task(cache_for=3600, name=f"without arguments on {executor!r}")
    def alone(path=tmp_path / "bodies"):
        note(path, "x")
        return [1, 2]

    @flow(executor=executor, history=False)
    def called():
        return alone.submit().result()

    assert [called(), called()] == [[1, 2], [1, 2]]
    assert notes(tmp_path / "bodies") == ["x"]
